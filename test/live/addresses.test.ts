import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { request } from 'node:http'
import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import type { Attester } from '../../agent/attester.ts'
import { until } from '../harness/process.ts'
import type { Swtpm } from '../harness/swtpm.ts'
import type { Reply } from '../harness/vault.ts'
import { type Here, serveHere } from './in_process.ts'
import {
  configureAuth,
  done,
  enrol,
  MEASURED,
  machine,
  measure,
  openWorld,
  serviceOf,
  type World,
  withheldLogin,
} from './world.ts'

// Tokens that are bound to addresses, at Vault itself and through the front door: what counts is where the client is. All of 127.0.0.0/8 is
// this machine, so a client can come from any address of it.

const BOUND = '127.0.0.2'
const OTHER = '127.0.0.3'
const PROXY = '127.0.0.9'
/** nothing else comes from there: what was asked before may still be closing */
const CROWDED = '127.0.0.4'
/** from one address at the same time, at the second front door */
const CONNECTIONS = 16

let world: World
let behind: Here
let attester: Attester
let token: string
beforeAll(async () => {
  world = await openWorld({ tpms: [{}] })
  // a second front door, which trusts a proxy before it
  behind = await serveHere(world.vault, { listen: { trusted_proxies: [`${PROXY}/32`], connections_per_peer: CONNECTIONS } })
  await done(world.api('POST', 'sys/mounts/broker', { type: 'broker' }))
  await done(world.api('POST', 'broker/config', { actions: 'deploy' }))
  await done(world.api('POST', 'sys/mounts/kv', { type: 'kv' }))
  await done(world.api('POST', 'kv/config', { a: 'b' }))
  const policy = ['broker/*', 'kv/*', 'sys/mounts', 'sys/mounts/*'].map(
    path => `path "${path}" { capabilities = ["create", "read", "update"] }`,
  )
  await done(world.vault.api('PUT', 'sys/policies/acl/reader', { policy: policy.join('\n') }))
  await done(world.vault.api('POST', 'auth/token/roles/bound', { token_bound_cidrs: [`${BOUND}/32`] }))
  token = await bound()
  await until('the other front door to know the mount', async () => (await from(BOUND, PATHS.own, { at: behind })).status === 200)
})
afterAll(async () => {
  await attester?.close()
  await behind?.[Symbol.asyncDispose]()
  await world?.[Symbol.asyncDispose]()
})

const bound = async (options: object = {}) => {
  const reply = await world.vault.api('POST', 'auth/token/create/bound', { policies: ['reader'], ...options })
  return reply.body.auth.client_token as string
}

/** A path that is passed through, those of our own, and Vault's that we add to. */
const PATHS = {
  passed: 'kv/config',
  own: 'broker/config',
  merged: 'sys/mounts',
  'one of our mounts': 'sys/mounts/broker',
} as const

type Asked = {
  readonly at?: { readonly address: string }
  readonly as?: string
  readonly method?: string
  readonly body?: object
  readonly said?: string
}

/** One request from this address of the machine. */
function from(
  address: string,
  path: string,
  { at = world.door, as = token, method = 'GET', body, said }: Asked = {},
): Promise<Reply> {
  const headers = { ...(as ? { 'X-Vault-Token': as } : {}), ...(said === undefined ? {} : { 'X-Forwarded-For': said }) }
  return new Promise((resolve, reject) => {
    const asked = request(`${at.address}/v1/${path}`, { method, headers, localAddress: address, agent: false }, reply => {
      const chunks: Buffer[] = []
      reply.on('data', (chunk: Buffer) => chunks.push(chunk))
      reply.on('end', () => {
        const text = Buffer.concat(chunks).toString()
        resolve({ status: reply.statusCode ?? 0, body: text === '' ? undefined : JSON.parse(text) })
      })
    })
    asked.once('error', reject)
    asked.end(body && JSON.stringify(body))
  })
}

describe.each(Object.entries(PATHS))('%s', (_, path) => {
  test('lets a token in from an address that it is bound to, and from no other', async () => {
    expect(await from(BOUND, path)).toMatchObject({ status: 200 })
    expect(await from(OTHER, path)).toMatchObject({
      status: 403,
      body: { errors: [expect.stringContaining('permission denied') as string] },
    })
  })

  test('whatever a client says of its own address', async () => {
    expect(await from(OTHER, path, { said: BOUND })).toMatchObject({ status: 403 })
    expect(await from(OTHER, path, { said: `${BOUND}, ${BOUND}` })).toMatchObject({ status: 403 })
    expect(await from(BOUND, path, { said: OTHER })).toMatchObject({ status: 200 })
  })

  test('as a proxy that is trusted says it, and as nobody else does', async () => {
    const asked = (peer: string, said?: string) => from(peer, path, { at: behind, ...(said === undefined ? {} : { said }) })
    expect(await asked(PROXY, BOUND)).toMatchObject({ status: 200 })
    expect(await asked(PROXY, `${OTHER}, ${BOUND}`)).toMatchObject({ status: 200 })
    expect(await asked(PROXY, `${BOUND}, ${OTHER}`)).toMatchObject({ status: 403 })
    expect(await asked(PROXY)).toMatchObject({ status: 403 })
    expect(await asked(OTHER, BOUND)).toMatchObject({ status: 403 })
    expect(await asked(PROXY, 'somewhere')).toMatchObject({ status: 400 })
  })

  test('and takes a use of one that has few, and none where it is refused', async () => {
    const few = await bound({ num_uses: 2 })
    const statuses = []
    for (const address of [OTHER, BOUND, OTHER, BOUND, BOUND]) statuses.push((await from(address, path, { as: few })).status)
    expect(statuses).toEqual([403, 200, 403, 200, 403])
  })
})

test('requests with one token at the same moment, from here and from there, are answered apart', async () => {
  const asked = Array.from({ length: 40 }, (_, at) => (at % 2 === 0 ? BOUND : OTHER))
  const replies = await Promise.all(asked.map(address => from(address, PATHS.own)))
  expect(replies.map(({ status }) => status)).toEqual(asked.map(address => (address === BOUND ? 200 : 403)))
})

test('a mount is made, written to and removed from where the token may be', async () => {
  const asked = (address: string, method: string, path: string, body?: object) =>
    from(address, path, { method, ...(body ? { body } : {}) }).then(({ status }) => status)
  expect(await asked(OTHER, 'POST', 'sys/mounts/mine', { type: 'broker' })).toBe(403)
  expect(await asked(BOUND, 'POST', 'sys/mounts/mine', { type: 'broker' })).toBe(204)
  expect(await asked(OTHER, 'POST', 'broker/config', { actions: 'other' })).toBe(403)
  expect(await asked(BOUND, 'POST', 'broker/config', { actions: 'deploy' })).toBe(204)
})

test('where Vault’s listener was not told to believe the front door, it sees that alone, whoever asks', async () => {
  await using untold = await serveHere({ ...world.vault, doorAddress: world.vault.address })
  for (const path of [PATHS.passed, PATHS.own]) expect(await from(BOUND, path, { at: untold })).toMatchObject({ status: 403 })
})

test('a header that the configuration says Vault believes does not come from a client', async () => {
  await using strict = await serveHere(world.vault, { vault: { believed_headers: ['X-Vault-Wrap-TTL'] } })
  const isWrapped = async (address: string) => {
    const headers = { 'X-Vault-Token': world.vault.rootToken, 'x-vault-wrap-ttl': '60s' }
    const reply = await fetch(`${address}/v1/sys/policies/acl/default`, { headers })
    return ((await reply.json()) as { wrap_info: object | null }).wrap_info !== null
  }
  expect([await isWrapped(behind.address), await isWrapped(strict.address)]).toEqual([true, false])
})

test('as many connections come from one address as the configuration says', async () => {
  const { hostname: host, port } = new URL(behind.address)
  const connected = () => connect({ host, port: Number(port), localAddress: CROWDED }).resume()
  const within = Array.from({ length: CONNECTIONS }, connected)
  onTestFinished(() => {
    for (const socket of within) socket.destroy()
  })
  await Promise.all(within.map(socket => once(socket, 'connect')))
  await once(connected(), 'close')
  expect(within.filter(socket => socket.closed)).toEqual([])
})

test('Vault’s own audit log has the address of the client', async () => {
  const file = `${world.door.auditFile}.vault`
  await done(world.vault.api('POST', 'sys/audit/addresses', { type: 'file', options: { file_path: file } }))
  await from(BOUND, PATHS.passed)
  await from(BOUND, PATHS.own)
  const said = await until('both in the log', async () => {
    // what comes after the last end of a line may be half a record
    const lines = (await readFile(file, 'utf8').catch(() => '')).split('\n').slice(0, -1)
    const records = lines.map(line => JSON.parse(line) as { request: { path: string; remote_address: string } })
    const of = (path: string) => records.find(one => one.request.path === path)?.request.remote_address
    const both = [of('kv/config'), of('sys/capabilities-self')]
    return both.every(Boolean) ? both : undefined
  })
  expect(said).toEqual([BOUND, BOUND])
})

describe('a machine', () => {
  beforeAll(async () => {
    const tpm = world.tpms[0] as Swtpm
    await measure(tpm, MEASURED, 'good firmware')
    attester = await machine(tpm)
    await configureAuth(world, tpm, attester, { role: { token_bound_cidrs: `${BOUND}/32` } })
    await enrol(serviceOf(world.door.address), tpm, attester)
  })

  test('logs in from where its role may be, and its token stays there', async () => {
    const login = async (address: string) => {
      const { path, body } = await withheldLogin(serviceOf(world.door.address), attester)
      return from(address, path, { as: '', method: 'POST', body })
    }
    expect(await login(OTHER)).toMatchObject({ status: 403 })
    const { status, body } = await login(BOUND)
    expect(status).toBe(200)
    const as = body.auth.client_token as string
    expect((await from(BOUND, 'auth/token/lookup-self', { as })).status).toBe(200)
    expect((await from(OTHER, 'auth/token/lookup-self', { as })).status).toBe(403)
  })
})
