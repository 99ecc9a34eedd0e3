import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { qualifiedNameOf } from '#attestation'
import { configure, enrol, evidence, logIn, openTestBroker, outcomeOf, type TestBroker } from '../fakes/broker.ts'
import { fakeMachine } from '../fakes/machine.ts'
import { until } from '../harness/process.ts'
import { unrevoked } from './lifecycle_provocations.ts'
import { lifeOf } from './lifecycle_world.ts'

// What an operator can end at once, beside a TPM, a role and a set of reference values (lifecycle.test.ts): one key of a machine,
// and all machines whose TPMs have a firmware.

const machine = fakeMachine({ label: 'enrolled' })
const second = fakeMachine({ label: 'enrolled', ak: fakeMachine({ label: 'second' }).ak })
const other = fakeMachine({ label: 'other' })
const tpm = `auth/tpm-quote/tpm/${machine.tpmId}`

let broker: TestBroker
beforeEach(async () => {
  broker = await openTestBroker()
  await configure(broker)
  for (const one of [machine, second, other]) await enrol(broker, one)
})
afterEach(() => broker[Symbol.asyncDispose]())

const config = (data: object) => broker.ask('update', 'auth/tpm-quote/config', data)
const { creds, gone, login, refusal, shown } = lifeOf(machine, () => broker)

describe('an attestation key that is disabled', () => {
  const key = machine.akName.toString('hex')

  test('gets nothing, and what its machine had is revoked; the other key of the machine goes on', async () => {
    const [token, neighbour] = [await logIn(broker, machine), await logIn(broker, other)]
    const held = await evidence(broker, machine)
    await broker.ask('update', tpm, { disabled_aks: key })
    await gone(token)
    expect(await refusal(login(held))).toBe('AK_DISABLED')
    expect(await refusal(evidence(broker, machine))).toBe('AK_DISABLED')
    expect(await refusal(enrol(broker, machine))).toBe('AK_DISABLED')
    await creds(await logIn(broker, second))
    await creds(neighbour)
    expect(await shown()).toMatchObject({ disabled: false, disabled_aks: [key] })
  })

  test('gets no credential with a token that Vault has not revoked yet', async () => {
    const token = await logIn(broker, machine)
    unrevoked(broker)
    await broker.ask('update', tpm, { disabled_aks: key })
    await expect(creds(token)).rejects.toThrow(/permission denied|AK_DISABLED|refused/)
    expect(await refusal(creds(token))).toBe('AK_DISABLED')
  })

  test('is revoked when an operator disables it once more, because Vault failed meanwhile', async () => {
    const token = await logIn(broker, machine)
    broker.vault.fault = ({ path }) => (path.includes('/open/') ? { status: 503 } : undefined)
    expect(await outcomeOf(broker.ask('update', tpm, { disabled_aks: key }))).toBe('unavailable')
    broker.vault.fault = () => undefined
    await broker.ask('update', tpm, { disabled_aks: key })
    await gone(token)
  })

  test('ends what there is once: other writes to the record change nothing', async () => {
    await broker.ask('update', tpm, { disabled_aks: key })
    const token = await logIn(broker, second)
    await broker.ask('update', tpm, { labels: 'rack-7' })
    await broker.ask('update', tpm, { disabled_aks: [key] })
    await creds(token)
    await broker.ask('update', tpm, { disabled_aks: '' })
    await creds(await logIn(broker, machine))
  })

  test.each(['x', key.slice(2, 10), key.toUpperCase()])('is named as it is listed, not %s', async name => {
    expect(await outcomeOf(broker.ask('update', tpm, { disabled_aks: name }))).toBe('bad_request')
  })
})

describe('firmware that is denied', () => {
  const firmware = async () => {
    type LastResult = { readonly eat: { readonly tpm2: { readonly firmware_version: string } } } | null
    // who logs in does not wait for it
    await until('the result of the login', async () => (await shown())['last_result'] !== null)
    return ((await shown())['last_result'] as LastResult)?.eat.tpm2.firmware_version ?? ''
  }

  test('fails the machines that showed it, at once, and those that show it later, whatever their role wants', async () => {
    const [token, neighbour] = [await logIn(broker, machine), await logIn(broker, other)]
    const bad = await firmware()
    await config({ denied_firmware: `ffffffffffffffff,${bad.toUpperCase()}` })
    await gone(token, neighbour)
    expect(await shown()).toMatchObject({ state: 'failed', failure: { code: 'TPM_FIRMWARE', role: '' } })
    expect(await refusal(logIn(broker, machine))).toBe('LATCHED')
    await broker.ask('update', `${tpm}/clear`, { reason: 'looked at' })
    expect(await refusal(logIn(broker, machine))).toBe('TPM_FIRMWARE')
    await config({ denied_firmware: '' })
    await broker.ask('update', `${tpm}/clear`, { reason: 'a mistake' })
    await creds(await logIn(broker, machine))
  })

  test('fails a machine that showed it before its key was enrolled again', async () => {
    const token = await logIn(broker, machine)
    const bad = await firmware()
    await enrol(broker, machine)
    await config({ denied_firmware: bad })
    await gone(token)
  })

  test('fails a machine once, however often it is looked at', async () => {
    const { watch } = broker.broker.attest
    const mount = broker.broker.mounts.find('auth/tpm-quote/login') ?? expect.unreachable()
    const bad = (await logIn(broker, machine)) && (await firmware())
    await config({ denied_firmware: bad })
    for (let round = 0; round < 3; round += 1) watch.begin(mount)
    await watch.stop()
    expect(broker.world.lines.filter(line => line.includes('a machine failed its attestation'))).toHaveLength(1)
  })

  test('of others concerns nobody', async () => {
    const token = await logIn(broker, machine)
    await config({ denied_firmware: 'ffffffffffffffff' })
    await logIn(broker, machine)
    await creds(token)
  })

  test('where the mount does not latch, ends what was given and gets no one in, and is let in again when it is allowed', async () => {
    const token = await logIn(broker, machine)
    await config({ latch: false, denied_firmware: await firmware() })
    await gone(token)
    expect((await shown())['state']).not.toBe('failed')
    expect(await refusal(logIn(broker, machine))).toBe('TPM_FIRMWARE')
    await config({ denied_firmware: '' })
    await logIn(broker, machine)
  })

  test('where the mount does not latch, ends what was given and tells of it, and does not go on doing so', async () => {
    const { watch } = broker.broker.attest
    const mount = broker.broker.mounts.find('auth/tpm-quote/login') ?? expect.unreachable()
    const bad = (await logIn(broker, machine)) && (await firmware())
    await config({ latch: false, denied_firmware: bad })
    await watch.stop()
    broker.world.pass(15_000)
    for (let round = 0; round < 5; round += 1) watch.begin(mount)
    await watch.stop()
    // once more, as another replica may have let it in when it had not heard of it yet
    expect((await shown())['epoch']).toBe(2)
    await config({ denied_firmware: '' })
    const token = await logIn(broker, machine)
    await config({ denied_firmware: bad })
    await gone(token)
  })

  test('is not known of keys to which the TPM does not tell it: they are refused', async () => {
    await config({ hierarchies: 'endorsement,owner' })
    const hidden = fakeMachine({ label: 'enrolled', ak: fakeMachine({ label: 'hidden' }).ak })
    await enrol(broker, hidden, { hierarchy: 'owner' })
    const qualifiedSigner = qualifiedNameOf('owner', hidden.akName, Buffer.from(hidden.offer.ek_public, 'base64'))
    const quoted = async () => login(await evidence(broker, hidden, { changes: { qualifiedSigner } }))
    await quoted()
    await config({ denied_firmware: 'ffffffffffffffff' })
    expect(await refusal(quoted())).toBe('TPM_FIRMWARE')
  })

  test('is 16 digits each', async () => expect(await outcomeOf(config({ denied_firmware: '7.2' }))).toBe('bad_request'))
})
