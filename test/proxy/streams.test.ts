import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { connect as tlsConnect } from 'node:tls'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { freePort, until } from '../harness/process.ts'
import { newAuthority, type Pair } from '../mounts/hosts/certificates.ts'
import { ed25519 } from './ssh_parts.ts'
import { exchangeRaw, openProxyWorld, type ProxyWorld } from './world.ts'

// Ports of services that do not speak HTTP have the limit of connections that the others have, each for itself.

const MOST = 3
let world: ProxyWorld
const sockets = new Set<Socket>()
beforeAll(async () => {
  const common = { listen: { port: 0 }, server: '127.0.0.1:1', start_within_ms: 60_000 }
  world = await openProxyWorld({
    config: { limits: { connections: MOST } },
    more: [
      { ...common, kind: 'postgres', name: 'postgres' },
      { ...common, kind: 'ssh', name: 'ssh', host_keys: [ed25519().line] },
    ],
  })
})
afterEach(() => {
  for (const socket of sockets) socket.destroy()
})
afterAll(() => world[Symbol.asyncDispose]())

/** A connection that stays open and says nothing. */
function hold(name: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(world.proxy.ports()[name] ?? 0, '127.0.0.1', () => resolve(socket))
    sockets.add(socket)
    socket.once('error', reject)
  })
}

/** Whether another one is let in: then it is spoken to. */
const speaks: Readonly<Record<string, () => Promise<boolean>>> = {
  postgres: async () => {
    const socket = await hold('postgres')
    const answer = new Promise<boolean>(resolve => {
      socket.once('data', () => resolve(true))
      socket.once('close', () => resolve(false)).on('error', () => resolve(false))
    })
    socket.write(Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]))
    return answer.finally(() => socket.destroy())
  },
  ssh: () =>
    new Promise<boolean>(resolve => {
      const place = { host: '127.0.0.1', port: world.proxy.ports()['ssh'] ?? 0, ca: world.ca.ca, servername: 'proxy.test' }
      const socket = tlsConnect({ ...place, cert: world.agent.cert, key: world.agent.key })
      const tell = (is: boolean) => () => {
        resolve(is)
        socket.destroy()
      }
      socket.once('secureConnect', tell(true)).once('close', tell(false)).on('error', tell(false))
    }),
}

test.each(Object.entries(speaks))(
  '%s: no more connections than declared, and a place that is left is free',
  async (name, spoken) => {
    expect(await spoken()).toBe(true)
    await until('nobody to be there', async () => /assay_proxy_sessions 0\n/.test(await world.metrics.text()))
    const held = [await hold(name), await hold(name), await hold(name)]
    expect(await spoken()).toBe(false)
    expect(held.some(socket => socket.destroyed || socket.readableEnded)).toBe(false)
    held[0]?.destroy()
    await until('the place to be free', spoken)
  },
)

test('what cannot be taken over whole is not taken over at all, and a port goes from one service to the next', async () => {
  const { connectors } = await import('../../proxy/connectors/index.ts')
  await using small = await openProxyWorld()
  const stream = (name: string, port: number) =>
    connectors.postgres.schema.parse({ kind: 'postgres', name, listen: { port }, server: '127.0.0.1:1' })
  const web = (allow: string) =>
    connectors.http.schema.parse({
      kind: 'http',
      name: 'upstream',
      scheme: 'http',
      hosts: [`127.0.0.1:${small.upstream.port}`],
      addresses: ['127.0.0.1'],
      allow: [allow],
      inject: [{ header: { name: 'Authorization', value: 'Bearer {token}' } }],
    })
  await small.proxy.reload([web('/one'), stream('first', 0)])
  const { first = 0 } = small.proxy.ports()
  const asked = async (path: string) =>
    (await small.ask({ path: `${small.base}${path}`, headers: { Authorization: `Bearer ${await small.seal()}` } })).status
  // the port of agents is taken: nothing of this is served, not even what could be
  const taken = small.proxy.reload([web('/two'), stream('second', 0), stream('third', small.port)])
  await expect(taken).rejects.toThrow('the service third cannot listen')
  expect(small.proxy.ports()).toEqual({ first })
  expect([await asked('/one'), await asked('/two')]).toEqual([200, 403])
  const free = await freePort()
  await small.proxy.reload([web('/two'), stream('second', free)])
  await small.proxy.reload([web('/two'), stream('renamed', free)])
  expect(small.proxy.ports()).toEqual({ renamed: free })
  expect([await asked('/one'), await asked('/two')]).toEqual([403, 200])
})

/** The first that is said to who comes with this certificate, once it is let in; nothing to who is not. */
const greeted: Readonly<Record<string, (of: ProxyWorld, pair: Pair) => Promise<string>>> = {
  postgres: async (of, { cert, key }) => {
    const wire = connect(of.proxy.ports()['postgres'] ?? 0, '127.0.0.1')
    wire.write(Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]))
    await new Promise(resolve => wire.once('data', resolve))
    const socket = tlsConnect({ socket: wire, ca: of.ca.ca, cert, key, servername: 'proxy.test' })
    const startup = Buffer.from('\0\0\0\x2c\0\x03\0\0user\0a\0options\0-c assay.token=none\0\0', 'latin1')
    return exchangeRaw(socket, startup.toString('latin1'), text => text !== '').finally(() => socket.destroy())
  },
  ssh: async (of, { cert, key }) => {
    const place = { host: '127.0.0.1', port: of.proxy.ports()['ssh'] ?? 0, ca: of.ca.ca, servername: 'proxy.test' }
    const socket = tlsConnect({ ...place, cert, key })
    return exchangeRaw(socket, '\0\0\0\0\0', text => text !== '').finally(() => socket.destroy())
  },
}
const refused: Readonly<Record<string, string>> = { postgres: 'TOKEN', ssh: 'REQUEST_FORM' }

test.each(Object.keys(greeted))('%s: with an authority named, its agents are let in and others are not', async name => {
  const common = { listen: { port: 0 }, server: '127.0.0.1:1' }
  await using strict = await openProxyWorld({
    clientCa: true,
    more: [
      { ...common, kind: 'postgres', name: 'postgres' },
      { ...common, kind: 'ssh', name: 'ssh', host_keys: [ed25519().line] },
    ],
  })
  const stranger = await (await newAuthority('others')).issue('agent')
  expect(await greeted[name]?.(strict, strict.agent)).toContain(`${refused[name]}: `)
  expect(await greeted[name]?.(strict, stranger)).toBe('')
})

test('services that are taken over twice at the same time are taken over twice, and the last ones are served', async () => {
  const { connectors } = await import('../../proxy/connectors/index.ts')
  await using small = await openProxyWorld()
  const port = await freePort()
  const stream = (name: string) =>
    connectors.postgres.schema.parse({ kind: 'postgres', name, listen: { port }, server: '127.0.0.1:1' })
  await Promise.all([small.proxy.reload([stream('first')]), small.proxy.reload([stream('second')])])
  expect(small.proxy.ports()).toEqual({ second: port })
})

test.each(Object.keys(greeted))('%s: one certificate has no more connections than it may, at all ports together', async name => {
  const common = { listen: { port: 0 }, server: '127.0.0.1:1', start_within_ms: 60_000 }
  await using small = await openProxyWorld({
    config: { limits: { connections_per_agent: 1 } },
    more: [
      { ...common, kind: 'postgres', name: 'postgres' },
      { ...common, kind: 'ssh', name: 'ssh', host_keys: [ed25519().line] },
    ],
  })
  const holding = await small.connect()
  await exchangeRaw(holding, 'GET / HTTP/1.1\r\nHost: a\r\n\r\n', text => text.endsWith(']}'))
  expect(await greeted[name]?.(small, small.agent)).toContain('CONNECTIONS: ')
  expect(await greeted[name]?.(small, small.other)).toContain(`${refused[name]}: `)
  holding.destroy()
  await until(
    'the place to be free',
    async () => (await greeted[name]?.(small, small.agent))?.includes(`${refused[name]}: `) === true,
  )
})

describe('a proxy that is told to stop', () => {
  const service = { kind: 'postgres', name: 'postgres', listen: { port: 0 }, server: '127.0.0.1:1', start_within_ms: 60_000 }
  const opened = async (seconds: number) => {
    const small = await openProxyWorld({ config: { shutdown_seconds: seconds }, more: [service] })
    const socket = connect(small.proxy.ports()['postgres'] ?? 0, '127.0.0.1')
    sockets.add(socket)
    await once(socket, 'connect')
    await until('the session to be there', async () => /assay_proxy_sessions 1\n/.test(await small.metrics.text()))
    return { small, socket }
  }

  test('lets a session of another protocol go on until it ends, and takes no more', async () => {
    const { small, socket } = await opened(600)
    const port = small.proxy.ports()['postgres'] ?? 0
    const closing = small.proxy.close()
    expect(await once(connect(port, '127.0.0.1'), 'error')).toMatchObject([{ code: 'ECONNREFUSED' }])
    socket.write(Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]))
    expect(String((await once(socket, 'data'))[0])).toBe('S')
    socket.destroy()
    await closing
    await small[Symbol.asyncDispose]()
  })

  test('cuts it off when its time is over', async () => {
    const { small, socket } = await opened(0)
    const cut = once(socket, 'close')
    await Promise.all([small.proxy.close(), cut])
    await small[Symbol.asyncDispose]()
  })
})
