import { LRUCache } from 'lru-cache'

/** Where a request goes: made once, and the only thing that checks, DNS, dialling, SNI, `Host` and audit read. */
export type Destination = {
  readonly scheme: string
  /** lower case, ASCII, without a dot at the end; an IPv6 address in brackets */
  readonly host: string
  readonly port: number
  readonly method: string
  /** canonical, without the query */
  readonly path: string
}

/** What a token is sealed to: one rule of where it may go. */
export type DestinationRule = {
  readonly scheme: string
  readonly host: string
  readonly port: number
  /** upper case; empty means any */
  readonly methods: readonly string[]
  /** segments: `{name}` stands for one of them, `**` at the end for any number */
  readonly path: string
}

/** Rules of one token, and characters of one rule. */
export const MOST_RULES = 64
export const LONGEST_RULE = 2048

const PORTS: Readonly<Record<string, number>> = { https: 443, http: 80, postgres: 5432, ssh: 22 }
/** What the parser of requests takes for one. */
export const METHODS: readonly string[] = (
  'ACL BIND CHECKOUT CONNECT COPY DELETE GET HEAD LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL MOVE NOTIFY OPTIONS PATCH POST PROPFIND ' +
  'PROPPATCH PURGE PUT QUERY REBIND REPORT SEARCH SOURCE SUBSCRIBE TRACE UNBIND UNLINK UNLOCK UNSUBSCRIBE'
).split(' ')
const RULE = /^(?:([A-Z]+(?:,[A-Z]+)*) )?([a-z]+):\/\/([^/?#@\s]+)(\/[^?#\s]*)?$/

/** Reads `GET,POST https://api.example.com/v1/items/{id}/**`; without methods any, without a path every path.
 *  Undefined when it is not in this form, or its host or path is not canonical. */
export function parseRule(text: string): DestinationRule | undefined {
  const [, methods, scheme = '', authority = '', path = '/**'] = RULE.exec(text) ?? []
  const place = parseAuthority(authority, PORTS[scheme] ?? 0)
  const listed = methods?.split(',').toSorted() ?? []
  // a misspelt one would let nothing through, or, among what is refused, everything
  if (!place || !isTemplate(path) || !listed.every(method => METHODS.includes(method))) return undefined
  return { scheme, ...place, methods: listed, path }
}

/** The same rule in one spelling. */
export function ruleText({ scheme, host, port, methods, path }: DestinationRule): string {
  const place = port === PORTS[scheme] ? host : `${host}:${port}`
  return `${methods.length > 0 ? `${methods.join(',')} ` : ''}${scheme}://${place}${path}`
}

/** A name or an address, and nothing that stands for several. */
const HOST = /^(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])$/

/** Reads `host` or `host:port` into the one spelling that is compared and dialled, as the URL standard spells hosts: `2130706433` is 127.0.0.1.
 *  Undefined when it is anything else. */
export function parseAuthority(text: string, defaultPort: number): { readonly host: string; readonly port: number } | undefined {
  const [, name = '', port] = /^(\[[0-9A-Fa-f:.]+\]|[^:[\]/?#@\\%\s]+)(?::(\d{1,5}))?$/.exec(text) ?? []
  const number = port === undefined ? defaultPort : Number(port)
  const host = name === '' ? '' : (URL.parse(`http://${name}/`)?.hostname.replace(/\.$/, '') ?? '')
  if (!HOST.test(host) || host.endsWith('.') || number < 1 || number > 65_535) return undefined
  return { host, port: number }
}

/** Whether the rule admits the destination. */
export function admits(rule: DestinationRule, to: Destination): boolean {
  const there = rule.scheme === to.scheme && rule.host === to.host && rule.port === to.port
  return there && (rule.methods.length === 0 || rule.methods.includes(to.method)) && fits(rule.path, to.path)
}

/** Whether a canonical path fits the template. */
function fits(template: string, path: string): boolean {
  const known = patterns.get(template)
  if (known) return known.test(path)
  const pattern = patternOf(template)
  patterns.set(template, pattern)
  return pattern.test(path)
}

/** Tokens bring the same few again and again. */
const patterns = new LRUCache<string, RegExp>({ max: 1000 })

/** What fits a template: a slot takes one segment that is there, `**` at the end whatever follows. */
export function patternOf(template: string): RegExp {
  const segments = template.split('/').map((want, at, { length }) => {
    if (want === '**' && at === length - 1) return '.*'
    return want.startsWith('{') ? '[^/]+' : RegExp.escape(want)
  })
  return new RegExp(`^${segments.join('/')}$`, 's')
}

const SEGMENT = /^(?:[A-Za-z0-9._~!$&'()+,=:@-]|%[0-9A-F]{2})*$/

function isTemplate(path: string): boolean {
  const segments = path.slice(1).split('/')
  return segments.every((segment, at) => {
    if (segment === '**') return at === segments.length - 1
    if (segment === '') return at === segments.length - 1
    return /^\{[a-z_]+\}$/.test(segment) || (SEGMENT.test(segment) && segment !== '.' && segment !== '..')
  })
}
