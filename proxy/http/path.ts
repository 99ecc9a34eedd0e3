/** Paths that need no second look: no percent, no dot segment, no empty segment but a last one. */
const PLAIN = /^(?:\/(?!\.{1,2}(?:\/|$))[A-Za-z0-9\-._~!$&'()*+,=:@]+)*\/?$/
/** What a path may hold at all: RFC 3986, 3.3, without the semicolon, which some servers cut parameters at. */
const ALLOWED = /^\/(?:[A-Za-z0-9\-._~!$&'()*+,=:@/]|%[0-9A-Fa-f]{2})*$/
/** Encoded dots, slashes, backslashes and NUL: what a second decoding would make a path of its own. Ends of lines: an expression of PCRE or Python that ends
 *  with `$` takes `/token%0A` for `/token`. */
const HIDDEN = /%(?:2e|2f|5c|0[0ad])/i
const QUERY = /^(?:\?[\x21-\x7e]*)?$/

/** Dot segments, also for servers that decode again what was decoded, and cut parameters off then. */
const DOTTED = /(?:\/|%(?:25)+(?:2f|5c))(?:\.|%(?:25)+2e){1,2}(?:\/|$|%(?:25)*(?:3b|2f|5c))/i

/** The path in the one spelling that is matched and sent; undefined when it can be read in more than one way. */
function canonicalPath(path: string): string | undefined {
  if (PLAIN.test(path)) return path === '' ? undefined : path
  if (!ALLOWED.test(path) || HIDDEN.test(path) || path.includes('//')) return undefined
  const spelled = path.replace(/%[0-9A-Fa-f]{2}/g, spell)
  return DOTTED.test(spelled) ? undefined : spelled
}

/** Unreserved characters stand for themselves, the rest has upper-case digits (RFC 3986, 6.2.2). */
function spell(encoded: string): string {
  const character = String.fromCharCode(Number.parseInt(encoded.slice(1), 16))
  return /[A-Za-z0-9\-_~]/.test(character) ? character : encoded.toUpperCase()
}

/** Path and query (with its question mark) of an origin-form target; undefined when either cannot be sent on as it is. */
export function splitTarget(target: string): { readonly path: string; readonly query: string } | undefined {
  const at = target.indexOf('?')
  const path = canonicalPath(at < 0 ? target : target.slice(0, at))
  const query = at < 0 ? '' : target.slice(at)
  return path === undefined || !QUERY.test(query) || query.includes('#') ? undefined : { path, query }
}
