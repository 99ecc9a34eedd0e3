import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { configure, enrol, evidence, logIn, openTestBroker, outcomeOf, type TestBroker } from '../fakes/broker.ts'
import { fakeMachine } from '../fakes/machine.ts'
import type { Fault } from '../fakes/vault.ts'
import { until } from '../harness/process.ts'

const machine = fakeMachine({ label: 'enrolled' })
const nobody = { token: '' }
const DEADLINE_MS = 60_000

let broker: TestBroker
let token: string
beforeEach(async () => {
  broker = await openTestBroker({ deadlineMs: DEADLINE_MS })
  await configure(broker)
  await enrol(broker, machine)
  token = await logIn(broker, machine)
})
afterEach(() => broker[Symbol.asyncDispose]())

/** What the broker does, each with what it has to ask Vault: keys, state, who may, a token. */
const jobs: Readonly<Record<string, () => Promise<unknown>>> = {
  'issues a credential': () =>
    broker.ask('update', 'broker/creds/deploy', { plugin: 'kubernetes', scope: 'apps:read' }, { token }),
  'draws a challenge': () =>
    broker.ask('update', 'auth/tpm-quote/challenge', { ak_name: machine.akName.toString('hex'), role: 'builder' }, nobody),
  'logs a machine in': async () => broker.ask('update', 'auth/tpm-quote/login', await evidence(broker, machine), nobody),
  'offers an enrolment': () => broker.ask('update', 'auth/tpm-quote/enroll', machine.offer, nobody),
  'publishes its keys': () => broker.ask('read', 'broker/.well-known/jwks.json', {}, nobody),
  'reads a record': () => broker.ask('read', 'broker/role/deploy'),
  'writes a record': () => broker.ask('update', 'broker/role/deploy', { ttl: 60 }),
  'lists records': () => broker.ask('list', 'broker/role'),
  'rotates a key': () => broker.ask('update', 'broker/keys/rotate'),
  'mounts a broker': () => broker.sys('POST', 'sys/mounts/other', { type: 'broker' }),
}

/** By itself. */
const works = (job: () => Promise<unknown>) => until('the job to be done', async () => (await outcomeOf(job())) === 'OK')

/** Nothing that was read lately answers in place of Vault. */
const forget = () => broker.world.pass(60_001)

const outages: readonly (readonly [string, Fault])[] = [
  ['is sealed', { status: 503, body: { errors: ['Vault is sealed'] } }],
  ['is down', 'reset'],
  ['limits the rate', { status: 429, body: { errors: [] } }],
  ['asks to be asked again', { status: 412, body: { errors: [] } }],
  ['fails', { status: 500, body: { errors: ['1 error occurred'] } }],
  ['truncates', 'truncated'],
]

describe.each(Object.entries(jobs))('%s', (_, job) => {
  test.each(outages)('not while Vault %s, and again when it does no longer', async (_, fault) => {
    forget()
    broker.vault.fault = () => fault
    const before = broker.vault.state.kv.size
    expect(await outcomeOf(job())).toBe('unavailable')
    expect(broker.vault.state.kv.size).toBe(before)
    broker.vault.fault = () => undefined
    await works(job)
  })

  test('after its own token was revoked: logs in by itself, and nobody notices', async () => {
    forget()
    for (const [value, { path }] of broker.vault.state.tokens) if (path === 'auth/approle/login') broker.vault.revoke(value)
    expect(await outcomeOf(job())).toBe('OK')
  })
})

describe('a Vault that hangs', () => {
  beforeEach(() => {
    forget()
    broker.vault.fault = () => 'hang'
    // deadlines go by a clock that the test moves; sockets keep theirs
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  })
  afterEach(() => void vi.useRealTimers())

  test.each(Object.entries(jobs))(
    '%s: not, which is told when deadlines have passed, and again when it hangs no longer',
    async (_, job) => {
      let end: string | undefined
      void outcomeOf(job()).then(how => {
        end = how
      })
      await until('the end of the job', async () => {
        await vi.advanceTimersByTimeAsync(DEADLINE_MS)
        return end !== undefined
      })
      expect(end).toBe('unavailable')
      vi.useRealTimers()
      broker.vault.fault = () => undefined
      await works(job)
    },
  )
})

test('a policy that is listed and cannot be read stops every decision: it may be the one that forbids', async () => {
  await broker.ask('update', 'broker/policy/forbid', { policy: 'forbid (principal, action, resource);' })
  forget()
  broker.vault.fault = ({ path }) => (path.endsWith('/policy/forbid') ? { status: 404, body: { errors: [] } } : undefined)
  expect(await outcomeOf(jobs['issues a credential']?.() ?? Promise.resolve())).toBe('unavailable')
  broker.vault.fault = () => undefined
  expect(await outcomeOf(jobs['issues a credential']?.() ?? Promise.resolve())).toBe('permission_denied')
})

test('a broker whose audit log cannot be closed says so, and gives up its token all the same', async () => {
  Object.assign(broker.broker.audit, { close: () => Promise.reject(new Error('the disk does not answer')) })
  await expect(broker.broker.close()).rejects.toThrow('the disk does not answer')
  expect(broker.broker.session.ready()).toBe(false)
  expect(broker.vault.asked.filter(({ path }) => path === 'auth/token/revoke-self')).toHaveLength(1)
})
