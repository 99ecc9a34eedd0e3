import { setImmediate } from 'node:timers/promises'
import type { AuthorizationAnswer } from '@cedar-policy/cedar-wasm/nodejs'
import { LRUCache } from 'lru-cache'
import { decider } from './cedar.ts'
import { type Compiled, compile } from './compile.ts'
import { admit, type Call } from './request.ts'
import type { PolicyRequest } from './schema.ts'
import { shelf } from './shelf.ts'
import type { Statement } from './statements.ts'

/** Every way a decision can come out. Only the first permits. */
export const outcomes = {
  ALLOWED: 'permitted',
  POLICY_DENIED: 'no policy permits this request',
  POLICY_FORBIDDEN: 'forbidden',
  POLICY_ERROR: 'the policies could not be evaluated, so nothing is permitted',
  NO_POLICY: 'this mount has no policy, so nothing is permitted',
} as const
export type Outcome = keyof typeof outcomes

export type Decision = {
  readonly allowed: boolean
  readonly code: Outcome
  /** The statements that decided, `<name>#<n>`: those that permit, or those that forbid. Empty when none applies. */
  readonly reasons: readonly string[]
  /** What went wrong, for the operator and the audit log; it may quote values of the request. */
  readonly errors: readonly string[]
  /** One sentence for the caller; it quotes policies, never the request. */
  readonly explanation: string
}

// A decision depends on nothing but the policies and the request, so it may be reused for exactly those.
const MEMO_CHARACTERS = 8 * 1024 * 1024
const memo = new LRUCache<string, Decision>({ maxSize: MEMO_CHARACTERS, sizeCalculation: (_, key) => key.length })

/** May this agent do this action through this plugin? Never throws: whatever goes wrong denies.
 *  Any error of any policy denies, also where Cedar permits: Cedar skips a policy that fails, and it may be a `forbid`.
 *  @see Cedar, authorization semantics: forbid overrides permit, default deny, skip on error */
export function decide(compiled: Compiled, request: PolicyRequest): Decision {
  const early = withoutAsking(compiled)
  if (early) return early
  const admitted = admit(request, compiled)
  if (!admitted.ok) return decision(admitted.code, [], [admitted.error])
  const key = JSON.stringify([compiled.version, admitted.call])
  const known = memo.get(key)
  if (known) return known
  const answered = ask(compiled, admitted.call)
  if (!answered.ok) return decision('POLICY_ERROR', [], [answered.detail]) // a stop is no property of the request: ask again next time
  const made = conclude(compiled.statements, answered.value)
  memo.set(key, made)
  return made
}

/** Loads the evaluator and takes it through its paces, so that the first decision finds it ready.
 *  Takes 0.1 to 0.2 s of the thread, once, in three pieces. */
export async function warm(): Promise<void> {
  await setImmediate()
  decider.attempt(cedar => cedar.getCedarVersion())
  await setImmediate()
  const compiled = compile([{ name: 'warm', text: 'permit (principal, action, resource) when { context.key_bound };' }], ['warm'])
  await setImmediate()
  const attestation = { fresh: true, age_seconds: 0 }
  const task = { integration: '', org: '', task: '', session: '', user: '' }
  const context = { role: '', issuer: '', scope: [''], audience: '', ...task, ttl_seconds: 0, key_bound: true, attestation }
  const state = { reference: '', reference_version: 0, secure_boot: true, boot_log: true, ima: true }
  const principal = {
    tpm_id: '',
    mount: '',
    role: '',
    entity_id: '',
    manufacturer: '',
    firmware_version: '',
    ...state,
    labels: [],
  }
  decide(compiled, { principal, action: 'warm', plugin: '', context })
}

/** Decisions that need no evaluation. */
function withoutAsking({ statements, problems }: Compiled): Decision | undefined {
  if (problems.length > 0) return decision('POLICY_ERROR', [], problems, problems[0])
  return statements.size === 0 ? decision('NO_POLICY', [], []) : undefined
}

const ask = (compiled: Compiled, call: Call) =>
  decider.attempt(cedar => cedar.statefulIsAuthorized({ ...call, preparsedPolicySetId: shelf.keep(cedar, compiled) }))

/** What Cedar's answer means here. */
function conclude(statements: Compiled['statements'], answer: AuthorizationAnswer): Decision {
  if (answer.type === 'failure') return decision('POLICY_ERROR', [], answer.errors.map(error => error.message).sort())
  const { decision: said, diagnostics } = answer.response
  const deciding = [...statements.values()].filter(({ policy }) => diagnostics.reason.includes(policy))
  const errors = diagnostics.errors.map(({ policyId, error }) => `${policyId}: ${error.message}`).sort()
  // which policies failed, and not on what: that may be of the request
  const failed = diagnostics.errors.map(({ policyId }) => policyId).sort()
  if (errors.length > 0) return decision('POLICY_ERROR', deciding, errors, failed.join(', '))
  if (said === 'allow') return decision('ALLOWED', deciding, [])
  return decision(deciding.length > 0 ? 'POLICY_FORBIDDEN' : 'POLICY_DENIED', deciding, [])
}

function decision(code: Outcome, deciding: readonly Statement[], errors: readonly string[], about = ''): Decision {
  const names = code === 'POLICY_ERROR' ? '' : deciding.map(spoken).join(', ')
  const explanation = `${outcomes[code]}${names && ` by ${names}`}${about && `: ${about}`}`
  const reasons = Object.freeze(deciding.map(({ policy }) => policy))
  return Object.freeze({ allowed: code === 'ALLOWED', code, reasons, errors: Object.freeze([...errors]), explanation })
}

function spoken({ policy, id, reason }: Statement): string {
  const said = [id, reason].filter(note => note !== undefined).join(': ')
  return said ? `${policy} (${said})` : policy
}
