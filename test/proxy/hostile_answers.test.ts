import { createServer, type Socket } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { REAL } from '../fakes/sealing.ts'
import { bearer, openProxyWorld, type ProxyWorld } from './world.ts'

// What an upstream server may answer byte by byte. The agent hears something whole or a refusal, and the credential in no place that is not for it.

let world: ProxyWorld
let token: string
let answer: string
let server: ReturnType<typeof createServer>
const sockets = new Set<Socket>()
beforeAll(async () => {
  world = await openProxyWorld()
  token = await world.seal()
  server = createServer(socket => {
    sockets.add(socket.on('error', () => undefined))
    socket.once('data', () => socket.end(Buffer.from(answer, 'latin1')))
  })
  await new Promise(resolve => world.upstream.server.close(resolve))
  await new Promise<void>(resolve => server.listen(world.upstream.port, '127.0.0.1', resolve))
})
afterAll(async () => {
  for (const socket of sockets) socket.destroy()
  server.close()
  await world[Symbol.asyncDispose]()
})

const head = (...lines: readonly string[]) => ['HTTP/1.1 200 OK', 'Connection: close', ...lines, '', ''].join('\r\n')
const fine = `${head('Content-Length: 4')}fine`
const answers: readonly (readonly [string, string, string])[] = [
  ['early hints, which go nowhere', `HTTP/1.1 103 Early\r\nLink: <${REAL}>\r\n\r\n${fine}`, '200 fine'],
  ['a second answer that nobody asked for', `${fine}${head('Content-Length: 4')}evil`, '200 fine'],
  ['extensions of chunks', `${head('Transfer-Encoding: chunked')}4;x=${REAL}\r\nfine\r\n0\r\n\r\n`, '200 fine'],
  ['trailers', `${head('Transfer-Encoding: chunked')}4\r\nfine\r\n0\r\nX: ${REAL}\r\n\r\n`, '200 fine'],
  ['the credential as the name of a header', `${head(`${REAL}: a`, 'Content-Length: 4')}fine`, '200 fine'],
  ['a body where none may be', `HTTP/1.1 204 None\r\nConnection: close\r\n\r\n${REAL}`, '204 '],
  [
    'another protocol that nobody asked for',
    `HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n${REAL}`,
    '502 UPSTREAM',
  ],
  ['a length and chunks', `${head('Content-Length: 4', 'Transfer-Encoding: chunked')}0\r\n\r\n`, '502 UPSTREAM'],
  ['two lengths', `${head('Content-Length: 4', 'Content-Length: 5')}fine`, '502 UPSTREAM'],
  ['a length that is none', `${head('Content-Length: 4x')}fine`, '502 UPSTREAM'],
  ['a status below all', 'HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n', '502 UPSTREAM'],
  ['a control character in a header', `${head('X: a\x01b', 'Content-Length: 4')}fine`, '502 UPSTREAM'],
  ['a line break in a header', `${head('X: a\rSet-Cookie: b', 'Content-Length: 4')}fine`, '502 UPSTREAM'],
  ['lines that end with LF alone', fine.replaceAll('\r', ''), '502 UPSTREAM'],
  ['a head without end', head(`X: ${'a'.repeat(70_000)}`), '502 UPSTREAM'],
  ['no HTTP', REAL, '502 UPSTREAM'],
]

test.each(answers)('%s', async (_, bytes, expected) => {
  answer = bytes
  const { status, code, text, headers } = await world.ask({ headers: bearer(token) })
  expect(`${status} ${code || text}`).toBe(expected)
  expect(JSON.stringify(headers).toLowerCase()).not.toContain(REAL.toLowerCase())
})

test('none of them was unexpected', () => expect(world.logged.filter(line => line.includes('unexpectedly'))).toEqual([]))
