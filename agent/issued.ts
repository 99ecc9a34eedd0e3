import type { Reply } from './client.ts'
import { dataOf, member, positive, text } from './replies.ts'

/** A credential, as the broker says it. */
export type Issued = {
  /** empty for a credential of several parts, such as a user name and a password: they are in `data` */
  readonly token: string
  readonly expiresInSeconds: number
  /** how soon the broker wants a sign of life; undefined when it wants none */
  readonly beatWithinSeconds: number | undefined
  readonly warnings: readonly string[]
  readonly data: object
  readonly reply: Reply
}

export function issuedOf(reply: Reply): Issued {
  const data = dataOf(reply)
  const within = member(data, 'beat_within')
  return {
    token: member(data, 'token') === undefined && Object.keys(data).some(isPart) ? '' : text(data, 'token'),
    expiresInSeconds: positive(data, 'expires_in'),
    beatWithinSeconds: typeof within === 'number' && within > 0 ? within : undefined,
    warnings: Array.isArray(reply['warnings']) ? reply['warnings'].filter(one => typeof one === 'string') : [],
    data,
    reply,
  }
}

/** What the broker says of every credential; what else is there is the credential. */
const ABOUT = new Set(
  'token_type expires_in expires_at scope plugin action audience kid jti txn beat_within destinations'.split(' '),
)
const isPart = (name: string) => !ABOUT.has(name)
