import { createHash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { checker, decider } from './cedar.ts'
import { schemaFor, vocabulary } from './schema.ts'
import { shelf } from './shelf.ts'
import { dissect, type Statement, textsOf } from './statements.ts'

export type NamedPolicy = { readonly name: string; readonly text: string }

/** The policies of a mount, ready to decide. */
export type Compiled = {
  /** `sha256-<hex>` over the policies and the vocabulary: equal versions decide equally. */
  readonly version: string
  readonly schema: string
  readonly actions: ReadonlySet<string>
  /** By the name that decisions use, `<name>#<n>`; in the order of the names, then of the text. */
  readonly statements: ReadonlyMap<string, Statement>
  /** Why these policies cannot decide: any one makes every decision POLICY_ERROR, since leaving one policy out could leave out a `forbid`. */
  readonly problems: readonly string[]
}

/** Makes policies ready to decide. They were checked when they were written, but the vocabulary may have changed since:
 *  what no longer fits is told in `problems`, and nothing is permitted until it is put right.
 *  @throws BrokerError `bad_request` for a vocabulary that `schemaFor` refuses; Error when two policies have one name */
export function compile(policies: readonly NamedPolicy[], actions: readonly string[]): Compiled {
  const ordered = [...policies].sort((a, b) => (a.name < b.name ? -1 : 1))
  if (new Set(ordered.map(policy => policy.name)).size < ordered.length) throw new Error('two policies have one name')
  const version = versionOf(ordered, vocabulary(actions))
  const compiled = recent.get(version) ?? build(version, ordered, actions)
  if (compiled.problems.length === 0) recent.set(version, compiled)
  return compiled
}

// Stores are read again every few seconds and mostly say what they said before. Problems are looked for anew.
const recent = new LRUCache<string, Compiled>({ max: 16 })

function build(version: string, ordered: readonly NamedPolicy[], actions: readonly string[]): Compiled {
  const schema = schemaFor(actions)
  const { statements, problems } = gather(ordered)
  const compiled: Compiled = {
    version,
    schema,
    actions: new Set(actions),
    statements: new Map(statements.map(statement => [statement.policy, statement])),
    problems: problems.length > 0 ? problems : invalid(statements, schema),
  }
  return compiled.problems.length > 0 ? compiled : parsed(compiled)
}

function versionOf(ordered: readonly NamedPolicy[], actions: readonly string[]): string {
  const content = JSON.stringify([actions, ordered.map(({ name, text }) => [name, text])])
  return `sha256-${createHash('sha256').update(content).digest('hex')}`
}

function gather(policies: readonly NamedPolicy[]): { statements: Statement[]; problems: string[] } {
  const statements: Statement[] = []
  const problems: string[] = []
  for (const { name, text } of policies) {
    const parts = dissect(name, text)
    if (parts.ok) statements.push(...parts.statements)
    else problems.push(...parts.errors.map(error => `policy ${name}, line ${error.line}: ${error.message}`))
  }
  return { statements, problems }
}

function invalid(statements: readonly Statement[], schema: string): string[] {
  const validated = checker.attempt(cedar => cedar.validate({ schema, policies: { staticPolicies: textsOf(statements) } }))
  if (!validated.ok) return ['the policies are too complex to be validated']
  const answer = validated.value
  const errors = answer.type === 'failure' ? answer.errors : answer.validationErrors.map(({ error }) => error)
  return [...new Set(errors.map(error => error.message))].sort()
}

// Parsing now rather than at the first decision: whoever changes a policy waits for it, not whoever asks next.
function parsed(compiled: Compiled): Compiled {
  const kept = decider.attempt(cedar => shelf.keep(cedar, compiled))
  return kept.ok ? compiled : { ...compiled, problems: ['the policies are too complex to be evaluated'] }
}
