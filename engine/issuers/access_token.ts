import { decodeJwt } from 'jose'

export type Claims = Readonly<Record<string, unknown>>

/** What an access token says of itself, where it is a JWT (RFC 9068): its signature is for whom it is for. Undefined of one that cannot be read: there we
 *  have the word of the server. */
export function claimsIn(token: string): Claims | undefined {
  try {
    return decodeJwt(token)
  } catch {
    return undefined
  }
}

/** Clocks of servers may be ahead of ours by so much. */
const SKEW_SECONDS = 60

/** Seconds that a token lives: what the server says beside it, unless its own end is later than clocks differ.
 *  @param now milliseconds since the epoch */
export function lifeOf({ exp }: Claims, expiresIn: number, now: number): number {
  const left = typeof exp === 'number' ? Math.ceil(exp - now / 1000) : 0
  return left > expiresIn + SKEW_SECONDS ? left : expiresIn
}

/** Scopes of a token that nobody asked for. `scope` is that of RFC 8693, 4.2; `scp` that of Okta and Entra, which leaves out the resource that a name belongs
 *  to, and gives for `<resource>/.default` whatever of the resource there is. */
export function notAsked({ scope, scp }: Claims, asked: readonly string[]): readonly string[] {
  const isNamed = (one: string) => asked.some(name => name === one || name.endsWith(`/${one}`) || name.endsWith('/.default'))
  return [...namesIn(scope).filter(one => !asked.includes(one)), ...namesIn(scp).filter(one => !isNamed(one))]
}

/** Some servers write a list. */
function namesIn(scope: unknown): readonly string[] {
  const names = typeof scope === 'string' ? scope.split(' ') : Array.isArray(scope) ? scope.map(textOf) : []
  return names.filter(one => one !== '')
}

/** What is no text is the name of nothing. */
const textOf = (name: unknown) => (typeof name === 'string' ? name : '?')

/** Audiences of a token that nobody asked for. */
export function notFor({ aud }: Claims, asked: string): readonly string[] {
  const all = Array.isArray(aud) ? aud.map(textOf) : typeof aud === 'string' ? [aud] : []
  return all.filter(one => one !== asked)
}
