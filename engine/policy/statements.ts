import { checker } from './cedar.ts'
import { type Finding, findingAt, type Span, spanOf } from './source.ts'

/** One `permit` or `forbid`. `policy` names it in decisions: `<name of the policy>#<n>`, counted from 1 in the order of the text. */
export type Statement = {
  readonly policy: string
  readonly text: string
  readonly effect: 'permit' | 'forbid'
  /** The annotation `@id`, for people. */
  readonly id?: string
  /** The annotation `@reason`, for people: why this is permitted or forbidden. */
  readonly reason?: string
}

export type Dissection =
  | { readonly ok: true; readonly statements: readonly Statement[] }
  | { readonly ok: false; readonly errors: readonly Finding[] }

const MAX_TEXT_BYTES = 64 * 1024
const MAX_STATEMENTS = 100
const MAX_ANNOTATION = 200
// Cedar recurses on the stack: with Node 24's default stack it overflows at 117 brackets and at an expression of 351 operators (4.13.0).
// A third of that leaves room for whatever called us.
const MAX_BRACKETS = 32
const MAX_OPERATORS = 100

/** Takes a policy text apart, within bounds that keep Cedar from overflowing its stack. Says nothing about the schema. */
export function dissect(name: string, text: string): Dissection {
  const problem = unfit(text) ?? unsafe(text) ?? unparsable(text)
  if (problem) return { ok: false, errors: [problem] }
  const parts = partsOf(text)
  if (!parts) return refuse(text, 'the policy is too complex to be read')
  if (parts.length > MAX_STATEMENTS)
    return refuse(text, `a policy has at most ${MAX_STATEMENTS} statements`, 'split it into several policies')
  const statements: Statement[] = []
  for (const [index, part] of parts.entries()) {
    const read = readStatement(`${name}#${index + 1}`, part)
    if (typeof read === 'string') return { ok: false, errors: [findingAt(text, placeOf(part, text), read)] }
    statements.push(read)
  }
  return { ok: true, statements }
}

function unfit(text: string): Finding | undefined {
  if (Buffer.byteLength(text) > MAX_TEXT_BYTES) return startOf('', `a policy text has at most ${MAX_TEXT_BYTES / 1024} KiB`)
  if (!text.isWellFormed()) return startOf('', 'the policy text is not well-formed Unicode')
  return undefined
}

// Comments and strings as Cedar's own lexer delimits them; a string without an end runs to the end of the text.
const TOKEN = /\/\/[^\n\r]*|"(?:[^"\\]|\\.)*"?|[([{]|[)\]}]|\?\w+|\s+|./gsu

const NO_SLOT = 'name the agent or the plugin itself'

function unsafe(text: string): Finding | undefined {
  let depth = 0
  let empty = true
  for (const { 0: token, index } of text.matchAll(TOKEN)) {
    if (/^(?:\/\/|\s)/.test(token)) continue
    empty = false
    if (/^[([{]/.test(token)) depth++
    if (/^[)\]}]/.test(token)) depth--
    const at = () => spanOf(text, index, index + token.length)
    if (depth > MAX_BRACKETS) return findingAt(text, at(), `brackets are nested more than ${MAX_BRACKETS} deep`)
    if (/^\?\w/.test(token)) return findingAt(text, at(), `templates are not accepted, and ${token} makes this one`, NO_SLOT)
  }
  return empty ? startOf(text, 'the policy text is empty', 'write at least one permit or forbid') : undefined
}

function unparsable(text: string): Finding | undefined {
  const parsed = checker.attempt(cedar => cedar.checkParsePolicySet({ staticPolicies: text }))
  if (!parsed.ok) return startOf(text, 'the policy is nested too deeply to be read')
  if (parsed.value.type === 'success') return undefined
  const [error] = parsed.value.errors
  const message = (error?.message ?? 'the policy cannot be read').replace(/^failed to parse policies from string: /, '')
  return findingAt(text, error?.sourceLocations?.[0] ?? { start: 0, end: 0 }, message, error?.help)
}

// Cedar gives the parts sorted by the text of their ids, so policy10 comes before policy2: put them back in the order of the text.
function partsOf(text: string): readonly string[] | undefined {
  const parts = checker.attempt(cedar => cedar.policySetTextToParts(text))
  if (!parts.ok || parts.value.type !== 'success') return undefined
  const sorted = parts.value.policies
  const places = sorted.map((_, index) => `policy${index}`).sort()
  return sorted.map((_, index) => sorted[places.indexOf(`policy${index}`)] ?? '')
}

function placeOf(part: string, text: string): Span {
  const from = Math.max(0, text.indexOf(part))
  return spanOf(text, from, from + part.length)
}

function readStatement(policy: string, text: string): Statement | string {
  const parsed = checker.attempt(cedar => cedar.policyToJson(text))
  if (!parsed.ok || parsed.value.type !== 'success') return TOO_LONG
  const { effect, conditions, annotations } = parsed.value.json
  if (deeper(conditions, 2 * (MAX_OPERATORS + OUTER - conditions.length))) return TOO_LONG
  const { id, reason } = { id: annotations?.['id'], reason: annotations?.['reason'] }
  if ([id, reason].some(note => (note?.length ?? 0) > MAX_ANNOTATION))
    return `@id and @reason have at most ${MAX_ANNOTATION} characters`
  return { policy, text, effect, ...(id ? { id } : {}), ...(reason ? { reason } : {}) }
}

const TOO_LONG = `an expression chains more than ${MAX_OPERATORS} operators; a set with contains says the same in one`

// Cedar's JSON form has two levels for each operator, and three operators' worth around the first and inside the last.
// `has a.b.c` is one operator there, but evaluated as a chain. Stops at the limit, so as not to overflow our own stack.
const OUTER = 3

function deeper(value: unknown, room: number): boolean {
  if (typeof value !== 'object' || value === null) return false
  const path = 'attr' in value && Array.isArray(value.attr) ? 2 * value.attr.length : 0
  return room < path || Object.values(value).some(child => deeper(child, room - 1))
}

const startOf = (text: string, message: string, help?: string): Finding => findingAt(text, { start: 0, end: 0 }, message, help)

const refuse = (text: string, message: string, help?: string): Dissection => ({
  ok: false,
  errors: [startOf(text, message, help)],
})

/** Cedar's form of a set of policies. */
export const textsOf = (statements: Iterable<Statement>): Record<string, string> =>
  Object.fromEntries(Array.from(statements, ({ policy, text }) => [policy, text]))
