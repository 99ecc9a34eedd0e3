import type { Caller, Fields, Identified, Mount, Values, VaultReply } from '#engine'

/** What may be asked of a path, in the words of Vault's logical requests. A `create` is an `update` of what does not exist yet. */
export type Operation = 'read' | 'update' | 'delete' | 'list'

/** A logical request that has been authorised and parsed. */
export type Request<F extends Fields> = {
  readonly mount: Mount
  readonly values: Values<F>
  /** what the client sent, without what the fields fill in */
  readonly given: Partial<Values<F>>
  readonly caller: Caller
  /** who the token belongs to; there when the row asks for it by `identify`, and then `permitted` is the row's to await */
  readonly identified: Identified | undefined
  /** correlation id: in the reply, in the audit log, in what is issued */
  readonly txn: string
  /** the address that it came from */
  readonly from: string
  /** `X-Vault-Wrap-TTL`, when the reply shall be wrapped */
  readonly wrapTtl: string | undefined
}

/** A logical reply: `data` goes into Vault's envelope, `vault` is Vault's own reply, `bare` goes out as it is. Undefined is "done, nothing to say". */
export type Reply =
  | { readonly data: object; readonly warnings?: readonly string[]; readonly lease?: ReplyLease | undefined }
  | { readonly vault: VaultReply }
  | { readonly bare: object }
  | undefined

/** What `vault lease` knows the data by. */
export type ReplyLease = { readonly id: string; readonly durationSeconds: number; readonly renewable: boolean }

export type Run<F extends Fields> = (request: Request<F>) => Promise<Reply>

/** A path and everything about it: routing, access, help and documentation are read off this row. */
export type Path<F extends Fields = Fields> = {
  /** segments; `:name` takes one segment, which is parsed by the field of that name */
  readonly pattern: string
  readonly help: { readonly synopsis: string; readonly description: string }
  /** no token is looked at */
  readonly unauthenticated?: true
  /** the row wants to know who asks, and awaits itself whether they may */
  readonly identify?: true
  /** how large a body may be that is larger than others */
  readonly bodyBytes?: number
  /** the operations of the row write their own audit records, in an order that matters */
  readonly audits?: 'itself'
  readonly fields: F
  /** tells `create` from `update`; absent where there is no difference */
  readonly exists?: (request: { readonly mount: Mount; readonly values: Values<F> }) => Promise<boolean>
  readonly operations: Partial<Readonly<Record<Operation, { readonly summary: string; readonly run: Run<F> }>>>
}

/** Keeps the types of a row's fields together with its operations. */
export function path<F extends Fields>(row: Path<F>): Path {
  return row as unknown as Path
}

/** Finds the row of a path within its mount, with the segments that `:name` took.  */
export function match(
  rows: readonly Path[],
  segments: readonly string[],
): { row: Path; params: Readonly<Record<string, string>> } | undefined {
  for (const row of rows) {
    const params = take(row.pattern.split('/'), segments)
    if (params) return { row, params }
  }
  return undefined
}

const MAX_SEGMENT = 512

function take(pattern: readonly string[], segments: readonly string[]): Readonly<Record<string, string>> | undefined {
  if (pattern.length !== segments.length) return undefined
  const params: Record<string, string> = {}
  for (const [index, part] of pattern.entries()) {
    const segment = segments[index] ?? ''
    if (part.startsWith(':') && segment.length <= MAX_SEGMENT) params[part.slice(1)] = segment
    else if (part !== segment) return undefined
  }
  return params
}
