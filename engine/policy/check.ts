import { checker } from './cedar.ts'
import { schemaFor } from './schema.ts'
import { type Finding, findingAt, type Span } from './source.ts'
import { dissect, type Statement } from './statements.ts'

export type Check =
  | { readonly ok: true; readonly statements: readonly Statement[]; readonly warnings: readonly Finding[] }
  | { readonly ok: false; readonly errors: readonly Finding[] }

const MAX_FINDINGS = 20

/** Checks a policy before it is stored: size, shape, syntax, then strict validation against the schema of the mount.
 *  Warnings are about policies that can be stored but do nothing, or that mislead the eye.
 *  @param name names the policy's statements, `<name>#<n>`
 *  @param text Cedar policies, at most 64 KiB, 100 statements, no templates
 *  @param actions the mount's vocabulary
 *  @throws BrokerError `bad_request` for a vocabulary that `schemaFor` refuses */
export function checkPolicy(name: string, text: string, actions: readonly string[]): Check {
  const schema = schemaFor(actions)
  const parts = dissect(name, text)
  if (!parts.ok) return parts
  const validated = checker.attempt(cedar => cedar.validate({ schema, policies: { staticPolicies: text } }))
  if (!validated.ok)
    return { ok: false, errors: [findingAt(text, { start: 0, end: 0 }, 'the policy is too complex to be validated')] }
  const answer = validated.value
  if (answer.type === 'failure')
    return {
      ok: false,
      errors: findings(
        text,
        answer.errors.map(error => ({ error })),
      ),
    }
  if (answer.validationErrors.length > 0) return { ok: false, errors: findings(text, answer.validationErrors) }
  return { ok: true, statements: parts.statements, warnings: findings(text, answer.validationWarnings) }
}

type Remark = {
  readonly error: { readonly message: string; readonly help: string | null; readonly sourceLocations?: readonly Span[] }
}

// Cedar repeats itself for every action a statement applies to, in no fixed order; a place needs to be named once.
function findings(text: string, remarks: readonly Remark[]): Finding[] {
  const distinct = new Map<string, { span: Span; message: string; help: string | null }>()
  for (const { error } of remarks) {
    const { start, end } = error.sourceLocations?.[0] ?? { start: 0, end: 0 }
    const message = error.message
      .replace(/^for policy `policy\d+`, /, '')
      .replace(/(?: in context)? for Action::"[^"]*"/, ' in context')
    distinct.set(JSON.stringify([start, message]), { span: { start, end }, message, help: error.help })
  }
  return [...distinct.values()]
    .sort((a, b) => a.span.start - b.span.start || (a.message < b.message ? -1 : 1))
    .slice(0, MAX_FINDINGS)
    .map(({ span, message, help }) => findingAt(text, span, message, help))
}
