import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openResults } from '../../engine/attest/results.ts'
import type { Mount } from '../../engine/mount_table.ts'
import type { Store } from '../../engine/vault/store.ts'
import { configure, dataOf, enrol, evidence, logIn, openTestBroker, outcomeOf, type TestBroker } from '../fakes/broker.ts'
import { fakeMachine, REFERENCE } from '../fakes/machine.ts'
import { testWorld } from '../fakes/world.ts'
import { until } from '../harness/process.ts'

const machine = fakeMachine({ label: 'enrolled' })
const nobody = { token: '' }
let broker: TestBroker
beforeEach(async () => {
  broker = await openTestBroker()
  await configure(broker, { auth: { latch: false } })
  await enrol(broker, machine)
})
afterEach(() => broker[Symbol.asyncDispose]())

const at = `auth/tpm-quote/tpm/${machine.tpmId}`
const last = async () =>
  (dataOf(await broker.ask('read', at)) as Record<string, unknown>)['last_result'] as Record<string, unknown> | null
const written = () => broker.vault.asked.filter(({ method, path }) => method === 'POST' && path.includes('/result/')).length
const set = (name: string, fields: object) => broker.ask('update', `auth/tpm-quote/reference/${name}`, fields)
const fromTpm = (name: string, fields: object = {}) =>
  broker.ask('update', `auth/tpm-quote/reference/${name}/from-tpm/${machine.tpmId}`, fields)
const login = async () => broker.ask('update', 'auth/tpm-quote/login', await evidence(broker, machine), nobody)

describe('the last result of a TPM', () => {
  test('is none before its first login', async () => expect(await last()).toBeNull())

  test('says what was found, when, and against what', async () => {
    await logIn(broker, machine)
    await expect.poll(last).toMatchObject({
      outcome: 'OK',
      operation: 'login',
      role: 'builder',
      ak_name: machine.akName.toString('hex'),
      reference: 'good',
      reference_version: 1,
      pcrs: REFERENCE,
      at: new Date(broker.world.now()).toISOString(),
      eat: { eat_nonce: expect.stringMatching(/^[\w-]{43}$/) as string },
    })
  })

  test('is written again when it says something else, or after a minute', async () => {
    await logIn(broker, machine)
    await expect.poll(written).toBe(1)
    await logIn(broker, machine)
    await set('good', { reason: 'another version' })
    await logIn(broker, machine)
    await expect.poll(written).toBe(2)
    broker.world.pass(60_000)
    await logIn(broker, machine)
    await expect.poll(written).toBe(3)
  })

  test('of a refusal has the reason, and no claims', async () => {
    await set('good', { pcrs: { sha256: { ...REFERENCE.sha256, 0: 'ab'.repeat(32) } } })
    expect(await outcomeOf(login())).toBe('permission_denied')
    await expect
      .poll(last)
      .toMatchObject({ outcome: 'PCR_POLICY', detail: expect.stringContaining('PCR 0 of sha256 is') as string })
    expect(await last()).not.toHaveProperty('eat')
  })

  test('that cannot be written stops nobody, and is said aloud', async () => {
    broker.vault.fault = ({ method, path }) => (method === 'POST' && path.includes('/result/') ? { status: 500 } : undefined)
    expect(await outcomeOf(login())).toBe('OK')
    await expect.poll(() => broker.world.lines.join('')).toContain('the result of a TPM could not be kept')
  })

  test('goes with the TPM', async () => {
    await logIn(broker, machine)
    await expect.poll(written).toBe(1)
    await broker.ask('delete', at)
    expect([...broker.vault.state.kv.keys()].filter(path => path.includes('/result/'))).toEqual([])
  })
})

describe('a set that is made of it', () => {
  const observed = async () => {
    await set('good', { observe: true })
    expect(await outcomeOf(login())).toBe('permission_denied')
  }

  test('pins what was quoted, and lets that machine in', async () => {
    await observed()
    expect(dataOf(await fromTpm('good', { owner: 'boot team' }))).toMatchObject({
      pcrs: REFERENCE,
      observe: false,
      owner: 'boot team',
      version: 3,
    })
    expect(await outcomeOf(login())).toBe('OK')
  })

  test('pins only what it is told to', async () => {
    await observed()
    const { sha256 } = REFERENCE
    expect(dataOf(await fromTpm('some', { pin: '4,7' }))).toMatchObject({ pcrs: { sha256: { 4: sha256[4], 7: sha256[7] } } })
  })

  test.each([
    [{ pin: '5' }, 'pin: PCR 5 was not quoted, only 0, 2, 4, 7, 11 were'],
    [{ not_after: 'soon' }, 'not_after: wanted a date'],
  ])('%j is refused: %s', async (fields, sentence) => {
    await observed()
    await expect(fromTpm('bad', fields)).rejects.toMatchObject({
      code: 'bad_request',
      message: expect.stringContaining(sentence) as string,
    })
  })

  test('wants something to be made of', async () => {
    await expect(fromTpm('early')).rejects.toMatchObject({
      code: 'not_found',
      message: expect.stringContaining('has shown nothing yet') as string,
    })
  })
})

describe('results that are written at once', () => {
  /** A store whose writes wait for the test, each by its own gate. */
  function gated() {
    const kept = new Map<string, { value: unknown; version: number }>()
    const gates: (() => void)[] = []
    const fresh = async (path: string) => kept.get(path) as never
    const store: Store = {
      get: fresh,
      fresh,
      put: async (path, value) => {
        await new Promise<void>(resolve => gates.push(resolve))
        kept.set(path, { value, version: 1 })
      },
      list: async () => [],
      delete: async path => void kept.delete(path),
      deleteAll: async () => {},
    }
    const asked = (count: number) => until(`write ${count}`, async () => gates.length === count)
    return { kept, gates, asked, results: openResults(store, testWorld()) }
  }
  const mount = { id: 'mount' } as Mount
  const result = (outcome: string) => ({ outcome, pcrs: {} })

  test('stay in the order in which they were shown', async () => {
    const { results, gates, asked } = gated()
    results.note(mount, 'tpm', result('OK'))
    results.note(mount, 'tpm', result('PCR_POLICY'))
    results.note(mount, 'other', result('OK'))
    // that of the other waits for nobody
    await asked(2)
    for (const open of gates.splice(0)) open()
    await asked(1)
    gates.pop()?.()
    await expect.poll(() => results.last('mount', 'tpm')).toMatchObject({ outcome: 'PCR_POLICY' })
  })

  test('do not come back when the TPM is forgotten', async () => {
    const { results, gates, asked, kept } = gated()
    results.note(mount, 'tpm', result('OK'))
    await asked(1)
    const forgotten = results.forget('mount', 'tpm')
    // as far as it comes without the write
    await new Promise(setImmediate)
    gates.pop()?.()
    await forgotten
    await new Promise(setImmediate)
    expect([...kept]).toEqual([])
  })
})
