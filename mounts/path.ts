import { hasTooManyPairs } from './query.ts'

/** A request's path, read once. What is matched, what Vault is asked about and what is sent on are all read off this value. */
export type CanonicalPath = {
  /** below `/v1/` */
  readonly api: boolean
  /** decoded, without `/v1/` and without a slash at either end: `broker/creds/deploy` */
  readonly path: string
  /** the decoded segments of `path`; none of them holds a slash */
  readonly segments: readonly string[]
  /** the client ended the path with a slash */
  readonly trailingSlash: boolean
  /** as the client sent it, without the `?`; empty when there is none */
  readonly query: string
  /** path and query, encoded again: what is sent on to Vault */
  readonly target: string
}

export type Canonical =
  | { readonly ok: true; readonly path: CanonicalPath }
  | { readonly ok: false; readonly status: 400 | 404; readonly message: string }
  | { readonly ok: false; readonly status: 307; readonly location: string }

const refuse = (message: string): Canonical => ({ ok: false, status: 400, message })
const ABSENT: Canonical = { ok: false, status: 404, message: '' }

/** First segments outside `/v1/`, whose they are and whether there is anything below them. Everything else is absent, as at Vault. */
const ROOTS: Readonly<Record<string, { readonly vaults: boolean; readonly tree: boolean }>> = {
  '': { vaults: true, tree: false },
  ui: { vaults: true, tree: true },
  '.well-known': { vaults: true, tree: true },
  'robots.txt': { vaults: true, tree: false },
  metrics: { vaults: false, tree: false },
  healthz: { vaults: false, tree: false },
  readyz: { vaults: false, tree: false },
  // pages for people
  assay: { vaults: false, tree: true },
}

/** Whether a path that is not ours is there at Vault. */
export function belongsToVault({ api, segments }: CanonicalPath): boolean {
  return api || rootOf(segments)?.vaults === true
}

/** Whether a request can name a mount there: without slashes at the ends. */
export function isMountPath(path: string): boolean {
  if (!path.isWellFormed()) return false
  const known = canonicalise(`/v1/${path.split('/').map(encodeURIComponent).join('/')}`)
  return known.ok && known.path.path === path
}

/** Reads the target of a request line (RFC 9112, 3.2.1: origin-form), or refuses it.
 *
 *  Vault decodes the whole path before it routes, so to Vault `broker%2Fcreds/x` is `broker/creds/x`, and clients that are made from its
 *  OpenAPI document send paths so: it is read, matched and sent on as that. What could be read in two ways has no reading at all:
 *  backslashes, `.` and `..`, empty segments, what is not printable. Everything is decoded once, exactly as Go's net/url does it, and
 *  nothing is decoded again after that. */
export function canonicalise(target: string): Canonical {
  return elsewhere(target) ?? read(target)
}

/** Bare slashes that follow each other lead to the path without them, as at Vault, whose router answers so: who lists all of a mount by
 *  such a client asks for `kv/metadata//`. */
function elsewhere(target: string): Canonical | undefined {
  const [path, query] = cut(target, '?')
  if (!path.startsWith('/v1/') || !path.includes('//')) return undefined
  const known = read(`${path.replaceAll(/\/{2,}/g, '/')}${query && `?${query}`}`)
  return known.ok ? { ok: false, status: 307, location: known.path.target } : known
}

function read(target: string): Canonical {
  if (!target.startsWith('/')) return refuse('the request target must be a path')
  if (/[^!-~]|#/.test(target)) return refuse('the request target may hold printable ASCII only, everything else percent-encoded')
  const [encoded, query] = cut(target, '?')
  if (hasTooManyPairs(query)) return refuse('the query holds too many parameters')
  const segments: string[] = []
  for (const part of encoded.slice(1).split('/')) {
    if (PLAIN.test(part)) {
      segments.push(part)
      continue
    }
    const decoded = decode(part)
    if (decoded === undefined) return refuse('the path is not well-formed UTF-8 in percent-encoding')
    // by Vault's router as well, only what is below `/v1/` is decoded as a whole
    if (segments[0] !== 'v1' && decoded.includes('/')) return refuse('the path holds an encoded slash outside of /v1/')
    segments.push(...decoded.split('/'))
  }
  const trailingSlash = segments.at(-1) === ''
  if (trailingSlash) segments.pop()
  const fault = segments.map(faultIn).find(Boolean)
  return fault ? refuse(fault) : place(segments, trailingSlash, query)
}

function place(decoded: readonly string[], trailingSlash: boolean, query: string): Canonical {
  const [root = '', ...rest] = decoded
  const api = root === 'v1' && (rest.length > 0 || trailingSlash)
  const known = rootOf(decoded)
  if (!api && (!known || (rest.length > 0 && !known.tree))) return ABSENT
  const segments = api ? rest : decoded
  const slash = trailingSlash && decoded.length > 0 ? '/' : ''
  const target = `/${decoded.map(encode).join('/')}${slash}${query && `?${query}`}`
  return { ok: true, path: { api, path: segments.join('/'), segments, trailingSlash, query, target } }
}

function rootOf([root = '']: readonly string[]): (typeof ROOTS)[string] | undefined {
  return Object.hasOwn(ROOTS, root) ? ROOTS[root] : undefined
}

/** Nearly all segments: without a fault, and the same decoded and encoded. */
const PLAIN = /^[\w~-][\w.~-]*$/

/** Percent-decoding of one segment; undefined when an escape is broken or the bytes are not UTF-8. A plus sign is a plus sign. */
function decode(segment: string): string | undefined {
  try {
    return decodeURIComponent(segment)
  } catch {
    return undefined
  }
}

/** Letters, marks, numbers, punctuation, symbols and the ASCII space: what Go calls printable, and Vault lets into a path. */
const UNPRINTABLE = /[^\p{L}\p{M}\p{N}\p{P}\p{S} ]/u

function faultIn(segment: string): string | undefined {
  if (PLAIN.test(segment)) return undefined
  if (segment === '') return 'the path holds an empty segment'
  if (segment === '.' || segment === '..') return 'the path holds a relative segment'
  if (segment.includes('\\')) return 'the path holds a backslash'
  if (UNPRINTABLE.test(segment)) return 'the path holds a character that is not printable'
  return undefined
}

/** These mean nothing within a segment and clients send them bare (RFC 3986, 3.3: pchar), so they go on bare. */
const BARE = /%(?:24|26|2B|2C|3A|3B|3D|40)/g

function encode(segment: string): string {
  return PLAIN.test(segment) ? segment : encodeURIComponent(segment).replace(BARE, decodeURIComponent)
}

function cut(text: string, separator: string): readonly [string, string] {
  const at = text.indexOf(separator)
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)]
}
