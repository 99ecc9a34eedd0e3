import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'

/** Name, value, name, value, ... in the order, the case and the number that were on the wire. */
export type RawHeaders = readonly string[]

/** Two of one of these would be read differently by different readers. */
const SINGLE: ReadonlySet<string> = new Set([
  'host',
  'content-length',
  'transfer-encoding',
  'expect',
  'authorization',
  'x-vault-token',
  'x-vault-namespace',
  'x-vault-wrap-ttl',
])

/** RFC 9110, 7.6.1, and what grew around it. */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
])

/** Said anew for Vault, from what the front door made of them; to ask for a body is the front door's. */
const SAID_ANEW: ReadonlySet<string> = new Set(['host', 'content-length', 'expect'])

/** `Connection` cannot name these away: they decide what a message means and on whose behalf it is sent. */
const END_TO_END = /^(?:x-vault-.*|authorization|host|content-.*|expect|cookie|date|location)$/

/** Vault listeners can be told to believe these of a trusted peer, and the front door is one: a client's own never go on. `X-Forwarded-For` is
 *  said anew. */
const BELIEVED = /^(?:forwarded|x-forwarded-for|x-real-ip|(?:x-)?ssl-.*|.*client-?(?:cert|chain).*)$/

const MOST = 128

/** What is wrong with the head of a request beyond what the parser refuses; undefined when nothing is. */
export function faultInHead({
  rawHeaders,
  headers,
  httpVersion,
}: IncomingMessage): { status: number; message: string } | undefined {
  if (rawHeaders.length > 2 * MOST) return { status: 431, message: `the request has more than ${MOST} headers` }
  const twice = repeated(rawHeaders)
  if (twice !== undefined) return { status: 400, message: `the request has more than one ${twice} header` }
  const message = faultInFraming(headers, httpVersion)
  return message === undefined ? undefined : { status: 400, message }
}

function faultInFraming(headers: IncomingHttpHeaders, httpVersion: string): string | undefined {
  if (httpVersion !== '1.1' && httpVersion !== '1.0') return 'the request is not HTTP/1.1' // to the parser a line without a version is 0.9
  if (httpVersion === '1.1' && headers.host === undefined) return 'the request has no Host header'
  if (headers.upgrade?.toLowerCase() === 'websocket') return 'connections are not upgraded here'
  const coding = headers['transfer-encoding']
  if (coding === undefined) return undefined
  if (headers['content-length'] !== undefined) return 'the request has both a length and a transfer coding'
  return coding.toLowerCase() === 'chunked' && httpVersion === '1.1' ? undefined : 'the only transfer coding taken is chunked'
}

function repeated(raw: RawHeaders): string | undefined {
  const seen = new Set<string>()
  for (let at = 0; at < raw.length; at += 2) {
    const { name, single } = kindOf(raw[at] ?? '')
    if (!single) continue
    if (seen.has(name)) return name
    seen.add(name)
  }
  return undefined
}

/** What a header's name alone says of it. */
type Kind = {
  /** in lower case */
  readonly name: string
  readonly folded: string
  readonly single: boolean
  readonly hopByHop: boolean
  /** goes on to Vault when neither `Connection` nor the settings have a word against it */
  readonly forVault: boolean
}

const kinds = new Map<string, Kind>()
/** Clients have a few dozen; whoever makes up names without end gets no memory for them. */
const MOST_KINDS = 1024

function kindOf(written: string): Kind {
  const known = kinds.get(written)
  if (known) return known
  const name = written.toLowerCase()
  const folded = name.replaceAll('_', '-')
  const hopByHop = HOP_BY_HOP.has(name)
  const forVault = !hopByHop && !SAID_ANEW.has(name) && !BELIEVED.test(folded)
  const kind = { name, folded, single: SINGLE.has(name), hopByHop, forVault }
  if (kinds.size < MOST_KINDS) kinds.set(written, kind)
  return kind
}

/** Whether a request speaks of the root namespace: the only one in which the front door has paths of its own. */
export function isRootNamespace(headers: IncomingHttpHeaders): boolean {
  const namespace = headers['x-vault-namespace']
  return namespace === undefined || ['', 'root'].includes(String(namespace).replace(/^\/|\/$/g, ''))
}

/** The headers of a request as they go on to Vault: nothing of this hop, nothing that Vault might believe of us but the address of the client,
 *  Vault's own authority. */
export function toVault(raw: RawHeaders, authority: string, from: string, strip: ReadonlySet<string>): string[] {
  const named = namedByConnection(raw)
  const headers = ['Host', authority, 'X-Forwarded-For', from]
  for (let at = 0; at < raw.length; at += 2) {
    const { name, folded, forVault } = kindOf(raw[at] ?? '')
    if (!forVault || named.has(name) || strip.has(folded)) continue
    headers.push(raw[at] ?? '', raw[at + 1] ?? '')
  }
  return headers
}

/** The headers of Vault's reply as they go back. A `Location` at Vault's own origin becomes one at ours. */
export function fromVault(raw: RawHeaders, origin: string): string[] {
  const named = namedByConnection(raw)
  const headers: string[] = []
  for (let at = 0; at < raw.length; at += 2) {
    const { name, hopByHop } = kindOf(raw[at] ?? '')
    if (hopByHop || named.has(name)) continue
    const value = raw[at + 1] ?? ''
    headers.push(raw[at] ?? '', name === 'location' ? relocated(value, origin) : value)
  }
  return headers
}

/** Without the named headers. */
export function without(raw: RawHeaders, names: ReadonlySet<string>): string[] {
  return raw.filter((_, at) => !names.has(nameAt(raw, at - (at % 2))))
}

/** Names with their values. */
export function pairs(raw: RawHeaders): [string, string][] {
  return raw.flatMap((name, at) => (at % 2 === 0 ? [[name, raw[at + 1] ?? '']] : []))
}

const NONE: ReadonlySet<string> = new Set()

function namedByConnection(raw: RawHeaders): ReadonlySet<string> {
  let named: Set<string> | undefined
  for (let at = 0; at < raw.length; at += 2) {
    if (nameAt(raw, at) !== 'connection') continue
    const names = (raw[at + 1] ?? '').split(',').map(name => name.trim().toLowerCase())
    named = (named ?? new Set()).union(new Set(names.filter(name => !END_TO_END.test(name))))
  }
  return named ?? NONE
}

function relocated(location: string, origin: string): string {
  const url = URL.parse(location)
  return url?.origin === origin ? `${url.pathname}${url.search}${url.hash}` : location
}

function nameAt(raw: RawHeaders, at: number): string {
  return kindOf(raw[at] ?? '').name
}
