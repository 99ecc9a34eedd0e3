import type { ServerResponse } from 'node:http'
import { expect, test } from 'vitest'
import { until } from '../../harness/process.ts'
import { listenHttp, openDoor } from './doors.ts'
import { dial, requestText } from './wire.ts'

test('as many slow bodies as there may be connections of one address keep nobody else from Vault', async () => {
  const slow = 300
  let held = 0
  const all = Promise.withResolvers<void>()
  const url = await listenHttp(({ url: path, headers }, outgoing) => {
    if (path === '/v1/small') return void outgoing.end('small')
    held += Number(headers['content-length'] === '10')
    if (held === slow) all.resolve()
  })
  const door = await openDoor({ upstream: { url } })
  const lines = await Promise.all(Array.from({ length: slow }, () => dial(door.url)))
  for (const line of lines) line.write(requestText('POST /v1/slow', ['Content-Length: 10'], '{'))
  const line = await dial(door.url)
  const refused = Promise.race(lines.map(one => one.until('503')))
  await Promise.race([all.promise, refused])
  line.write(requestText('GET /v1/small'))
  expect(await line.until('\r\n\r\n')).toContain('200 OK')
})

test('a Vault that hangs takes three quarters of the connections that an address may have: what needs no Vault is answered, and Vault once it answers', async () => {
  const hanging: ServerResponse[] = []
  const all = Promise.withResolvers<void>()
  const url = await listenHttp((_, outgoing) => {
    if (hanging.push(outgoing) === 6) all.resolve()
  })
  const door = await openDoor({ upstream: { url }, limits: { connectionsPerPeer: 8 } })
  const waiting = await Promise.all(Array.from({ length: 6 }, () => dial(door.url)))
  for (const line of waiting) line.write(requestText('GET /v1/anything'))
  await all.promise
  const line = await dial(door.url)
  line.write(requestText('GET /v1/anything'))
  expect(await line.until('in some seconds')).toContain('503 Service Unavailable')
  const other = await dial(door.url)
  other.write(requestText('GET /v1/own/health'))
  expect(await other.until('\r\n\r\n')).toContain('200 OK')
  for (const outgoing of hanging) outgoing.end('late')
  for (const one of waiting) expect(await one.until('late')).toContain('200 OK')
  line.write(requestText('GET /v1/anything'))
  await until('Vault to be asked', async () => hanging.length === 7)
  hanging[6]?.end('in the end')
  expect(await line.until('in the end')).toContain('200 OK')
})
