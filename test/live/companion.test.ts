import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { type Companion, openCompanion } from '../../agent/proxied/companion.ts'
import { surroundings } from '../../agent/proxied/environment.ts'
import { ownIdentity } from '../../agent/proxied/identity.ts'
import { REAL } from '../fakes/sealing.ts'
import { PATIENCE_MS } from '../harness/patience.ts'
import { type Postgres, startPostgres } from '../harness/peers/postgres.ts'
import { type Ran, run } from '../harness/process.ts'
import { openProxyWorld, type ProxyWorld } from '../proxy/world.ts'

// Programs as they are, through the companion of `assay agent exec --proxy` and the proxy, to real servers.

let world: ProxyWorld
let database: Postgres
let companion: Companion
let folder: string
let env: NodeJS.ProcessEnv
let token: string
let x5tS256: string
const said: string[] = []
beforeAll(async () => {
  database = await startPostgres()
  folder = await mkdtemp(join(tmpdir(), 'assay-co-'))
  world = await openProxyWorld({
    tls: true,
    host: 'api.test',
    intercept: true,
    service: { websocket: true },
    more: [
      {
        kind: 'postgres',
        name: 'orders',
        listen: { port: 0 },
        server: `127.0.0.1:${database.port}`,
        addresses: ['127.0.0.1'],
        tls: 'disable',
      },
    ],
  })
  const identity = await ownIdentity({ now: Date.now, random: randomBytes })
  x5tS256 = createHash('sha256').update(identity.certificate).digest('base64url')
  const proxy = { host: '127.0.0.1', name: 'proxy.test', port: world.port, ca: world.ca.ca, deadlineMs: PATIENCE_MS }
  companion = await openCompanion({
    proxy,
    identity,
    secret: randomBytes(24).toString('base64url'),
    postgres: { port: world.proxy.ports()['orders'] ?? 0, folder },
    say: line => void said.push(line),
  })
  const caFile = join(folder, 'ca.pem')
  await writeFile(caFile, world.ca.ca)
  const baseUrls = { API_BASE: `api.test:${world.upstream.port}/v1` }
  const door = 'http://127.0.0.1:8210'
  env = {
    PATH: process.env['PATH'],
    HOME: folder,
    ...surroundings({ companion, door, caFile, baseUrls, postgresFolder: folder }),
  }
  token = await world.seal({ x5tS256, destinations: [`https://api.test:${world.upstream.port}`] })
})
afterAll(async () => {
  await companion?.[Symbol.asyncDispose]()
  await world?.[Symbol.asyncDispose]()
  await database?.[Symbol.asyncDispose]()
  await rm(folder, { recursive: true, force: true })
})

const curl = (args: readonly string[], more: NodeJS.ProcessEnv = {}): Promise<Ran> =>
  run('curl', ['--silent', '--show-error', ...args], { env: { ...env, ...more } })
const place = () => `https://api.test:${world.upstream.port}`
const authorization = () => ['-H', `Authorization: Bearer ${token}`]
const lastSeen = () => {
  const seen = world.upstream.seen.at(-1)
  const at = seen?.rawHeaders.findIndex(name => name.toLowerCase() === 'authorization') ?? -1
  return { url: seen?.url, authorization: seen?.rawHeaders[at + 1], body: seen?.body.toString() }
}

describe('curl', () => {
  test('goes out over https_proxy with a sealed token, and the server sees the real one', async () => {
    const { code, stdout, stderr } = await curl([...authorization(), `${place()}/v1/items?all=1`])
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: 'fine', stderr: '' })
    expect(lastSeen()).toMatchObject({ url: '/v1/items?all=1', authorization: `Bearer ${REAL}` })
  })

  test('goes out by a base URL', async () => {
    const { stdout } = await curl(['--noproxy', '*', ...authorization(), '-d', 'hello', `${env['API_BASE']}/items`])
    expect(stdout).toBe('fine')
    expect(lastSeen()).toMatchObject({ url: '/v1/items', authorization: `Bearer ${REAL}`, body: 'hello' })
  })

  test('sends and takes a megabyte', async () => {
    const file = join(folder, 'large')
    await writeFile(file, randomBytes(2 ** 20))
    world.upstream.answer = (_, outgoing, body) => void outgoing.end(body)
    const { code } = await curl([...authorization(), '--data-binary', `@${file}`, '-o', `${file}.back`, `${place()}/echo`])
    world.upstream.answer = (_, outgoing) => void outgoing.end('fine')
    expect(code).toBe(0)
    expect((await run('cmp', [file, `${file}.back`])).code).toBe(0)
  })

  test('is refused where nothing is declared, by the proxy', async () => {
    const { code, stderr } = await curl([...authorization(), 'https://elsewhere.test/'])
    expect({ code, stderr }).toMatchObject({ code: 56, stderr: expect.stringContaining('403') as string })
  })
})

test('a WebSocket goes out by a base URL, with a sealed token', async () => {
  const peers = new WebSocketServer({ server: world.upstream.server as never })
  peers.on('connection', (peer, incoming) =>
    peer.on('message', () => peer.send(String(incoming.headers.authorization === `Bearer ${REAL}`))),
  )
  const headers = { Authorization: `Bearer ${token}` }
  const socket = new WebSocket(`${companion.baseUrl.replace('http', 'ws')}/api.test:${world.upstream.port}/live`, { headers })
  await once(socket, 'open')
  socket.send('is it I?')
  expect(String((await once(socket, 'message'))[0])).toBe('true')
  socket.terminate()
  peers.close()
})

describe('who does not know the secret of the companion', () => {
  const port = () => new URL(companion.proxyUrl).port

  test('opens no tunnel', async () => {
    const { code, stderr } = await curl(['--proxy', `http://assay:guessed@127.0.0.1:${port()}`, ...authorization(), place()])
    expect({ code, stderr }).toMatchObject({ code: 56, stderr: expect.stringContaining('407') as string })
  })

  test('asks nothing by a base URL', async () => {
    const guessed = `http://127.0.0.1:${port()}/guessed/_/api.test:${world.upstream.port}/v1`
    const { stdout } = await curl(['--noproxy', '*', '-w', '%{http_code}', ...authorization(), guessed])
    expect(stdout).toBe('403')
  })
})

test('psql finds the server by PGHOST, with the sealed token as its password', async () => {
  const fields = { username: database.user, password: database.password }
  const sealed = await world.seal({ x5tS256, fields, destinations: [`postgres://127.0.0.1:${database.port}/postgres`] })
  const own = { ...env, PGUSER: 'agent', PGDATABASE: 'postgres', PGPASSWORD: sealed }
  const { code, stdout, stderr } = await run('psql', ['--no-psqlrc', '--no-password', '-At', '-c', 'select current_user'], {
    env: own,
  })
  expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: `${database.user}\n`, stderr: '' })
})

test('a proxy that is gone is told in a line, and the command hears 502', async () => {
  const identity = await ownIdentity({ now: Date.now, random: randomBytes })
  await using lonely = await openCompanion({
    proxy: { host: '127.0.0.1', name: 'proxy.test', port: 1, ca: undefined, deadlineMs: PATIENCE_MS },
    identity,
    secret: 'of-this-test',
    say: line => void said.push(line),
  })
  const { code, stderr } = await curl(['--proxy', lonely.proxyUrl, 'https://api.test/'])
  expect({ code, stderr }).toMatchObject({ code: 56, stderr: expect.stringContaining('502') as string })
  expect(said.at(-1)).toContain('ECONNREFUSED')
})
