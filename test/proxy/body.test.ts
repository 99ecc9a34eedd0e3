import type { IncomingMessage } from 'node:http'
import { expect, test } from 'vitest'
import { readBody } from '../../proxy/http/body.ts'
import { alive } from '../fakes/heap.ts'

test('of a body in the smallest of pieces its bytes are kept, and not the pieces', async () => {
  const whole = Buffer.alloc(10_000, 'abcdefghij')
  const pieces: WeakRef<Buffer>[] = []
  let kept = Number.NaN
  async function* iterator() {
    for (let at = 0; at < whole.length; at += 1) {
      const piece = whole.subarray(at, at + 1)
      pieces.push(new WeakRef(piece))
      yield piece
    }
    kept = await alive(pieces)
  }
  const incoming = { headers: { 'transfer-encoding': 'chunked' }, iterator } as unknown as IncomingMessage
  expect(await readBody(incoming, whole.length, () => {})).toEqual({ ok: true, value: whole })
  expect(pieces).toHaveLength(whole.length)
  expect(kept).toBeLessThan(10)
})

test.each([
  ['4', ['ab', 'cd'], 'OK'],
  ['5', [], 'BODY_TOO_LARGE'],
  [undefined, ['ab', 'cd'], 'OK'],
  [undefined, ['abc', 'de'], 'BODY_TOO_LARGE'],
  [undefined, ['abcde'], 'BODY_TOO_LARGE'],
])('a body that says it has %s bytes and comes as %j, of 4 at most: %s', async (length, pieces, code) => {
  const incoming = {
    headers: length === undefined ? {} : { 'content-length': length },
    iterator: async function* () {
      yield* pieces.map(piece => Buffer.from(piece))
    },
  } as unknown as IncomingMessage
  const read = await readBody(incoming, 4, () => {})
  expect(read.ok ? 'OK' : read.code).toBe(code)
})
