import type { Cedar } from './cedar.ts'
import { checker } from './cedar.ts'
import type { Compiled } from './compile.ts'
import { type Decision, decide } from './decide.ts'
import { admit, type Call } from './request.ts'
import type { PolicyRequest } from './schema.ts'
import { type Statement, textsOf } from './statements.ts'

/** A decision with what led to it, for an operator who simulates a request. Statements go by the names that decisions use. */
export type Explanation = {
  readonly decision: Decision
  readonly version: string
  /** Statements that permit this request, also when another one forbids it. */
  readonly permits: readonly string[]
  readonly forbids: readonly string[]
  /** Statements that failed on it. */
  readonly failed: readonly string[]
  /** Statements that have nothing to say about it. */
  readonly silent: readonly string[]
  /** The request as the policies saw it; null when it was refused before they did. */
  readonly request: Call | null
}

/** What `decide` says, and why. Parses all policies again, so it is not for every request. Never throws. */
export function explain(compiled: Compiled, request: PolicyRequest): Explanation {
  const admitted = admit(request, compiled)
  const call = admitted.ok ? admitted.call : null
  const statements = compiled.problems.length > 0 ? [] : [...compiled.statements.values()]
  const { permits, forbids, failed } = call ? sides(statements, call) : NOTHING
  const spoke = new Set([...permits, ...forbids, ...failed])
  const silent = statements.map(({ policy }) => policy).filter(policy => !spoke.has(policy))
  return { decision: decide(compiled, request), version: compiled.version, permits, forbids, failed, silent, request: call }
}

const NOTHING: Pick<Explanation, 'permits' | 'forbids' | 'failed'> = { permits: [], forbids: [], failed: [] }

// Cedar names only the side that decides, so each side is asked alone.
function sides(statements: readonly Statement[], call: Call): typeof NOTHING {
  const asked = checker.attempt(cedar => {
    const [permits, forbids] = (['permit', 'forbid'] as const).map(effect =>
      askOne(
        cedar,
        statements.filter(one => one.effect === effect),
        call,
      ),
    )
    return {
      permits: permits?.applied ?? [],
      forbids: forbids?.applied ?? [],
      failed: [...(permits?.failed ?? []), ...(forbids?.failed ?? [])],
    }
  })
  return asked.ok ? asked.value : NOTHING
}

function askOne(cedar: Cedar, statements: readonly Statement[], call: Call): { applied: string[]; failed: string[] } {
  const answer = cedar.isAuthorized({ ...call, policies: { staticPolicies: textsOf(statements) } })
  if (answer.type === 'failure') return { applied: [], failed: [] }
  const { reason, errors } = answer.response.diagnostics
  const failed = errors.map(({ policyId }) => policyId)
  const among = (named: readonly string[]) => statements.map(({ policy }) => policy).filter(policy => named.includes(policy))
  return { applied: among(reason), failed: among(failed) }
}
