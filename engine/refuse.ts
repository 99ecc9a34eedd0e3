import { type Audit, type AuditFields, type Hashed, plain } from './audit/index.ts'
import { BrokerError } from './errors.ts'
import type { Metrics } from './metrics.ts'
import { refusals, type Verdict } from './refusals.ts'

/** Where a refusal happened, for the audit log. */
export type Place = {
  readonly txn: string
  readonly operation: string
  readonly mount: string
  /** hashed when whoever was refused chose its text */
  readonly path: string | Hashed
  readonly fields?: AuditFields
}

/** Turns a verdict into its value, or records the refusal and throws it. `told` is what the caller learns: an unauthenticated one
 *  only that it was refused and where an operator finds the reason, an authenticated one the reason and what to do next. */
export type Settle = <T>(verdict: Verdict<T>, place: Place, told: 'nothing' | 'reason') => T

export function openSettle(audit: Audit, metrics: Metrics): Settle {
  return (verdict, place, told) => {
    if (verdict.ok) return verdict.value
    const { code, detail } = verdict
    metrics.refusals.inc({ code })
    audit.appendLazy({ type: 'refusal', ...place, fields: { ...place.fields, code: plain(code), detail: plain(detail) } })
    const { means, next } = refusals[code]
    const message = told === 'reason' ? `${code}: ${means} (${detail}): ${next}` : 'the evidence was refused'
    throw new BrokerError('permission_denied', `${message}; correlation id ${place.txn}`)
  }
}
