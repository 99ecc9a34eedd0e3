import { createHash } from 'node:crypto'
import type { Mount } from '../mount_table.ts'
import type { Secret } from '../secret.ts'
import type { TokenFacts } from '../vault/authority.ts'

/** Who asks, and what makes two of their requests the same. */
export type Asker = {
  readonly token: Secret
  readonly accessor: string
  /** name of the role, as it was asked */
  readonly role: string
  /** the token had one use, and it is spent */
  readonly lastUse: boolean
  readonly request: string
}

type Sent = {
  readonly role: string
  readonly token: Secret
  readonly taskToken: Secret | undefined
  readonly evidence: { readonly challenge: Buffer } | undefined
}

/** Everything that the client sent, and who it is: the clients of Vault send a request again when they heard nothing, and do not say so. A quote
 *  answers one challenge, so a request with a quote is like no other. */
export function askerOf(mount: Mount, { accessor, numUses }: TokenFacts, request: Sent): Asker {
  const { token, taskToken, evidence, ...asked } = request
  const parts = [mount.id, accessor, token.reveal(), taskToken?.reveal() ?? '', evidence?.challenge.toString('base64') ?? '']
  const text = JSON.stringify([...parts, Object.entries(asked).toSorted(([a], [b]) => (a < b ? -1 : 1))])
  return {
    token,
    accessor,
    role: request.role,
    lastUse: numUses === 1,
    request: createHash('sha256').update(text).digest('base64url'),
  }
}
