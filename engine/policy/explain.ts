import { type Cedar, checker } from './cedar.ts'
import type { Compiled } from './compile.ts'
import { admit, type Call } from './request.ts'
import type { PolicyRequest } from './schema.ts'
import { type Statement, textsOf } from './statements.ts'

/** What policies say of a request, for an operator who simulates it. Statements go by the names that decisions use. */
export type Explanation = {
  /** Statements that permit this request, also when another one forbids it. */
  readonly permits: readonly string[]
  readonly forbids: readonly string[]
  /** The request as the policies saw it; null when it was refused before they did. */
  readonly request: Call | null
}

/** What led to the decision of `decide`. Parses all policies again, so it is not for every request. Never throws. */
export function explain(compiled: Compiled, request: PolicyRequest): Explanation {
  const admitted = admit(request, compiled)
  if (!admitted.ok) return { permits: [], forbids: [], request: null }
  const { call } = admitted
  const statements = compiled.problems.length > 0 ? [] : [...compiled.statements.values()]
  const of = (effect: Statement['effect']) => statements.filter(one => one.effect === effect)
  // Cedar names only the side that decides, so each side is asked alone
  const asked = checker.attempt(cedar => ({
    permits: applied(cedar, of('permit'), call),
    forbids: applied(cedar, of('forbid'), call),
  }))
  return { ...(asked.ok ? asked.value : { permits: [], forbids: [] }), request: call }
}

/** Which of them have something to say about it. */
function applied(cedar: Cedar, statements: readonly Statement[], call: Call): readonly string[] {
  const answer = cedar.isAuthorized({ ...call, policies: { staticPolicies: textsOf(statements) } })
  if (answer.type === 'failure') return []
  const { reason } = answer.response.diagnostics
  return statements.map(({ policy }) => policy).filter(policy => reason.includes(policy))
}
