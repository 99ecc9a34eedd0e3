import { createHash } from 'node:crypto'
import { MOST_LOGINS } from '../../engine/lifecycle/logins.ts'
import { pcrValue } from '../attestation/attester.ts'
import { evidence, logIn, type TestBroker } from '../fakes/broker.ts'
import { fakeMachine, REFERENCE } from '../fakes/machine.ts'

const machine = fakeMachine({ label: 'enrolled' })
const nobody = { token: '' }
const login = ({ ask }: TestBroker, data: object) => ask('update', 'auth/tpm-quote/login', data, nobody)
const write = ({ ask }: TestBroker, path: string, data: object) => ask('update', `auth/tpm-quote/${path}`, data)
const creds = ({ ask }: TestBroker, token: string) =>
  ask('update', 'broker/creds/deploy', { plugin: 'kubernetes', scope: 'apps:read' }, { token })

/** Reference values that the machine does not have. */
export const OTHER = { sha256: { ...REFERENCE.sha256, 0: pcrValue(23).toString('hex') } }

/** Vault does not revoke what it is asked to: what the broker itself refuses is seen then. */
export function unrevoked(test: TestBroker): void {
  test.vault.fault = ({ path }) => (path === 'auth/token/revoke-accessor' ? { status: 503 } : undefined)
}

/** The machine shows another state than the reference values have. */
async function fail(test: TestBroker): Promise<void> {
  await write(test, 'reference/good', { pcrs: OTHER })
  await login(test, await evidence(test, machine)).catch(() => undefined)
}

type Provocation = (test: TestBroker) => Promise<unknown>

/** Asks with a token of before. */
const after = (make: Provocation): Provocation => {
  return async test => {
    const token = await logIn(test, machine)
    unrevoked(test)
    await make(test)
    return creds(test, token)
  }
}
const reattest = { reason: 'an alert' }
const tpm = `tpm/${machine.tpmId}`

/** Ways into the refusals that have to do with what became of a machine. */
export const ofLifecycle = {
  LATCHED: async test => {
    await fail(test)
    return login(test, await evidence(test, machine))
  },
  TOO_MANY_LOGINS: async test => {
    const folder = `${test.broker.mounts.find('auth/tpm-quote')?.id}/logins/${machine.tpmId}`
    const expires_at = Math.floor(test.world.now() / 1000) + 3600
    for (let count = 0; count < MOST_LOGINS; count += 1) {
      const name = createHash('sha256').update(String(count)).digest('hex')
      const value = { accessor: String(count), role: 'builder', reference: 'good', epoch: 0, expires_at }
      test.vault.state.kv.set(`${folder}/${name}`, { version: 1, value: { value } })
    }
    return login(test, await evidence(test, machine))
  },
  NOT_REVOCABLE: async test => {
    const sent = await evidence(test, machine)
    const body = { auth: { client_token: 'hvb.AAAA', accessor: '', lease_duration: 900 } }
    test.vault.fault = ({ path }) => (path === 'auth/tpm-quote/login' ? { status: 200, body } : undefined)
    return login(test, sent)
  },
  ROLE_DISABLED: async test => {
    await write(test, 'role/builder', { disabled: true })
    return evidence(test, machine)
  },
  REFERENCE_DISABLED: after(test => write(test, 'reference/good', { disabled: true })),
  SESSION_ENDED: after(async test => login(test, await evidence(test, machine, { changes: { resetCount: 8 } }))),
  REATTEST: after(test => write(test, `${tpm}/reattest`, reattest)),
  ATTESTATION_STALE: after(async test => {
    await write(test, 'role/builder', { max_attestation_age: 60 })
    test.world.pass(61_000)
  }),
  STALE_EPOCH: async test => {
    const token = await logIn(test, machine)
    await creds(test, token)
    const record = `${test.broker.mounts.find('auth/tpm-quote')?.id}/machine/${machine.tpmId}`
    const kept = test.vault.state.kv.get(record) ?? { value: { value: {} } }
    const { value } = kept.value as { value: object }
    // another replica has written it, and this one still remembers what it was
    test.vault.state.kv.set(record, { version: 9, value: { value: { ...value, epoch: 7 } } })
    return creds(test, token)
  },
  KEY_NOT_CERTIFIED: async test => {
    const token = await logIn(test, machine)
    await test.ask('update', 'broker/role/deploy', { bind_key: 'certified' })
    return creds(test, token)
  },
  KEY_MISMATCH: async test =>
    login(test, { ...(await evidence(test, machine)), key_certificate: Buffer.from('no certificate').toString('base64') }),
} satisfies Record<string, Provocation>

/** The same met by a token: who asks is known there, so the reason is told. */
export const withTokenOfLifecycle = {
  LATCHED: after(fail),
  ROLE_DISABLED: after(test => write(test, 'role/builder', { disabled: true })),
} satisfies Record<string, Provocation>
