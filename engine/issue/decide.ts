import { accept, reject } from '#attestation'
import type { MachineState } from '../attest/machine_state.ts'
import { type Compiled, decide as decideByPolicy, type Explanation, explain, type PolicyRequest } from '../policy/index.ts'
import type { Verdict } from '../refusals.ts'
import type { TaskContext } from '../tasks/context.ts'
import { CEILING_SECONDS, type RoleRecord } from './settings.ts'

/** What is asked for, before anything is decided. Absent members are taken from the role where it leaves no choice. */
export type Ask = {
  readonly plugin: string | undefined
  readonly action: string | undefined
  readonly scope: readonly string[]
  readonly audience: string | undefined
  readonly ttlSeconds: number | undefined
}

/** Who asks: an attested machine, as its token and its latest quote tell. */
export type Agent = {
  readonly tpmId: string
  readonly mount: string
  readonly role: string
  readonly entityId: string
  readonly maker: string
  readonly firmwareVersion: string
  readonly state: MachineState
  /** the key that is bound to the token, or by the quote of the request: empty when none is */
  readonly keyThumbprint: string
  /** of a certificate for that key; empty when none was shown */
  readonly x5tS256: string
  /** its TPM certified the key as its own */
  readonly keyCertified: boolean
  /** whole seconds left of the token; Infinity when it does not expire */
  readonly tokenTtlSeconds: number
  /** whole seconds since the quote that counts */
  readonly attestationAgeSeconds: number
  /** whole seconds until the login role wants a newer one; Infinity without a limit */
  readonly attestationLeftSeconds: number
  /** whole seconds until the work that it does has taken as long as it may; Infinity without a limit */
  readonly workLeftSeconds: number
  readonly labels: readonly string[]
  /** what it does this for; texts are empty where nobody said so */
  readonly task: TaskContext
  /** the quote came with this very request */
  readonly fresh: boolean
}

export type Decision = {
  /** whole seconds: nothing that follows on the same attestation and work lives longer; Infinity without a limit */
  readonly leftSeconds: number
  readonly plugin: string
  readonly action: string
  readonly scope: readonly string[]
  readonly audience: string
  readonly ttlSeconds: number
  readonly keyThumbprint: string
  readonly x5tS256: string
  /** the policies that permit it */
  readonly reasons: readonly string[]
}

/** The ceiling first, then the policy: the role says what may be asked at all, Cedar whether this agent may have it. Pure. */
export function decide(name: string, role: RoleRecord, policies: Compiled, agent: Agent, ask: Ask): Verdict<Decision> {
  const within = ceiling(role, agent, ask)
  if (!within.ok) return within
  const answer = decideByPolicy(policies, policyRequest(name, role, agent, within.value))
  if (answer.code !== 'ALLOWED') return reject(answer.code, answer.explanation)
  return accept({ ...within.value, reasons: answer.reasons })
}

/** What the policies see of it, and what each says; undefined where the ceiling refuses before they are asked. */
export function explained(name: string, role: RoleRecord, policies: Compiled, agent: Agent, ask: Ask): Explanation | undefined {
  const within = ceiling(role, agent, ask)
  return within.ok ? explain(policies, policyRequest(name, role, agent, within.value)) : undefined
}

type Within = Omit<Decision, 'reasons'>

function ceiling(role: RoleRecord, agent: Agent, ask: Ask): Verdict<Within> {
  if (role.login_roles.length > 0 && !role.login_roles.some(one => one === agent.role || one === `${agent.mount}${agent.role}`))
    return reject('ROLE', `the role is for logins by ${role.login_roles.join(', ')}`)
  if (role.task === 'required' && agent.task.task === '')
    return reject('TASK_REQUIRED', `no ${agent.task.org === '' ? 'organisation and no ' : ''}task is known`)
  const plugin = ask.plugin ?? only(role.plugins)
  if (plugin === undefined || !role.plugins.includes(plugin))
    return reject('PLUGIN', `the role serves the plugins ${role.plugins.join(', ')}`)
  const action = ask.action ?? only(role.actions)
  if (action === undefined || !role.actions.includes(action))
    return reject('ACTION', `the role serves the actions ${role.actions.join(', ')}`)
  const audience = ask.audience ?? role.audiences[0]
  if (audience === undefined || !role.audiences.includes(audience)) {
    return reject('AUDIENCE_CEILING', `the role issues for the audiences ${role.audiences.join(', ')}`)
  }
  const scope = ask.scope.toSorted()
  const above = scope.filter(one => !role.scopes.includes(one))
  if (above.length > 0 || (scope.length === 0 && role.scopes.length > 0))
    return reject('SCOPE', `the ceiling of the role is ${role.scopes.join(', ') || 'no scope'}`)
  if (role.delivery === 'sealed' && agent.x5tS256 === '')
    return reject('CERTIFICATE_NOT_BOUND', 'a sealed token is bound to a certificate')
  if (role.bind_key !== 'optional' && agent.keyThumbprint === '') return reject('KEY_NOT_BOUND', 'the login bound no key')
  if (role.bind_key === 'certified' && !agent.keyCertified)
    return reject('KEY_NOT_CERTIFIED', 'the login bound a key by its thumbprint alone')
  if (role.attestation === 'request' && !agent.fresh) return reject('QUOTE_REQUIRED', 'no quote came with the request')
  if (role.max_attestation_age > 0 && agent.attestationAgeSeconds > role.max_attestation_age)
    return reject('ATTESTATION_STALE', `${agent.attestationAgeSeconds} s old, the role allows ${role.max_attestation_age} s`)
  const leftSeconds = leftOf(role, agent)
  const ttlSeconds = Math.floor(
    Math.min(ask.ttlSeconds ?? role.ttl, role.max_ttl, CEILING_SECONDS, agent.tokenTtlSeconds, leftSeconds),
  )
  if (!(ttlSeconds >= 1)) return reject('TTL', 'the token, the attestation or the request leaves less than a second')
  return accept({
    plugin,
    action,
    scope,
    audience,
    ttlSeconds,
    leftSeconds,
    keyThumbprint: agent.keyThumbprint,
    x5tS256: agent.x5tS256,
  })
}

/** No credential outlives the attestation that it stands on, nor the work that it is for. */
function leftOf(role: RoleRecord, agent: Agent): number {
  const byRole = role.max_attestation_age > 0 ? role.max_attestation_age - agent.attestationAgeSeconds : Number.POSITIVE_INFINITY
  return Math.min(byRole, agent.attestationLeftSeconds, agent.workLeftSeconds)
}

function only(items: readonly string[]): string | undefined {
  return items.length === 1 ? items[0] : undefined
}

function policyRequest(name: string, role: RoleRecord, agent: Agent, within: Within): PolicyRequest {
  return {
    principal: {
      tpm_id: agent.tpmId,
      mount: agent.mount,
      role: agent.role,
      entity_id: agent.entityId,
      manufacturer: agent.maker,
      firmware_version: agent.firmwareVersion,
      reference: agent.state.reference,
      reference_version: agent.state.referenceVersion,
      secure_boot: agent.state.secureBoot,
      boot_log: agent.state.bootLog,
      ima: agent.state.ima,
      labels: agent.labels,
    },
    action: within.action,
    plugin: within.plugin,
    context: {
      role: name,
      issuer: role.issuer,
      scope: within.scope,
      audience: within.audience,
      integration: role.integration,
      org: agent.task.org,
      task: agent.task.task,
      session: agent.task.session,
      user: agent.task.user,
      ttl_seconds: within.ttlSeconds,
      key_bound: within.keyThumbprint !== '',
      attestation: { fresh: agent.fresh, age_seconds: agent.attestationAgeSeconds },
    },
  }
}
