import type { Refusal } from './refusals.ts'

/** What a check on hostile input says: the value it established, or why it refused. `detail` is for the audit log, never for an unauthenticated caller. */
export type Verdict<T, Code extends string = Refusal> = { readonly ok: true; readonly value: T } | Rejection<Code>
export type Rejection<Code extends string = Refusal> = { readonly ok: false; readonly code: Code; readonly detail: string }

export const accept = <T>(value: T): { readonly ok: true; readonly value: T } => ({ ok: true, value })
export const reject = <Code extends string>(code: Code, detail: string): Rejection<Code> => ({ ok: false, code, detail })
