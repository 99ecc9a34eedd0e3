import { expect, test } from 'vitest'
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
