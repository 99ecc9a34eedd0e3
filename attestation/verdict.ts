import type { Refusal } from './refusals.ts'

/** What a check on hostile input says: the value it established, or why it refused. `detail` is for the audit log, never for an unauthenticated caller. */
export type Verdict<T, Code extends string = Refusal> = { readonly ok: true; readonly value: T } | Rejection<Code>
export type Rejection<Code extends string = Refusal> = { readonly ok: false; readonly code: Code; readonly detail: string }

export const accept = <T>(value: T): { readonly ok: true; readonly value: T } => ({ ok: true, value })
export const reject = <Code extends string>(code: Code, detail: string): Rejection<Code> => ({ ok: false, code, detail })

/** All values, or the first refusal. */
export function allOf<T, Code extends string>(verdicts: readonly Verdict<T, Code>[]): Verdict<T[], Code> {
  const values: T[] = []
  for (const verdict of verdicts) {
    if (!verdict.ok) return verdict
    values.push(verdict.value)
  }
  return accept(values)
}

/** Why what was thrown says that it was, for the detail of a rejection. */
export const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : 'no reason given')
