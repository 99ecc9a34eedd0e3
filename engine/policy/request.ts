import type { AuthorizationCall } from '@cedar-policy/cedar-wasm/nodejs'
import type { Compiled } from './compile.ts'
import { type Attributes, model, type PolicyRequest } from './schema.ts'

/** A request as Cedar takes it. It conforms to the schema, and equal requests have equal JSON. */
export type Call = Pick<AuthorizationCall, 'principal' | 'action' | 'resource' | 'context' | 'entities'>
export type Admission =
  | { readonly ok: true; readonly call: Call }
  | { readonly ok: false; readonly code: 'POLICY_ERROR' | 'POLICY_DENIED'; readonly error: string }

/** Longest text in a request, in UTF-16 units. */
const MAX_TEXT = 1024
/** Most members of a set in a request. */
const MAX_MEMBERS = 256
/** Ages are rounded up to this many seconds, so that a decision can be reused for as long; a limit in whole tens stays exact. */
const AGE_STEP_SECONDS = 10

/** Checks a request against the same table the schema is made from, and copies what the table names.
 *  An unknown action is a plain denial, since a caller chooses it; anything else that does not conform is an error. */
export function admit(request: PolicyRequest, compiled: Compiled): Admission {
  const wrong: string[] = []
  const principal = read(model.Agent, request?.principal, 'principal', wrong)
  const context = read(model.Request, request?.context, 'context', wrong)
  const action = readValue('String', request?.action, 'action', wrong) as string
  const plugin = readValue('String', request?.plugin, 'plugin', wrong) as string
  if (wrong[0] !== undefined) return { ok: false, code: 'POLICY_ERROR', error: wrong[0] }
  if (!compiled.actions.has(action))
    return { ok: false, code: 'POLICY_DENIED', error: 'the action is not one of the actions of this mount' }
  const agent = { type: 'Agent', id: principal['tpm_id'] as string }
  const entities = [{ uid: agent, attrs: principal, parents: [] }]
  return {
    ok: true,
    call: {
      principal: agent,
      action: { type: 'Action', id: action },
      resource: { type: 'Plugin', id: plugin },
      context,
      entities,
    },
  }
}

type Value = string | number | boolean | string[] | Values
type Values = { [name: string]: Value }

function read(attributes: Attributes, given: unknown, at: string, wrong: string[]): Values {
  const source = typeof given === 'object' && given !== null ? (given as Readonly<Record<string, unknown>>) : {}
  const values: Values = {}
  for (const [name, { type }] of Object.entries(attributes)) values[name] = readValue(type, source[name], `${at}.${name}`, wrong)
  const age = attributes === model.Attestation ? values['age_seconds'] : undefined
  if (typeof age === 'number') values['age_seconds'] = roundUp(age)
  return values
}

function readValue(type: Attributes[string]['type'], given: unknown, at: string, wrong: string[]): Value {
  if (type === 'Attestation') return read(model.Attestation, given, at, wrong)
  const problem = checks[type](given)
  if (problem) wrong.push(`${at} ${problem}`)
  // a set has no order: one form for equal sets
  return type === 'Set<String>' && !problem ? [...new Set(given as string[])].sort() : (given as Value)
}

const checks = {
  String: (given: unknown) => {
    if (typeof given !== 'string') return 'is not text'
    if (given.length > MAX_TEXT) return `is longer than ${MAX_TEXT} characters`
    return given.isWellFormed() ? undefined : 'is not well-formed Unicode'
  },
  Long: (given: unknown) => (Number.isSafeInteger(given) && (given as number) >= 0 ? undefined : 'is not a whole number from 0'),
  Bool: (given: unknown) => (typeof given === 'boolean' ? undefined : 'is neither true nor false'),
  'Set<String>': (given: unknown): string | undefined => {
    if (!Array.isArray(given)) return 'is not a set'
    if (given.length > MAX_MEMBERS) return `has more than ${MAX_MEMBERS} members`
    return given.map(checks.String).find(problem => problem !== undefined)
  },
}

const roundUp = (seconds: number): number => Math.ceil(seconds / AGE_STEP_SECONDS) * AGE_STEP_SECONDS
