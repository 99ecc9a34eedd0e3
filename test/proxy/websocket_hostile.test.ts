import { createHash, randomBytes } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { connect } from 'node:tls'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { REAL } from '../fakes/sealing.ts'
import { until } from '../harness/process.ts'
import { bearer, openProxyWorld, type ProxyWorld } from './world.ts'

// What an upstream server may send once it has taken an upgrade. The proxy hands frames on and reads none: whoever reads them ends the connection, and nothing else ends.

let world: ProxyWorld
const peers = new Set<Duplex>()
beforeEach(async () => {
  world = await openProxyWorld({ service: { websocket: true } })
})
afterEach(async () => {
  for (const peer of peers) peer.destroy()
  await world[Symbol.asyncDispose]()
})

/** The server takes the upgrade, and does this with the connection. */
function taken(then: (socket: Duplex) => void, before: readonly string[] = []): void {
  world.upstream.server.on('upgrade', ({ headers }: IncomingMessage, socket: Duplex) => {
    peers.add(socket.on('error', () => undefined).resume())
    const key = `${headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`
    const accept = `Sec-WebSocket-Accept: ${createHash('sha1').update(key).digest('base64')}`
    const head = ['HTTP/1.1 101 Switching Protocols', 'Connection: Upgrade', 'Upgrade: websocket', accept, ...before]
    socket.write(`${head.join('\r\n')}\r\n\r\n`)
    then(socket)
  })
}

async function asked(): Promise<WebSocket> {
  const { host: _, port, ...own } = world.dial
  const headers = bearer(await world.seal())
  return new WebSocket(`wss://127.0.0.1:${port}${world.base}/live`, { ...own, headers, maxPayload: 2 ** 20 } as never)
}

/** How it ends at the agent: with the code of its library, and never by the end of the proxy. */
const ended = (socket: WebSocket) =>
  new Promise<string>(resolve => {
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
    socket.once('close', code => resolve(String(code)))
  })

const served = async () => {
  expect((await world.ask({ headers: bearer(await world.seal()) })).status).toBe(200)
}

const left = async () => [...peers].every(peer => peer.destroyed || peer.readableEnded)

const length64 = (bytes: bigint) => {
  const head = Buffer.from([0x82, 127, 0, 0, 0, 0, 0, 0, 0, 0])
  head.writeBigUInt64BE(bytes, 2)
  return head
}
const frames: readonly (readonly [string, Buffer, string])[] = [
  ['a reserved kind', Buffer.from([0x83, 0]), 'WS_ERR_INVALID_OPCODE'],
  ['reserved bits', Buffer.from([0xf2, 0]), 'WS_ERR_UNEXPECTED_RSV_2_3'],
  ['a mask, which servers have none of', Buffer.from([0x82, 0x81, 1, 2, 3, 4, 5]), 'WS_ERR_UNEXPECTED_MASK'],
  ['the middle of a message that has no beginning', Buffer.from([0x80, 1, 65]), 'WS_ERR_INVALID_OPCODE'],
  ['a ping in pieces', Buffer.from([0x09, 0]), 'WS_ERR_EXPECTED_FIN'],
  [
    'a ping that is too long',
    Buffer.concat([Buffer.from([0x89, 126, 1, 0]), Buffer.alloc(256)]),
    'WS_ERR_INVALID_CONTROL_PAYLOAD_LENGTH',
  ],
  ['an end of one byte', Buffer.from([0x88, 1, 3]), 'WS_ERR_INVALID_CONTROL_PAYLOAD_LENGTH'],
  ['text that is none', Buffer.from([0x81, 2, 0xc3, 0x28]), 'WS_ERR_INVALID_UTF8'],
  ['a message that is longer than anything', length64(2n ** 63n - 1n), 'WS_ERR_UNSUPPORTED_DATA_PAYLOAD_LENGTH'],
  ['a message that is longer than the agent takes', length64(2n ** 30n), 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH'],
]

test.each(frames)('%s', async (_, bytes, code) => {
  taken(socket => socket.write(bytes))
  const agent = await asked()
  expect(await ended(agent)).toBe(code)
  await served()
  agent.terminate()
  await until('the server to be left', left)
})

test('noise in pieces of all sizes', async () => {
  taken(socket => {
    for (const size of [1, 7, 4096, 70_000]) socket.write(Buffer.concat([Buffer.from([0xff]), randomBytes(size)]))
  })
  expect(await ended(await asked())).toMatch(/^WS_ERR_/)
  await served()
})

test('half a frame, and then the end', async () => {
  taken(socket => socket.end(Buffer.from([0x82, 126, 1])))
  expect(await ended(await asked())).toBe('1006')
  await served()
})

test('an upgrade that is taken twice, with extensions that nobody offered, is none', async () => {
  taken(() => undefined, ['Sec-WebSocket-Extensions: permessage-deflate'])
  expect(await ended(await asked())).toBe('Unexpected server response: 502')
  await until('the server to be left', left)
  expect(await world.records()).toContainEqual(expect.objectContaining({ code: 'UPSTREAM' }))
  await served()
})

test('what the head of an upgrade shows of the credential is masked', async () => {
  taken(() => undefined, [`X-Echo: Bearer ${REAL}`])
  const agent = await asked()
  const { headers } = await new Promise<IncomingMessage>((resolve, reject) =>
    agent.once('upgrade', resolve).once('error', reject),
  )
  expect(headers['x-echo']).toBe(`Bearer ${'*'.repeat(REAL.length)}`)
  agent.terminate()
})

test('what an agent sends with the head of its upgrade arrives behind it', async () => {
  let arrived = ''
  taken(socket => socket.on('data', chunk => (arrived += chunk)))
  const { Authorization: authorization } = bearer(await world.seal())
  const head = [
    `GET ${world.base}/live HTTP/1.1`,
    `Host: 127.0.0.1:${world.dial.port}`,
    'Connection: Upgrade',
    'Upgrade: websocket',
    `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}`,
    'Sec-WebSocket-Version: 13',
    `Authorization: ${authorization}`,
  ]
  const agent = connect(world.dial)
  peers.add(agent.on('error', () => undefined).resume())
  agent.write(`${head.join('\r\n')}\r\n\r\nsent ahead`)
  await until('it to arrive', async () => arrived === 'sent ahead')
})

test.each([
  ['no status', 'HTTP/1.1 xyz\r\n\r\n'],
  ['a header that is none', 'HTTP/1.1 101 Switching Protocols\r\nno header\r\n\r\n'],
  ['a head without end', `HTTP/1.1 101 Switching Protocols\r\nX: ${'a'.repeat(100_000)}`],
])('an answer to the upgrade that has %s', async (_, answer) => {
  world.upstream.server.on('upgrade', (_incoming: IncomingMessage, socket: Duplex) => {
    peers.add(socket.on('error', () => undefined))
    socket.write(answer)
  })
  expect(await ended(await asked())).toBe('Unexpected server response: 502')
  await served()
})

test('frames without end are held up by an agent that does not read, and nothing is piled up for it', async () => {
  const piece = Buffer.concat([length64(65_536n), Buffer.alloc(65_536)])
  let sent = 0
  const held = Promise.withResolvers<void>()
  taken(socket => {
    const more = () => {
      while (sent < 256 * 2 ** 20 && socket.write(piece)) sent += piece.length
      if (sent < 256 * 2 ** 20) held.resolve()
    }
    socket.on('drain', more)
    more()
  })
  const socket = await asked()
  await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject))
  socket.pause()
  await held.promise
  await served()
  let [before, still] = [-1, 0]
  await until('the server to be held up', async () => {
    still = sent === before ? still + 1 : 0
    before = sent
    return still > 50
  })
  expect(sent).toBeLessThan(64 * 2 ** 20)
  socket.terminate()
  await until('the server to be left', async () => [...peers].every(peer => peer.destroyed))
})
