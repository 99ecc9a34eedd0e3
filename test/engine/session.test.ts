import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { Secret } from '../../engine/secret.ts'
import { openVault, type Vault } from '../../engine/vault/client.ts'
import { openOwn } from '../../engine/vault/own.ts'
import { openSession, type Session } from '../../engine/vault/session.ts'
import { type FakeVault, startFakeVault } from '../fakes/vault.ts'
import { type TestWorld, testWorld } from '../fakes/world.ts'
import { until } from '../harness/process.ts'

const unavailable = expect.objectContaining({ name: 'BrokerError', code: 'unavailable' })
const approle = { mount: 'approle', roleId: 'role', secretId: async () => new Secret('secret-CANARY') }

let fake: FakeVault
let vault: Vault
let world: TestWorld
let session: Session | undefined
beforeEach(async () => {
  fake = await startFakeVault()
  vault = openVault({ address: fake.address, deadlineMs: 2000 })
  world = testWorld()
  // time of its timers is the test's; sockets keep theirs
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
})
afterEach(async () => {
  await session?.stop()
  vi.useRealTimers()
  await vault.close()
  await fake[Symbol.asyncDispose]()
  expect(world.lines.join('')).not.toContain('CANARY')
})

async function begin(life = 3600): Promise<Session> {
  fake.state.life = life
  session = await openSession(vault, approle, world)
  return session
}
const asked = (path: string) => fake.asked.filter(one => one.path.endsWith(path)).length
const elapse = (seconds: number) => {
  world.pass(seconds * 1000)
  return vi.advanceTimersByTimeAsync(seconds * 1000)
}
/** Waits in real time alone: `vi.waitFor` would move the timers on with every look. */
const soon = (what: string, holds: () => boolean) => until(what, async () => holds())
const logins = (count: number) => soon(`login ${count}`, () => asked('approle/login') === count)
const renewals = (count: number) => soon(`renewal ${count}`, () => asked('renew-self') === count)
/** failed logins that were logged: the next try is set by then */
const failures = (count: number) =>
  soon(`failure ${count}`, () => world.lines.filter(line => line.includes('could not log in')).length === count)
const replaced = (session: Session, before: string) => soon('another token', () => session.token().reveal() !== before)
const readiness = (session: Session, ready: boolean) => soon(`ready: ${ready}`, () => session.ready() === ready)
const holdsAToken = (session: Session) => soon('a token that lives', () => fake.state.tokens.has(session.token().reveal()))

describe('the own token', () => {
  test('is got from another server of Vault where the first that is asked is out of service', async () => {
    let sealed = 1
    fake.fault = () => (sealed-- > 0 ? { status: 503, body: { errors: ['Vault is sealed'] } } : undefined)
    await begin()
    expect(asked('approle/login')).toBe(2)
  })

  test('is there, or nothing starts', async () => {
    fake.state.approle = false
    const notLetIn =
      /^vault does not let this service in by AppRole \(400: .+\): wanted the mount \(auth\/approle\), the role id and/
    await expect(openSession(vault, approle, world)).rejects.toThrow(notLetIn)
    fake.fault = () => 'reset'
    await expect(openSession(vault, approle, world)).rejects.toEqual(unavailable)
    fake.fault = () => ({ status: 200, body: { auth: { client_token: '', lease_duration: 1 } } })
    await expect(openSession(vault, approle, world)).rejects.toEqual(unavailable)
  })

  test('is renewed at two thirds of its life, and stays the same', async () => {
    const session = await begin(3600)
    const before = session.token().reveal()
    await elapse(2399)
    expect(asked('renew-self')).toBe(0)
    await elapse(2)
    await renewals(1)
    expect(session.token().reveal()).toBe(before)
    expect(asked('approle/login')).toBe(1)
  })

  test('is replaced when a renewal gives less than half of a life', async () => {
    const session = await begin(3600)
    const before = session.token().reveal()
    fake.state.life = 1700
    await elapse(2401)
    await logins(2)
    await replaced(session, before)
    await holdsAToken(session)
  })

  test('is replaced when it cannot be renewed', async () => {
    const session = await begin(3600)
    fake.revoke(session.token().reveal())
    await elapse(2401)
    await logins(2)
    await holdsAToken(session)
    expect(session.ready()).toBe(true)
  })

  test.each([0, 86_400 * 365 * 10])('that lives for %d s makes no storm of renewals', async life => {
    await begin(life)
    await elapse(3600)
    expect(fake.asked.length).toBe(1)
    await elapse(86_400)
    await renewals(1)
  })

  test('is asked for again with growing pauses while Vault is down, and kept meanwhile', async () => {
    const session = await begin(3600)
    const before = session.token().reveal()
    fake.fault = () => ({ status: 503, body: { errors: ['Vault is sealed'] } })
    await elapse(2401)
    await logins(2)
    expect(session.token().reveal()).toBe(before)
    for (const [pause, count] of [
      [0.5, 3],
      [1, 4],
      [2, 5],
      [4, 6],
      [8, 7],
      [15, 8],
      [15, 9],
    ] as const) {
      await failures(count - 2)
      await elapse(pause - 0.1)
      expect(asked('approle/login')).toBe(count - 1)
      await elapse(0.1)
      await logins(count)
    }
    fake.fault = () => undefined
    await failures(8)
    await elapse(15)
    await replaced(session, before)
  })

  test('is gone when Vault refuses the AppRole, and comes back by itself when it does no longer', async () => {
    const session = await begin(3600)
    fake.revoke(session.token().reveal())
    fake.state.approle = false
    await elapse(2401)
    await readiness(session, false)
    expect(() => session.token()).toThrow('the broker is not logged in to vault')
    fake.state.approle = true
    await failures(1)
    // which of several faults it is, only Vault's words tell
    const said = '"status":400,"errors":["invalid role or secret ID"]'
    expect(world.lines.find(line => line.includes('could not log in'))).toContain(said)
    await elapse(0.5)
    await readiness(session, true)
    await holdsAToken(session)
  })

  test('is kept while it lives, although Vault refuses the AppRole when it is to be replaced', async () => {
    const session = await begin(3600)
    fake.state.life = 600
    fake.state.approle = false
    await elapse(2401)
    await failures(1)
    await holdsAToken(session)
    fake.revoke(session.token().reveal())
    expect(await session.replaced(session.token())).toBe(false)
    expect(session.ready()).toBe(false)
  })

  test('is revoked at the end, also one that was on its way', async () => {
    const session = await begin()
    const first = session.token().reveal()
    await elapse(10)
    fake.revoke(first)
    const lost = session.replaced(new Secret(first))
    await session.stop()
    await lost
    expect([...fake.state.tokens.values()].filter(token => token.path === 'auth/approle/login')).toEqual([])
    expect(session.ready()).toBe(false)
    const before = fake.asked.length
    await elapse(86_400)
    expect(fake.asked).toHaveLength(before)
  })
})

describe('a call in our own name that Vault refuses', () => {
  const open = async () => {
    const session = await begin()
    await elapse(10)
    return { session, own: openOwn(vault, session, world.log) }
  }

  test('because the token is gone: is made again with another one, each time that one is lost', async () => {
    const { session, own } = await open()
    for (const version of [1, 2, 3]) {
      fake.revoke(session.token().reveal())
      await expect(own.write('assay/data/x', { data: { value: 1 } })).resolves.toMatchObject({ data: { version } })
    }
    expect(asked('approle/login')).toBe(4)
  })

  test('because the token is gone, and there is no other: is unavailable, not forbidden', async () => {
    const { session, own } = await open()
    fake.revoke(session.token().reveal())
    fake.state.approle = false
    await expect(own.read('assay/data/x')).rejects.toEqual(unavailable)
    await expect(own.read('assay/data/x')).rejects.toEqual(unavailable)
    expect(session.ready()).toBe(false)
  })

  test('all who notice at the same time cost one login', async () => {
    const { session, own } = await open()
    fake.revoke(session.token().reveal())
    const calls = await Promise.allSettled(Array.from({ length: 50 }, () => own.list('assay/metadata/')))
    expect(calls.map(one => one.status)).toEqual(Array(50).fill('fulfilled'))
    expect(asked('approle/login')).toBe(2)
  })

  test('because a right is missing: is unavailable, and there is no loop of logins', async () => {
    const { own } = await open()
    fake.fault = ({ path }) =>
      path.startsWith('assay/') ? { status: 403, body: { errors: ['1 error occurred:\n\t* permission denied\n\n'] } } : undefined
    for (let index = 0; index < 20; index++) await expect(own.read('assay/data/x')).rejects.toEqual(unavailable)
    expect(asked('approle/login')).toBe(2)
    expect(world.lines.find(line => line.includes('vault refused the broker'))).toContain('"path":"assay/data/x"')
    await elapse(1.9)
    await expect(own.read('assay/data/x')).rejects.toEqual(unavailable)
    expect(asked('approle/login')).toBe(2)
    await elapse(0.2)
    await expect(own.read('assay/data/x')).rejects.toEqual(unavailable)
    expect(asked('approle/login')).toBe(3)
  })

  test.each([400, 405, 413])('with %d: is unavailable', async status => {
    const { own } = await open()
    fake.fault = () => ({ status, body: { errors: ['something else'] } })
    await expect(own.write('transit/sign/x', {})).rejects.toEqual(unavailable)
    expect(asked('approle/login')).toBe(1)
  })

  test('because nothing is there, a version does not match, or a token that was asked about is bad: is an answer', async () => {
    const { own } = await open()
    await expect(own.read('assay/data/x')).rejects.toMatchObject({ name: 'VaultRefusal', status: 404 })
    await expect(own.write('assay/data/x', { data: {}, options: { cas: 7 } })).rejects.toMatchObject({ status: 400 })
    await expect(own.write('auth/token/lookup', { token: 'hvs.none' })).rejects.toMatchObject({ status: 403 })
    expect(asked('approle/login')).toBe(1)
  })
})
