import { createServer } from 'node:http2'
import { duplexPair, Readable } from 'node:stream'
import { Client } from 'undici'
import { expect, test } from 'vitest'
import { resetGivenUp } from '../../proxy/egress/resets.ts'

/** A connection whose client hears in one piece what the server says from `hold` on, once `last` is there. */
function inOnePiece(last: string) {
  const [client, near] = duplexPair()
  const [far, server] = duplexPair()
  let held: Buffer | undefined
  near.pipe(far)
  far.on('data', (chunk: Buffer) => {
    if (held) held = Buffer.concat([held, chunk])
    if (held && !held.includes(last)) return
    near.write(held ?? chunk)
    held = undefined
  })
  const hold = () => {
    held = Buffer.alloc(0)
  }
  return { client, server, hold }
}

test('of an answer that comes at once, before the upload is out, nothing is lost', async () => {
  resetGivenUp()
  const sides = inOnePiece('all that it says')
  const server = createServer()
  server.on('stream', stream => {
    sides.hold()
    stream.on('error', () => undefined)
    stream.respond({ ':status': 413 })
    stream.end('all that it says')
  })
  server.emit('connection', sides.server)
  const socket = Object.assign(sides.client, { alpnProtocol: 'h2' })
  const client = new Client('https://api.test', { allowH2: true, connect: (_, hand) => hand(null, socket as never) })
  const body = new Readable({ read: () => undefined }).on('error', () => undefined)
  const answered = await client.request({ path: '/', method: 'POST', body })
  expect(await answered.body.text()).toBe('all that it says')
  sides.client.destroy()
})

const frame = (type: number, flags: number, id: number, body: readonly number[] = []) =>
  Buffer.from([0, 0, body.length, type, flags, 0, 0, 0, id, ...body])

const isHeadersOfFirst = (chunk: Buffer) =>
  chunk.includes(Buffer.from([1, 0x25, 0, 0, 0, 1])) || chunk.includes(Buffer.from([1, 5, 0, 0, 0, 1]))

test.each([0, 1, 2, 7, 8, 11, 255])('an answer without a length that the server resets with %d is no whole one', async code => {
  resetGivenUp()
  const [near, far] = duplexPair()
  far.write(frame(4, 0, 0))
  far.on('data', (chunk: Buffer) => {
    if (!isHeadersOfFirst(chunk)) return
    const head = frame(1, 4, 1, [0x88]) // :status 200
    far.write(Buffer.concat([head, frame(0, 0, 1, [104, 97, 108, 102]), frame(3, 0, 1, [0, 0, 0, code])]))
  })
  const socket = Object.assign(near, { alpnProtocol: 'h2' })
  const client = new Client('https://api.test', { allowH2: true, connect: (_, hand) => hand(null, socket as never) })
  const answered = await client.request({ path: '/', method: 'GET' }).then(
    ({ body }) => body.text().catch(() => 'broken'),
    () => 'broken',
  )
  expect(answered).toBe('broken')
  near.destroy()
})
