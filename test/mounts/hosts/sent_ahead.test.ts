import { expect, test } from 'vitest'
import { listenHttp, openDoor } from './doors.ts'
import { dial, requestText } from './wire.ts'

const large = Buffer.alloc(4 * 2 ** 20, 'x')

test('requests that are sent ahead take one place at Vault, and each its turn', async () => {
  const gate = Promise.withResolvers<void>()
  const [first, other] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const seen: string[] = []
  const url = await listenHttp((incoming, outgoing) => {
    seen.push(incoming.url ?? '')
    if (incoming.url === '/v1/0') first.resolve()
    if (incoming.url === '/v1/other') other.resolve()
    void gate.promise.then(() => outgoing.end(`answer to ${incoming.url}`))
  })
  const door = await openDoor({ upstream: { url } })
  const [ahead, line] = [await dial(door.url), await dial(door.url)]
  ahead.write([0, 1, 2, 3].map(at => requestText(`GET /v1/${at}`)).join(''))
  await first.promise
  line.write(requestText('GET /v1/other'))
  await other.promise
  expect(seen).toEqual(['/v1/0', '/v1/other'])
  gate.resolve()
  expect((await ahead.until('answer to /v1/3')).match(/answer to \S+\d/g)).toHaveLength(4)
  expect(seen).toEqual(['/v1/0', '/v1/other', '/v1/1', '/v1/2', '/v1/3'])
})

test('what was sent ahead by a client that has left holds no place at Vault', async () => {
  const asked = Promise.withResolvers<void>()
  const url = await listenHttp(({ url: path }, outgoing) => {
    if (path !== '/v1/small') asked.resolve()
    outgoing.end(path === '/v1/small' ? 'small' : large)
  })
  const passed: string[] = []
  const left = Promise.withResolvers<void>()
  const door = await openDoor({
    upstream: { url, connections: 3 },
    onPassThrough: ({ whole }) => {
      passed.push(String(whole))
      left.resolve()
    },
  })
  const [gone, line] = [await dial(door.url), await dial(door.url)]
  gone.socket.pause()
  gone.write([1, 2, 3].map(at => requestText(`GET /v1/${at}`)).join(''))
  await asked.promise
  gone.socket.destroy()
  await left.promise
  line.write(requestText('GET /v1/small'))
  await line.until('\r\n\r\nsmall')
  expect(passed).toEqual(['false', 'true'])
})

test('bodies that are sent ahead are read when it is their turn', async () => {
  const gates = [0, 1].map(() => Promise.withResolvers<Response>())
  const begun = gates.map(() => Promise.withResolvers<void>())
  const asked: string[] = []
  const door = await openDoor({
    own: request => {
      asked.push(new URL(request.url).pathname)
      begun[asked.length - 1]?.resolve()
      return gates[asked.length - 1]?.promise ?? new Response('later')
    },
  })
  const line = await dial(door.url)
  line.write(['a', 'b'].map(name => requestText(`POST /v1/own/${name}`, ['Content-Length: 2'], '{}')).join(''))
  await begun[0]?.promise
  expect(asked).toEqual(['/v1/own/a'])
  gates[0]?.resolve(new Response('first'))
  await begun[1]?.promise
  gates[1]?.resolve(new Response('second'))
  expect(await line.until('second')).toMatch(/first.*second/s)
})
