import { randomBytes } from 'node:crypto'
import type { OwnRefusal } from '../../engine/refusals.ts'
import { AUDIENCE, credsEvidence, dataOf, enrol, evidence, logIn, POLICY, type TestBroker } from '../fakes/broker.ts'
import { fakeMachine } from '../fakes/machine.ts'
import { fakeOrchestrator, TASK } from '../fakes/orchestrator.ts'
import { ofLifecycle, unrevoked, withTokenOfLifecycle } from './lifecycle_provocations.ts'

/** The two machines of these tests; only the first is enrolled. */
export const machine = fakeMachine({ label: 'enrolled' })
const stranger = fakeMachine({ label: 'stranger' })

type Provocation = (test: TestBroker) => Promise<unknown>
const nobody = { token: '' }
const login = ({ ask }: TestBroker, data: object) => ask('update', 'auth/tpm-quote/login', data, nobody)
const configure = ({ ask }: TestBroker, data: object) => ask('update', 'auth/tpm-quote/config', data)

/** Asks for a credential with the token of the machine that is enrolled. */
async function creds(test: TestBroker, data: object, { role = {}, policy = POLICY } = {}): Promise<unknown> {
  await test.ask('update', 'broker/role/deploy', role)
  await test.ask('update', 'broker/policy/base', { policy })
  const token = await logIn(test, machine)
  return test.ask('update', 'broker/creds/deploy', { plugin: 'kubernetes', scope: 'apps:read', ...data }, { token })
}

/** What an orchestrator that the mount trusts signs for an agent; `issuer`: in whose name it does. */
async function taskToken(test: TestBroker, issuer: string, agent = machine.tpmId, trust = {}): Promise<string> {
  const { record, sign } = await fakeOrchestrator({ now: test.world.now })
  await test.ask('update', 'broker/orchestrator/planner', { ...record, ...trust })
  return sign(agent, { iss: issuer })
}

/** Refusals that want a provider to be provoked: `exchange.test.ts` does. */
export const exchangeRefusals = [
  'PERMISSIONS',
  'INTEGRATION',
  'DELIVERY',
  'PARAMETERS',
  'EXCHANGE_REFUSED',
  'EXCHANGE_UNUSABLE',
  'EXCHANGE_WIDER',
] as const satisfies readonly OwnRefusal[]

/** Refusals that want a person to be provoked: `live/consent.test.ts` does. */
export const consentRefusals = [
  'CONSENT_REQUIRED',
  'CONSENT_DENIED',
  'CONSENT_FAILED',
  'CONSENT_EXPIRED',
] as const satisfies readonly OwnRefusal[]

type Elsewhere = (typeof exchangeRefusals)[number] | (typeof consentRefusals)[number]

/** A way into every other refusal that the evidence alone does not show. */
export const provocations: Readonly<Record<Exclude<OwnRefusal, Elsewhere>, Provocation>> = {
  CHALLENGE_UNKNOWN: async test =>
    login(test, { ...(await evidence(test, machine)), challenge: randomBytes(126).toString('base64') }),
  CHALLENGE_USED: async test => {
    const sent = await evidence(test, machine)
    await login(test, sent)
    return login(test, sent)
  },
  CHALLENGE_EXPIRED: async test => {
    const sent = await evidence(test, machine)
    test.world.pass(60_001)
    return login(test, sent)
  },
  CHALLENGE_WRONG_KEY: async test => {
    await enrol(test, stranger)
    return login(test, { ...(await evidence(test, machine)), ak_name: stranger.akName.toString('hex') })
  },
  SESSION_BINDING: async test => login(test, { ...(await evidence(test, machine)), key_thumbprint: '' }),
  AUDIENCE: async test => login(test, { ...(await evidence(test, machine)), audience: 'https://elsewhere.example' }),
  AK_NOT_ENROLLED: test => evidence(test, stranger),
  EK_TYPE: async test => {
    await configure(test, { ek_types: 'p-256' })
    return enrol(test, stranger)
  },
  EK_IN_USE: test => enrol(test, fakeMachine({ label: 'stranger', ak: machine.ak })),
  ACTIVATION: async test => {
    const { enrollment } = dataOf(await test.ask('update', 'auth/tpm-quote/enroll', stranger.offer, nobody))
    const secret = randomBytes(32).toString('base64')
    return test.ask('update', 'auth/tpm-quote/enroll/activate', { enrollment, secret }, nobody)
  },
  NOT_LISTED: async test => {
    await configure(test, { enrollment: 'listed' })
    return enrol(test, stranger)
  },
  ENROLMENT_DENIED: async test => {
    await configure(test, { enrollment: 'approved' })
    await enrol(test, stranger)
    await test.ask('update', `auth/tpm-quote/pending/${stranger.tpmId}`, { decision: 'deny' })
    return enrol(test, stranger)
  },
  HIERARCHY: test => enrol(test, stranger, { hierarchy: 'owner' }),
  NO_ANCHORS: async test => {
    await test.ask('delete', 'auth/tpm-quote/ca/makers')
    return enrol(test, stranger)
  },
  TPM_DISABLED: async test => {
    await test.ask('update', `auth/tpm-quote/tpm/${machine.tpmId}`, { disabled: true })
    return evidence(test, machine)
  },
  AK_DISABLED: async test => {
    await test.ask('update', `auth/tpm-quote/tpm/${machine.tpmId}`, { disabled_aks: machine.akName.toString('hex') })
    return evidence(test, machine)
  },
  ROLE: test => evidence(test, machine, { role: 'nobody' }),
  REFERENCE_WINDOW: async test => {
    await test.ask('update', 'auth/tpm-quote/reference/good', { not_after: '2026-05-31' })
    return evidence(test, machine)
  },
  REFERENCE_NOT_APPROVED: async test => {
    await configure(test, { reference_approval: 'second-person' })
    return evidence(test, machine)
  },
  OBSERVED: async test => {
    await test.ask('update', 'auth/tpm-quote/reference/good', { observe: true })
    return login(test, await evidence(test, machine))
  },
  NOT_ATTESTED: test => test.ask('update', 'broker/creds/deploy', { plugin: 'kubernetes', scope: 'apps:read' }),
  QUOTE_REQUIRED: test => creds(test, {}, { role: { attestation: 'request' } }),
  KEY_NOT_BOUND: async test => {
    const outcome = await login(test, await evidence(test, machine, { thumbprint: '' }))
    const auth = 'reply' in outcome && outcome.reply && 'vault' in outcome.reply ? outcome.reply.vault.auth : undefined
    const token = String(auth?.['client_token'])
    return test.ask('update', 'broker/creds/deploy', { plugin: 'kubernetes', scope: 'apps:read' }, { token })
  },
  CERTIFICATE_NOT_BOUND: test => creds(test, {}, { role: { delivery: 'sealed', destinations: ['https://api.example.com'] } }),
  PLUGIN: test => creds(test, { plugin: 'github' }),
  ACTION: test => creds(test, { action: 'delete' }),
  SCOPE: test => creds(test, { scope: 'apps:admin' }),
  AUDIENCE_CEILING: test => creds(test, { audience: `${AUDIENCE}/more` }),
  TTL: test => creds(test, { ttl: '900ms' }),
  TASK_TOKEN: async test => creds(test, { task_token: await taskToken(test, 'evil.example') }),
  TASK_TOKEN_AGENT: async test => creds(test, { task_token: await taskToken(test, TASK.issuer, stranger.tpmId) }),
  TASK_TOKEN_USED: async test => {
    const task_token = await taskToken(test, TASK.issuer, machine.tpmId, { single_use: true })
    await creds(test, { task_token })
    return creds(test, { task_token })
  },
  WORK_ENDED: async test => {
    await creds(test, {}, { role: { max_work: '5m' } })
    const token = await logIn(test, machine)
    const ask = () => test.ask('update', 'broker/creds/deploy', { plugin: 'kubernetes', scope: 'apps:read' }, { token })
    await ask()
    test.world.pass(300_000)
    return ask()
  },
  TASK_REQUIRED: test => creds(test, {}, { role: { task: 'required' } }),
  ...ofLifecycle,
  NO_POLICY: async test => {
    const token = await logIn(test, machine)
    await test.ask('delete', 'broker/policy/base')
    return test.ask('update', 'broker/creds/deploy', { plugin: 'kubernetes', scope: 'apps:read' }, { token })
  },
  POLICY_DENIED: test => creds(test, { plugin: 'payroll' }),
  POLICY_FORBIDDEN: test => creds(test, {}, { policy: `${POLICY} forbid (principal, action, resource);` }),
  POLICY_ERROR: async test => {
    // an action that policies name is taken back by the operator
    await creds(test, {})
    await test.ask('update', 'broker/config', { actions: 'delete' })
    return test.ask(
      'update',
      'broker/creds/deploy',
      { plugin: 'kubernetes', scope: 'apps:read' },
      { token: await logIn(test, machine) },
    )
  },
}

/** The same refusals met by a quote that comes with a request for a credential: who asks is known there, so the reason is told. */
export const withRequest: Readonly<Partial<Record<OwnRefusal, Provocation>>> = {
  ...withTokenOfLifecycle,
  SESSION_BINDING: async test => {
    const quoted = await credsEvidence(test, machine, { plugin: 'kubernetes', scope: ['apps:read'] })
    return creds(test, { ...quoted, scope: 'apps:write' })
  },
  TPM_DISABLED: async test => {
    const token = await logIn(test, machine)
    unrevoked(test)
    await test.ask('update', `auth/tpm-quote/tpm/${machine.tpmId}`, { disabled: true })
    return test.ask('update', 'broker/creds/deploy', { plugin: 'kubernetes', scope: 'apps:read' }, { token })
  },
  AK_NOT_ENROLLED: async test => {
    const token = await logIn(test, machine)
    unrevoked(test)
    await test.ask('delete', `auth/tpm-quote/tpm/${machine.tpmId}`)
    return test.ask('update', 'broker/creds/deploy', { plugin: 'kubernetes', scope: 'apps:read' }, { token })
  },
}
