import { request as httpRequest } from 'node:http'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Attester } from '../../agent/attester.ts'
import { type EnrolledWorld, openEnrolledWorld } from './enrolled_world.ts'
import { type Here, serveHere } from './in_process.ts'
import { ask, serviceOf, withheldLogin } from './world.ts'

// What needs a whole front door, or two, to be tried; the rest of the list is in test/attacks.ts.

let world: EnrolledWorld
let second: Here
let attester: Attester
beforeAll(async () => {
  world = await openEnrolledWorld({ broker: false })
  ;({ attester } = world)
  second = await serveHere(world.vault)
})
afterAll(async () => {
  await second?.[Symbol.asyncDispose]()
  await world?.[Symbol.asyncDispose]()
})

const enroll = (body: string, headers: Record<string, string> = {}) =>
  ask(world.door.address, 'POST', 'auth/tpm-quote/enroll', { body, headers })

test('the same answer to two front doors at the same instant, a hundred times: one of them takes it', async () => {
  for (let turn = 0; turn < 100; turn += 1) {
    const drawnBy = turn % 2 === 0 ? world.door.address : second.address
    const { path, body } = await withheldLogin(serviceOf(drawnBy), attester)
    const replies = await Promise.all([world.door.address, second.address].map(door => ask(door, 'POST', path, { body })))
    expect(replies.map(({ status }) => status).toSorted((one, other) => one - other)).toEqual([200, 403])
  }
})

describe('bodies that are made to be expensive', () => {
  const wide = `{${Array.from({ length: 60_000 }, (_, n) => `"m${n}":0`).join()}}`
  test.each([
    ['deep', `{"ek_public":${'['.repeat(10_000)}${']'.repeat(10_000)}}`],
    ['deep and not closed', '['.repeat(100_000)],
    ['wide', wide],
    ['a number that is none', '{"ek_public":1e309}'],
    ['half a surrogate', '{"ek_public":"\\ud800"}'],
    ['a name of the prototype', '{"__proto__":{"ek_public":"AAAA"}}'],
    ['no object', '[1]'],
  ])('JSON that is deep, wide or strange: %s', async (_, body) => {
    const { status, body: said } = await enroll(body)
    expect(status).toBe(400)
    expect(said).toEqual({ errors: [expect.any(String)] })
  })

  test('compressed evidence is not unpacked', async () => {
    const bomb = gzipSync(Buffer.alloc(50_000_000, 0x20))
    const { hostname, port } = new URL(world.door.address)
    const status = await new Promise((resolve, reject) => {
      const headers = { 'content-encoding': 'gzip', 'content-type': 'application/json', 'content-length': bomb.length }
      const sent = httpRequest({ hostname, port, method: 'POST', path: '/v1/auth/tpm-quote/enroll', headers }, reply => {
        reply.resume()
        resolve(reply.statusCode)
      })
      // of the rest of the upload, when it is refused before its end: then there was a reply
      sent.on('error', reject)
      sent.end(bomb)
    })
    expect(status).toBe(400)
  })
})
