import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { configure, dataOf, enrol, evidence, logIn, openTestBroker, outcomeOf, type TestBroker } from '../fakes/broker.ts'
import { fakeMachine, REFERENCE } from '../fakes/machine.ts'
import { until } from '../harness/process.ts'
import { OTHER, unrevoked } from './lifecycle_provocations.ts'
import { lifeOf } from './lifecycle_world.ts'

const machine = fakeMachine({ label: 'enrolled' })
const tpm = `auth/tpm-quote/tpm/${machine.tpmId}`

let broker: TestBroker
beforeEach(async () => {
  broker = await openTestBroker()
  await configure(broker)
  await enrol(broker, machine)
})
afterEach(() => broker[Symbol.asyncDispose]())

const { creds, gone, kept, lives, login, quoted, refusal, settled, shown, write } = lifeOf(machine, () => broker)
const fail = async () => {
  await write('reference/good', { pcrs: OTHER })
  expect(await refusal(quoted({}))).toBe('PCR_POLICY')
}
const revocations = () => broker.vault.asked.filter(({ path }) => path === 'auth/token/revoke-accessor').length

describe('a token', () => {
  test('is on record before anybody gets it, by its accessor', async () => {
    const token = await logIn(broker, machine)
    expect(kept('logins')).toHaveLength(1)
    const [record] = [...broker.vault.state.kv].filter(([path]) => path.includes('/logins/')).map(([, { value }]) => value)
    const { accessor } = broker.vault.state.tokens.get(token) ?? {}
    const expires_at = broker.world.now() / 1000 + 900
    expect(record).toEqual({ value: { accessor, role: 'builder', reference: 'good', epoch: 0, expires_at } })
    expect(kept('logins').join()).not.toContain(String(accessor))
  })

  test('that cannot be put on record is revoked, and nobody gets it', async () => {
    const sent = await evidence(broker, machine)
    broker.vault.fault = ({ method, path }) => (method === 'POST' && path.includes('/logins/') ? { status: 503 } : undefined)
    const before = broker.vault.state.tokens.size
    expect(await outcomeOf(login(sent))).toBe('unavailable')
    expect(broker.vault.state.tokens.size).toBe(before)
    expect(revocations()).toBe(1)
  })

  test('is taken off the record when it has ended, not before: it may have been renewed', async () => {
    const [one, two] = [await logIn(broker, machine), await logIn(broker, machine)]
    broker.vault.revoke(one)
    broker.world.pass(1_000_000)
    await write('role/builder', { references: 'good' })
    await until('the ended one to be off the record', async () => kept('logins').length === 1)
    expect(lives(two)).toBe(true)
  })
})

describe('a machine that fails', () => {
  test('loses everything, and stays out until it is cleared, however good it is', async () => {
    const [one, two] = [await logIn(broker, machine), await logIn(broker, machine)]
    await fail()
    await gone(one, two)
    await write('reference/good', { pcrs: REFERENCE })
    expect(await refusal(quoted({}))).toBe('LATCHED')
    expect(await shown()).toMatchObject({ state: 'failed', failure: { code: 'PCR_POLICY', role: 'builder' }, epoch: 1 })
    await broker.ask('update', `${tpm}/clear`, { reason: 'the reference values were wrong' })
    await creds(await logIn(broker, machine))
    expect(await shown()).toMatchObject({ state: 'ok', failure: null })
  })

  test('is not made good by another enrolment, nor by deleting its record', async () => {
    await fail()
    await write('reference/good', { pcrs: REFERENCE })
    await enrol(broker, machine)
    expect(await refusal(quoted({}))).toBe('LATCHED')
    await broker.ask('delete', tpm)
    await enrol(broker, machine)
    expect(await refusal(quoted({}))).toBe('LATCHED')
  })

  test('is measured: from the quote to the last token', async () => {
    await logIn(broker, machine)
    await fail()
    await settled()
    expect(await broker.broker.metrics.text()).toMatch(/assay_revocation_seconds_count\{reason="failed"\} 1/)
  })

  test('fails with what its TPM signed, not with what anybody can send', async () => {
    const token = await logIn(broker, machine)
    const good = () => evidence(broker, machine)
    const lie = JSON.stringify(OTHER)
    for (const sent of [
      { ...(await good()), pcrs: lie },
      { ...(await good()), signature: Buffer.alloc(70).toString('base64') },
      { ...(await good()), challenge: 'AAAA' },
      { ...(await good()), pcrs: '{' },
    ])
      expect(await outcomeOf(login(sent))).toBe('permission_denied')
    const stale = await good()
    await login(stale)
    expect(await refusal(login({ ...stale, pcrs: lie }))).toBe('CHALLENGE_USED')
    expect(await refusal(quoted({ pcrDigest: Buffer.alloc(32) }))).toBe('PCR_DIGEST_MISMATCH')
    await write('role/nobody', { references: 'good' })
    expect(await refusal(login({ ...(await good()), role: 'nobody' }))).toBe('SESSION_BINDING')
    expect((await shown())['state']).toBe('ok')
    await creds(token)
  })

  test('where the mount does not latch, only does not get in', async () => {
    await write('config', { latch: false })
    const token = await logIn(broker, machine)
    await fail()
    await write('reference/good', { pcrs: REFERENCE })
    await logIn(broker, machine)
    expect(lives(token)).toBe(true)
  })

  test('and has nothing to be cleared of is refused to the operator', async () => {
    expect(await outcomeOf(broker.ask('update', `${tpm}/clear`, { reason: 'x' }))).toBe('bad_request')
    expect(await outcomeOf(broker.ask('update', `${tpm}/clear`, {}))).toBe('bad_request')
    expect(await outcomeOf(broker.ask('update', 'auth/tpm-quote/tpm/sha256-00/clear', { reason: 'x' }))).toBe('bad_request')
    expect(
      await outcomeOf(
        broker.ask('update', `${tpm}/clear`, { reason: 'x' }, { token: broker.vault.token({ allow: () => ['deny'] }) }),
      ),
    ).toBe('permission_denied')
  })
})

describe('an operator', () => {
  test('asks for a new attestation: until then nothing more is issued, and what there is stays', async () => {
    const token = await logIn(broker, machine)
    await broker.ask('update', `${tpm}/reattest`, { reason: 'an alert' })
    await expect(creds(token)).rejects.toThrow(/^REATTEST: /)
    expect(lives(token)).toBe(true)
    await creds(await logIn(broker, machine))
    await expect(creds(token)).rejects.toThrow(/^REATTEST: /)
  })

  test('asks for it at once: what the machine has is revoked', async () => {
    const token = await logIn(broker, machine)
    await broker.ask('update', `${tpm}/reattest`, { reason: 'an alert', revoke: true })
    await gone(token)
    await creds(await logIn(broker, machine))
  })

  test.each([
    ['disables the TPM', () => broker.ask('update', tpm, { disabled: true })],
    ['deletes the TPM', () => broker.ask('delete', tpm)],
    ['disables the role', () => write('role/builder', { disabled: true })],
    ['takes the TPM off the list of the role', () => write('role/builder', { tpm_ids: 'sha256-another' })],
    ['disables the reference values', () => write('reference/good', { disabled: true })],
  ])('%s: what it let in is revoked', async (_, order) => {
    const token = await logIn(broker, machine)
    await order()
    await gone(token)
    expect(await outcomeOf(quoted({}))).toBe('permission_denied')
  })

  test('takes a TPM off the list of a role: no credential for a token that Vault has not revoked yet, nor for a quote', async () => {
    const token = await logIn(broker, machine)
    const sent = await evidence(broker, machine)
    unrevoked(broker)
    await write('role/builder', { tpm_ids: 'sha256-another' })
    expect(await refusal(creds(token))).toBe('ROLE')
    expect(await refusal(login(sent))).toBe('ROLE')
    await write('role/builder', { tpm_ids: machine.tpmId })
    await creds(token)
  })

  test('disables a role: what other roles gave stays', async () => {
    await write('role/second', { references: 'good' })
    const [first, second] = [await logIn(broker, machine), await evidence(broker, machine, { role: 'second' })]
    await login(second)
    await write('role/builder', { disabled: true })
    await gone(first)
    await until('the rest', async () => kept('logins').length === 1)
  })

  test('for a role is heard by who has looked at the roles already: what it gives stays', async () => {
    const token = await logIn(broker, machine)
    const { kv } = broker.vault.state
    const [path = '', role] = [...kv].find(([path]) => path.endsWith('/role/builder')) ?? []
    // the role is made, and a machine logs in by it, when the roles have been read and the tokens have not
    broker.vault.fault = asked => {
      if (asked.method === 'LIST' && asked.path.endsWith('/logins/') && role) kv.set(path, role)
      return undefined
    }
    kv.delete(path)
    await write('role/second', { references: 'good' })
    await broker.broker.attest.stop()
    expect(kv.has(path)).toBe(true)
    expect(lives(token)).toBe(true)
  })
})

describe('a set of reference values that ends', () => {
  test('ends what it let in: no credential lives longer, and none is given after it', async () => {
    const end = broker.world.now() + 100_000
    await write('reference/next', { pcrs: REFERENCE, not_before: new Date(end).toISOString() })
    await write('reference/good', { not_after: new Date(end).toISOString() })
    await write('role/builder', { references: 'good,next' })
    const token = await logIn(broker, machine)
    expect(dataOf(await creds(token))).toMatchObject({ expires_in: 100 })
    broker.world.pass(100_000)
    await expect(creds(token)).rejects.toThrow(/^REFERENCE_WINDOW: .*good/)
    expect(dataOf(await creds(await logIn(broker, machine)))).toMatchObject({ expires_in: 900 })
  })
})

describe('the age of an attestation', () => {
  test('is bounded by the role of the login and by the role of the broker', async () => {
    await write('role/builder', { max_attestation_age: '10m' })
    await broker.ask('update', 'broker/role/deploy', { max_attestation_age: '5m' })
    const token = await logIn(broker, machine)
    await creds(token)
    broker.world.pass(301_000)
    await expect(creds(token)).rejects.toThrow(/^ATTESTATION_STALE: .*301 s old, the role allows 300 s/)
    await broker.ask('update', 'broker/role/deploy', { max_attestation_age: 0 })
    await creds(token)
    broker.world.pass(300_000)
    await expect(creds(token)).rejects.toThrow(/^ATTESTATION_STALE: .*at most 600 s/)
  })

  test('bounds the life of tokens, too', async () => {
    await write('role/builder', { max_attestation_age: '10m' })
    const native = () => [...broker.vault.state.jwt.values()].at(-1)?.roles.get('builder')
    expect(native()).toMatchObject({ token_explicit_max_ttl: '600s' })
    expect(await outcomeOf(write('role/builder', { token_explicit_max_ttl: '1h' }))).toBe('bad_request')
    await write('role/builder', { token_explicit_max_ttl: '5m' })
    expect(native()).toMatchObject({ token_explicit_max_ttl: '300s' })
    expect(await outcomeOf(write('role/builder', { token_type: 'batch' }))).toBe('bad_request')
    await write('role/builder', { token_type: 'batch', revocable: false })
    expect(await outcomeOf(write('role/builder', { revocable: true }))).toBe('bad_request')
  })
})

describe('what was begun and not finished', () => {
  test('is found and done by whoever comes next', async () => {
    const token = await logIn(broker, machine)
    broker.vault.fault = ({ path }) => (path === 'auth/token/revoke-accessor' ? { status: 503 } : undefined)
    await fail()
    await until('a try', async () => revocations() > 0)
    expect(kept('open')).toHaveLength(1)
    expect(lives(token)).toBe(true)
    const overdue = async () => /^assay_machines_overdue (\d+)$/m.exec(await broker.broker.metrics.text())?.[1]
    expect(await overdue()).toBe('0')
    broker.world.pass(30_001)
    // the try may have been that of somebody who looked at what the reference values vouch for
    await until('it to be overdue', async () => (await overdue()) === '1')
    await expect(creds(token)).rejects.toThrow(/^LATCHED: /)
    broker.vault.fault = () => undefined
    await gone(token)
    await settled()
    expect([await overdue(), kept('open')]).toEqual(['0', []])
  })
})
