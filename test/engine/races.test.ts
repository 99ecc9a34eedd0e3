import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { BoundRequest } from '#attestation'
import { openChallenges } from '../../engine/attest/challenges.ts'
import { configure, enrol, evidence, logIn, openTestBroker, POLICY, refusalOf, type TestBroker } from '../fakes/broker.ts'
import { issue, living, openProcess, outside } from '../fakes/leases.ts'
import { fakeMachine, REFERENCE } from '../fakes/machine.ts'
import { testWorld } from '../fakes/world.ts'

// What happens to be done at the same instant: an attack that waits for its moment, or bad luck.

const request: BoundRequest = {
  operation: 'login',
  mount: 'auth/tpm-quote/',
  role: 'builder',
  audience: '',
  akName: Buffer.alloc(34, 1),
  keyThumbprint: '',
  plugin: '',
  action: '',
  scope: [],
}

test('two front doors that go on from one snapshot draw other nonces, of all that was drawn before', () => {
  const before: Buffer[] = []
  const world = testWorld()
  const first = openChallenges({ ...world, random: size => before[before.push(world.random(size)) - 1] ?? Buffer.alloc(0) })
  const kept = [...before]
  const second = openChallenges({ ...world, random: size => kept.shift() ?? world.random(size) })
  const drawn = Array.from({ length: 1000 }, () => [first.draw(request, 60), second.draw(request, 60)]).flat()
  expect(kept).toEqual([])
  // the same key signs both: it was drawn before the snapshot
  expect(second.take(first.draw(request, 60).challenge, request).ok).toBe(true)
  expect(new Set(drawn.map(({ nonce }) => nonce.toString('hex'))).size).toBe(2000)
})

test('a lease that is renewed and revoked at one instant, a thousand times, never lives on', async () => {
  const out = outside()
  const process = await openProcess(out)
  const turns = async (count: number) => {
    for (let turn = 0; turn < count; turn += 1) await Promise.resolve()
  }
  const ends = new Set<string>()
  // each pair of twelve beginnings, seven times
  for (let run = 0; run < 7 * 12 * 12; run += 1) {
    const { leaseId, credential } = await issue(process)
    const renewed = turns(run % 12)
      .then(() => process.leases.renew(leaseId, 1800))
      .then(
        () => 'renewed',
        (error: Error) => error.message,
      )
    const left = await turns(Math.floor(run / 12) % 12).then(() => process.leases.revoke(leaseId, { sync: true }))
    expect(left).toBe(0)
    expect(out.alive.get(credential)).toBe(false)
    ends.add(await renewed)
    await expect(process.leases.renew(leaseId, 1800)).rejects.toThrow('lease not found')
    expect(await process.leases.lookup(leaseId)).not.toMatchObject({ state: 'active' })
  }
  expect(living(out)).toBe(0)
  expect([...ends].every(end => ['renewed', 'lease not found', 'lease expired'].includes(end))).toBe(true)
  expect(ends.size).toBeGreaterThan(1)
})

describe('between the decision and what is issued', () => {
  const machine = fakeMachine({ label: 'enrolled' })
  let broker: TestBroker
  beforeEach(async () => {
    broker = await openTestBroker()
    await configure(broker)
    await enrol(broker, machine)
  })
  afterEach(() => broker[Symbol.asyncDispose]())

  const login = async (sent: object) => broker.ask('update', 'auth/tpm-quote/login', sent, { token: '' })
  const creds = (token: string) =>
    broker.ask('update', 'broker/creds/deploy', { plugin: 'kubernetes', scope: 'apps:read' }, { token })
  const refusal = (asked: Promise<unknown>) => refusalOf(broker, asked)
  /** Another replica wrote that the machine failed. */
  const markBad = () => {
    const path = `${broker.broker.mounts.find('auth/tpm-quote')?.id}/machine/${machine.tpmId}`
    const at = new Date(broker.world.now()).toISOString()
    const latch = { code: 'PCR_POLICY', detail: '', role: 'builder', at, evidence: '' }
    const version = (broker.vault.state.kv.get(path)?.version ?? 0) + 1
    const value = { epoch: 1, since: 1, boots: {}, incidents: [], sequence: 1, latch }
    broker.vault.state.kv.set(path, { version, value: { value } })
  }
  /** What is done when Vault is asked this for the first time, before it answers. */
  const when = (is: (asked: { method: string; path: string }) => boolean, meanwhile: () => void | Promise<void>) => {
    broker.vault.fault = asked => {
      if (!is(asked)) return undefined
      broker.vault.fault = () => undefined
      const done = meanwhile()
      return done ? { after: done } : undefined
    }
  }
  const signatures = () => broker.vault.asked.filter(({ path }) => path.includes('/sign/')).length

  test('the machine is marked bad while its login is at Vault: the token is revoked, and nobody gets it', async () => {
    const sent = await evidence(broker, machine)
    const before = broker.vault.state.tokens.size
    when(({ path }) => path === 'auth/tpm-quote/login', markBad)
    expect(await refusal(login(sent))).toBe('STALE_EPOCH')
    expect(broker.vault.state.tokens.size).toBe(before)
    expect(broker.vault.asked.filter(({ path }) => path === 'auth/token/revoke-accessor')).toHaveLength(1)
  })

  test.each([
    ['what the machine has to be is made stricter', 'reference/good', { secure_boot: 'required', replay: '7' }],
    ['its set of reference values is disabled', 'reference/good', { disabled: true }],
    ['its role wants another set', 'role/builder', { references: 'other' }],
    ['its role is disabled', 'role/builder', { disabled: true }],
  ])('%s while its login is at Vault: the token is revoked, and nobody gets it', async (_, path, data) => {
    await broker.ask('update', 'auth/tpm-quote/reference/other', { pcrs: REFERENCE })
    const sent = await evidence(broker, machine)
    const before = broker.vault.state.tokens.size
    when(
      asked => asked.path === 'auth/tpm-quote/login',
      async () => void (await broker.ask('update', `auth/tpm-quote/${path}`, data)),
    )
    expect(await refusal(login(sent))).toBe('STALE_EPOCH')
    expect(broker.vault.state.tokens.size).toBe(before)
  })

  test('the machine is marked bad after it was decided that it gets a credential: nothing is signed', async () => {
    const token = await logIn(broker, machine)
    await creds(token)
    const before = signatures()
    when(({ method, path }) => method === 'GET' && path.includes('/machine/'), markBad)
    await expect(creds(token)).rejects.toThrow(/^STALE_EPOCH: /)
    expect(signatures()).toBe(before)
  })

  test('the policy is made stricter: the new one wins', async () => {
    const token = await logIn(broker, machine)
    await creds(token)
    const before = signatures()
    broker.world.pass(6_000)
    when(
      ({ method, path }) => method === 'GET' && path.endsWith('/role/deploy'),
      async () => void (await broker.ask('update', 'broker/policy/base', { policy: POLICY.replace('permit', 'forbid') })),
    )
    await expect(creds(token)).rejects.toThrow(/^STALE_EPOCH: /)
    await expect(creds(token)).rejects.toThrow(/^POLICY_FORBIDDEN: /)
    expect(signatures()).toBe(before)
  })
})
