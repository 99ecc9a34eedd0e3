import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  configure,
  dataOf,
  enrol,
  evidence,
  logIn,
  openTestBroker,
  outcomeOf,
  refusalOf,
  type TestBroker,
} from '../fakes/broker.ts'
import { fakeMachine, REFERENCE } from '../fakes/machine.ts'

// Whoever sets reference values owns the verdict: where `reference_approval=second-person`, nobody does alone.

const machine = fakeMachine({ label: 'enrolled' })
const nobody = { token: '' }
const SET = 'auth/tpm-quote/reference/good'

let broker: TestBroker
let [alice, bob] = ['', '']
beforeEach(async () => {
  broker = await openTestBroker()
  await configure(broker)
  await enrol(broker, machine)
  await broker.ask('update', 'auth/tpm-quote/config', { reference_approval: 'second-person' })
  await broker.ask('update', SET, { owner: 'boot team', reason: 'change 17' })
  const person = (entity: string) => broker.vault.token({ allow: () => ['create', 'update', 'delete', 'read'], entity })
  ;[alice, bob] = [person('alice'), person('bob')]
})
afterEach(() => broker[Symbol.asyncDispose]())

const write = (token: string, data: object = { pcrs: REFERENCE }, path = SET) => broker.ask('update', path, data, { token })
const approve = (token: string, version: number) => write(token, { version }, `${SET}/approve`)
const read = async () => dataOf(await broker.ask('read', SET)) as Record<string, unknown>
const versionNow = async () => Number((await read())['version'])
const refusal = (asked: Promise<unknown>) => refusalOf(broker, asked)

describe('a set that needs a second person', () => {
  test('lets nobody in before somebody else than its writer approved of it', async () => {
    await write(alice)
    expect(await refusal(evidence(broker, machine))).toBe('REFERENCE_NOT_APPROVED')
    const version = await versionNow()
    expect(await outcomeOf(approve(alice, version))).toBe('permission_denied')
    expect(await outcomeOf(approve(broker.vault.token({ entity: '' }), version))).toBe('permission_denied')
    expect(await refusal(evidence(broker, machine))).toBe('REFERENCE_NOT_APPROVED')
    await approve(bob, version)
    await logIn(broker, machine)
    expect(await read()).toMatchObject({ version, written_by: 'alice', approved_version: version, approved_by: 'bob' })
  })

  test('needs a new approval for each version, and of the version that was read', async () => {
    await write(alice)
    await approve(bob, await versionNow())
    const before = await versionNow()
    await write(alice, { reason: 'change 23' })
    expect(await outcomeOf(approve(bob, before))).toBe('bad_request')
    expect(await refusal(evidence(broker, machine))).toBe('REFERENCE_NOT_APPROVED')
    await approve(bob, before + 1)
    await logIn(broker, machine)
    await write(bob, { reason: 'change 24' })
    expect(await outcomeOf(approve(bob, before + 2))).toBe('permission_denied')
    await approve(alice, before + 2)
    await logIn(broker, machine)
  })

  test('has a writer who is known, who could approve of it otherwise', async () => {
    await write(broker.vault.token({ allow: () => ['update'], entity: '' }))
    expect(await outcomeOf(approve(bob, await versionNow()))).toBe('bad_request')
    await broker.ask('update', 'auth/tpm-quote/config', { reference_approval: 'none' })
    await write(alice)
    await broker.ask('update', 'auth/tpm-quote/config', { reference_approval: 'second-person' })
    expect(await outcomeOf(approve(alice, await versionNow()))).toBe('bad_request')
    expect(await refusal(evidence(broker, machine))).toBe('REFERENCE_NOT_APPROVED')
  })

  test('beside one that is approved: that one counts meanwhile', async () => {
    await write(alice)
    await approve(bob, await versionNow())
    await write(alice, { pcrs: REFERENCE }, 'auth/tpm-quote/reference/next')
    await broker.ask('update', 'auth/tpm-quote/role/builder', { references: 'next,good' })
    await logIn(broker, machine)
    const result = async () =>
      (dataOf(await broker.ask('read', `auth/tpm-quote/tpm/${machine.tpmId}`)) as Record<string, unknown>)['last_result']
    await expect.poll(result).toMatchObject({ outcome: 'OK', reference: 'good' })
  })

  test('is made of what a machine showed by somebody, too, and what only observes needs nobody', async () => {
    await write(alice, { observe: true })
    const sent = await evidence(broker, machine)
    expect(await refusal(broker.ask('update', 'auth/tpm-quote/login', sent, nobody))).toBe('OBSERVED')
    await write(alice, { owner: 'boot team', reason: 'first of its kind' }, `${SET}/from-tpm/${machine.tpmId}`)
    expect(await read()).toMatchObject({ written_by: 'alice', observe: false })
    expect(await refusal(evidence(broker, machine))).toBe('REFERENCE_NOT_APPROVED')
    expect(await outcomeOf(approve(alice, await versionNow()))).toBe('permission_denied')
    await approve(bob, await versionNow())
    await logIn(broker, machine)
  })

  test('is approved of with the lists of files that it names, as they are', async () => {
    const files = { files: `${'ab'.repeat(32)}  /usr/bin/env` }
    const carol = broker.vault.token({ allow: () => ['create', 'update', 'delete', 'read'], entity: 'carol' })
    await write(alice, files, 'auth/tpm-quote/ima/base')
    await write(alice, { pcrs: REFERENCE, ima: 'required', ima_lists: 'base' })
    await approve(bob, await versionNow())
    await evidence(broker, machine)
    await write(alice, { files: `${'cd'.repeat(32)}` }, 'auth/tpm-quote/ima/base')
    expect(await refusal(evidence(broker, machine))).toBe('REFERENCE_NOT_APPROVED')
    await write(alice, files, 'auth/tpm-quote/ima/other')
    await approve(bob, await versionNow())
    await write(alice, files, 'auth/tpm-quote/ima/other')
    await evidence(broker, machine)
    await broker.ask('delete', 'auth/tpm-quote/ima/base')
    expect(await refusal(evidence(broker, machine))).toBe('REFERENCE_NOT_APPROVED')
    await write(carol, files, 'auth/tpm-quote/ima/base')
    await approve(bob, await versionNow())
    await evidence(broker, machine)
  })

  test('is not approved of by who wrote one of its lists since, nor by who wrote it before somebody else did', async () => {
    const list = 'auth/tpm-quote/ima/base'
    const carol = broker.vault.token({ allow: () => ['create', 'update', 'delete', 'read'], entity: 'carol' })
    await write(alice, { files: `${'ab'.repeat(32)}  /usr/bin/env` }, list)
    await write(alice, { pcrs: REFERENCE, ima: 'required', ima_lists: 'base' })
    await write(bob, { files: 'cd'.repeat(32) }, list)
    expect(await outcomeOf(approve(bob, await versionNow()))).toBe('permission_denied')
    await write(bob, { pcrs: REFERENCE })
    await write(alice, { reason: 'change 23' })
    expect(await outcomeOf(approve(bob, await versionNow()))).toBe('permission_denied')
    expect(await read()).toMatchObject({ written_by: 'alice', changed_by: ['alice', 'bob'] })
    await approve(carol, await versionNow())
    await write(bob, { files: 'ef'.repeat(32) }, list)
    await approve(alice, await versionNow())
    await evidence(broker, machine)
  })

  test('that somebody approves of while one of its lists is replaced counts for nothing', async () => {
    const list = 'auth/tpm-quote/ima/base'
    await write(alice, { files: `${'ab'.repeat(32)}  /usr/bin/env` }, list)
    await write(alice, { pcrs: REFERENCE, ima: 'required', ima_lists: 'base' })
    const approved: unknown[] = []
    broker.vault.fault = ({ method, path }) => {
      if (method === 'GET' || !path.endsWith('/ima/base')) return undefined
      broker.vault.fault = () => undefined
      const after = async () => void approved.push(await outcomeOf(approve(bob, await versionNow())))
      return { after: after() }
    }
    await write(alice, { files: 'cd'.repeat(32) }, list)
    expect(approved).toHaveLength(1)
    expect((await read())['approved_version']).toBe(0)
    expect(await refusal(evidence(broker, machine))).toBe('REFERENCE_NOT_APPROVED')
  })

  test('is not approved of as it was read when one of its lists was replaced since', async () => {
    const list = 'auth/tpm-quote/ima/base'
    await write(alice, { files: `${'ab'.repeat(32)}  /usr/bin/env` }, list)
    await write(alice, { pcrs: REFERENCE, ima: 'required', ima_lists: 'base' })
    const version = await versionNow()
    await write(alice, { files: 'cd'.repeat(32) }, list)
    expect(await outcomeOf(approve(bob, version))).toBe('bad_request')
    expect(await refusal(evidence(broker, machine))).toBe('REFERENCE_NOT_APPROVED')
    await approve(bob, await versionNow())
    await evidence(broker, machine)
  })

  test('with a list that was replaced at another replica a moment ago lets nobody in here', async () => {
    const list = 'auth/tpm-quote/ima/base'
    await write(alice, { files: `${'ab'.repeat(32)}  /usr/bin/env` }, list)
    await write(alice, { pcrs: REFERENCE, ima: 'required', ima_lists: 'base' })
    await approve(bob, await versionNow())
    await using other = await openTestBroker({ beside: broker })
    // which knows the set as it was approved of from now on, and not its lists
    await other.ask('read', SET)
    await write(alice, { files: 'cd'.repeat(32) }, list)
    expect(await refusalOf(other, evidence(other, machine))).toBe('REFERENCE_NOT_APPROVED')
  })

  test.each([{ owner: '' }, { reason: '' }])('says who answers for it, and why: not with %j', async words => {
    await write(alice, words)
    expect(await outcomeOf(approve(bob, await versionNow()))).toBe('bad_request')
  })

  test('that nobody knows cannot be approved of', async () => {
    const none = write(bob, { version: 1 }, 'auth/tpm-quote/reference/none/approve')
    await expect(none).rejects.toMatchObject({
      code: 'not_found',
      message: 'name: there is no set of reference values of this name',
    })
    expect(await outcomeOf(write(bob, {}, `${SET}/approve`))).toBe('bad_request')
  })
})

test('where nobody else is wanted, a set counts as it is written', async () => {
  await broker.ask('update', 'auth/tpm-quote/config', { reference_approval: 'none' })
  await write(alice, { reason: 'change 23' })
  expect(await read()).toMatchObject({ written_by: '', approved_version: 0 })
  await logIn(broker, machine)
})
