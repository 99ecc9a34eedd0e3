import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Postgres, startPostgres } from '../harness/peers/postgres.ts'
import { provisioned } from '../harness/peers/provisioned.ts'
import { databaseEngine } from './database_engine.ts'
import { leaseWorld } from './lease_world.ts'
import { lines, type Seen, seen } from './sides.ts'
import { done } from './world.ts'

// A lease of Vault's database engine, which can be renewed, asked about straight and through the front door; and one of ours, through it:
// status, headers and the shape of the JSON are the same, and so is what the stock CLI prints.

const { live, root, creds } = leaseWorld({
  vaultArgs: async () => [`-dev-plugin-dir=${await provisioned('need_postgres_plugin', 'plugin_dir')}`],
})
let postgres: Postgres
beforeAll(async () => {
  postgres = await startPostgres()
  const write = (path: string, body: object) => done(live.world.vault.api('POST', path, body))
  await databaseEngine(write, postgres, { life: { default_ttl: '10m', max_ttl: '30m' } })
})
afterAll(() => postgres?.[Symbol.asyncDispose]())

/** Where is asked, and whose lease it is. */
const ways = () => {
  const database = async () => (await done(root('GET', 'database/creds/reader'))).lease_id as string
  const ours = async () => (await creds()).body.lease_id as string
  return [
    { at: live.world.vault.address, issue: database },
    { at: live.here.address, issue: database },
    { at: live.here.address, issue: ours },
  ]
}
type Way = ReturnType<typeof ways>[number]

/** The same in each of the ways, with a lease of its own; where it was issued is not compared. */
async function alike<T>(ask: (way: Way, lease: string) => Promise<T>): Promise<T> {
  const [straight, through, ours] = await Promise.all(ways().map(async way => ask(way, await way.issue())))
  expect(through).toEqual(straight)
  expect(ours).toEqual(straight)
  return straight as T
}

const folderOf = (lease: string) => lease.slice(0, -25)
const headers = () => ({ 'X-Vault-Token': live.world.vault.rootToken })
async function asked({ at }: Way, method: string, path: string, body?: object): Promise<Seen> {
  const sent = body ? { body: JSON.stringify(body) } : {}
  const reply = await seen(await fetch(`${at}/v1/sys/leases/${path}`, { method, headers: headers(), ...sent }))
  // Vault's listener adds it to what is Vault's: see docs/differences.md
  const { 'strict-transport-security': _, ...kept } = reply.headers
  return { ...reply, headers: kept }
}
const put = (way: Way, path: string, body: object) => asked(way, 'PUT', path, body)

test('is looked up, also once it was renewed, and no more when it was revoked', async () => {
  const said = await alike(async (way, lease_id) => [
    await put(way, 'lookup', { lease_id }),
    await put(way, 'renew', { lease_id, increment: '5m' }),
    await put(way, 'lookup', { lease_id }),
    await put(way, `renew/${lease_id}`, {}),
    await put(way, 'revoke', { lease_id, sync: true }),
    await put(way, 'lookup', { lease_id }),
    await put(way, 'renew', { lease_id }),
    await put(way, 'revoke', { lease_id, sync: true }),
  ])
  expect(said.map(({ status }) => status)).toEqual([200, 200, 200, 200, 204, 400, 400, 204])
})

test('is listed by the path that was asked, and revoked with all below it', async () => {
  const said = await alike((way, lease) => asked(way, 'LIST', `lookup/${folderOf(lease)}`))
  expect(said.status).toBe(200)
  for (const way of ways()) {
    const lease = await way.issue()
    expect((await put(way, `revoke-prefix/${folderOf(lease)}`, { sync: true })).status).toBe(204)
    expect((await put(way, 'lookup', { lease_id: lease })).status).toBe(400)
  }
})

test('is renewed as far as its mount and its role allow now, whatever they did when it was issued', async () => {
  const renewed = async (at: string, lease_id: string) => {
    const { status, body } = await root('PUT', 'sys/leases/renew', { lease_id, increment: '5m' })
    return [at, status, body.lease_duration === 300, (body.errors ?? body.warnings ?? []).map(worded)]
  }
  const tune = (mount: string, ttl: string) =>
    done(root('POST', `sys/mounts/${mount}/tune`, { default_lease_ttl: ttl, max_lease_ttl: ttl }))
  const told = async ({ issue }: Way, mount: string, role: string, narrow: object) => {
    const lease = await issue()
    await tune(mount, '2m')
    const tuned = await renewed('tuned', lease)
    await tune(mount, '0')
    const { data } = await done(root('GET', role))
    await done(root('POST', role, { ...data, ...narrow }))
    const narrowed = await renewed('narrowed', lease)
    await done(root('DELETE', role))
    const gone = await renewed('gone', lease)
    await done(root('POST', role, data))
    return [tuned, narrowed, gone, await renewed('again', lease)]
  }
  const [, through, ours] = ways()
  const said = await told(through as Way, 'database', 'database/roles/reader', { default_ttl: '1m', max_ttl: '2m' })
  expect(await told(ours as Way, 'broker', 'broker/role/leased', { ttl: '1m', max_ttl: '2m' })).toEqual(said)
  expect(said.map(([, status]) => status)).toEqual([200, 200, 400, 200])
})

/** What is left of a life, and Vault's way to tell from which of its parts an error came. */
const worded = (text: string) => text.replace(/(?<=max_ttl of ")\w+/, 'LEFT').replace(/^.*(?=error during)|"\w+"$/g, '')

/** What is left of the longest life is another for each, by the second in which is asked; and the CLI breaks a line where that is long. */
const leftUnsaid = (text: string) =>
  text.replaceAll(/(?<=max_ttl of "|lease_duration +)(?!5m\b)\w+/g, 'LEFT').replaceAll(/\n +(?=is|capped|accordingly)/g, ' ')

test('and by the stock CLI', async () => {
  const said = await alike(async ({ at }, lease) => {
    const ended: object[] = []
    for (const words of [['lookup'], ['renew', '-increment=5m'], ['renew', '-increment=2h'], ['revoke', '-sync'], ['lookup']]) {
      const { code, stdout, stderr } = await live.world.vault.cli(['lease', ...words, lease], { env: { VAULT_ADDR: at } })
      const place = (text: string) => lines(leftUnsaid(text.replaceAll(folderOf(lease), 'PLACE')))
      ended.push({ code, stdout: place(stdout), stderr: place(stderr) })
    }
    return ended
  })
  expect(said).toMatchObject([{ code: 0 }, { code: 0 }, { code: 0 }, { code: 0 }, { code: 2 }])
})
