import { BrokerError } from '#engine'

type Data = Readonly<Record<string, unknown>>
type Sent = { readonly segments: readonly string[]; readonly data: Data }

/** Clients that know Vault's own methods send all of the evidence in one field, in the way of the method that they take this one for:
 *  `{role, jwt}` to `login` (`jwt` of Vault Agent), `{password}` to `login/ROLE` (`userpass` of the CLI and of libraries). Either is the
 *  login that `assay agent evidence` prepared; anything else stays as it is.
 *  @throws BrokerError bad_request when the field holds something else */
export function fromStockLogin({ segments, data }: Sent): Sent {
  const [login, role = data['role'], ...rest] = segments
  const folded = segments.length === 1 ? data['jwt'] : data['password']
  if (login !== 'login' || rest.length > 0 || typeof folded !== 'string') return { segments, data }
  return { segments: ['login'], data: { ...unfolded(folded), ...(role === undefined ? {} : { role }) } }
}

function unfolded(folded: string): Data {
  try {
    const value: unknown = JSON.parse(Buffer.from(folded.trim(), 'base64url').toString('utf8'))
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Data
  } catch {
    // told below
  }
  throw new BrokerError('bad_request', 'wanted what `assay agent evidence` prints')
}
