import { type Destination, parseAuthority as readAuthority } from '#engine'
import { accept, refuse, type Verdict } from '../refusals.ts'
import { openDropped } from './dropped.ts'
import { splitTarget } from './path.ts'

/** Name, value, name, value, ... as they were on the wire. */
export type RawHeaders = readonly string[]

/** The head of a request whose parser is done with it. */
export type RawHead = {
  readonly method: string
  readonly target: string
  readonly httpVersion: string
  readonly rawHeaders: RawHeaders
}
export type Authority = { readonly host: string; readonly port: number }
/** Where a tunnel leads, and how the server there is spoken to. */
export type Pinned = Authority & { readonly scheme: string }

/** What a request says, read once. */
export type Head = {
  readonly destination: Destination
  /** with its question mark, or empty */
  readonly query: string
  /** by lower-case name: of those that may be there once the one, of `Connection` all, of others the last */
  readonly values: ReadonlyMap<string, string>
  /** lower-case names that `Connection` names, which end here */
  readonly named: ReadonlySet<string>
  readonly raw: RawHeaders
  /** what stands before the path where a `Location` is to lead back here; undefined where the client knows the server by its own name */
  readonly prefix: string | undefined
}

export const TOKEN_HEADER = 'assay-token'
const DESTINATION_HEADER = 'assay-destination'
const BASE = '/_/'
const MOST = 128

/** Two of one of these would be read differently by different readers. */
const SINGLE: ReadonlySet<string> = new Set([
  'host',
  'content-length',
  'content-type',
  'content-encoding',
  'transfer-encoding',
  'expect',
  'upgrade',
  'authorization',
  'proxy-authorization',
  'x-api-key',
  'x-amz-security-token',
  'x-amz-date',
  'x-amz-content-sha256',
  TOKEN_HEADER,
  DESTINATION_HEADER,
])

/** Reads the head of a request. `pinned` is where the connection leads, for what came through CONNECT: nothing in the request can change it. */
export function readHead(head: RawHead, pinned: Pinned | undefined): Verdict<Head> {
  const { rawHeaders: raw, httpVersion } = head
  if (httpVersion !== '1.1' && httpVersion !== '1.0') return refuse('REQUEST_FORM', 'another version')
  if (raw.length > 2 * MOST) return refuse('HEAD_TOO_LARGE', `more than ${MOST} headers`)
  const values = new Map<string, string>()
  for (let at = 0; at < raw.length; at += 2) {
    const name = (raw[at] ?? '').toLowerCase()
    const value = raw[at + 1] ?? ''
    const before = values.get(name)
    if (before !== undefined && SINGLE.has(name)) return refuse('HEADER_TWICE', name)
    values.set(name, before !== undefined && name === 'connection' ? `${before},${value}` : value)
  }
  const fault = faultInFraming(values)
  if (fault) return refuse('REQUEST_FORM', fault)
  const where = pinned ? pinnedTo(pinned, head, values) : named(head, values)
  if (!where.ok) return where
  const { scheme, authority, target, prefix } = where.value
  const split = splitTarget(target)
  if (!split) return refuse('PATH', 'not canonical')
  const destination = { scheme, host: authority.host, port: authority.port, method: head.method, path: split.path }
  return accept({ destination, query: split.query, values, named: namedByConnection(values), raw, prefix })
}

/** One of these headers, in lower case and folded, that is there more than once: of two tokens nobody is asked which one counts. */
export function twiceIn({ raw }: Head, names: ReadonlySet<string>): string | undefined {
  const found = new Set<string>()
  for (let at = 0; at < raw.length; at += 2) {
    const name = (raw[at] ?? '').toLowerCase()
    if (!names.has(folded(name))) continue
    if (found.has(name)) return name
    found.add(name)
  }
  return undefined
}

function faultInFraming(values: ReadonlyMap<string, string>): string | undefined {
  if (!values.has('host')) return 'no Host header'
  const coding = values.get('transfer-encoding')
  if (coding === undefined) return undefined
  if (values.has('content-length')) return 'both a length and a transfer coding'
  return coding.toLowerCase() === 'chunked' ? undefined : 'the only transfer coding taken is chunked'
}

type Where = { readonly scheme: string; readonly authority: Authority; readonly target: string } & Pick<Head, 'prefix'>

function pinnedTo({ scheme, ...authority }: Pinned, { target }: RawHead, values: ReadonlyMap<string, string>): Verdict<Where> {
  if (!target.startsWith('/') || values.has(DESTINATION_HEADER))
    return refuse('DESTINATION_UNCLEAR', 'another destination in a tunnel')
  if (!sameAuthority(values.get('host'), authority, portOf(scheme))) return refuse('HOST_MISMATCH', 'in a tunnel')
  return accept({ scheme, authority, target, prefix: undefined })
}

/** The three ways to say where a request goes; whoever says it twice is not asked which one counts. */
function named({ target }: RawHead, values: ReadonlyMap<string, string>): Verdict<Where> {
  const header = values.get(DESTINATION_HEADER)
  const absolute = !target.startsWith('/')
  const base = target.startsWith(BASE)
  if (Number(header !== undefined) + Number(absolute) + Number(base) !== 1)
    return refuse('DESTINATION_UNCLEAR', 'wanted one of base path, header and absolute form')
  if (header !== undefined) return byHeader(header, target)
  return base ? byBase(target) : byAbsolute(target, values)
}

function byHeader(header: string, target: string): Verdict<Where> {
  const [, scheme = '', name = ''] = /^(https?):\/\/([^/]+)\/?$/.exec(header) ?? []
  const authority = parseAuthority(name, portOf(scheme))
  return authority ? accept({ scheme, authority, target, prefix: '' }) : refuse('DESTINATION_UNCLEAR', 'the header is no origin')
}

/** `/_/host[:port]/path`; `/_/http:host:port/path` for the few services without TLS. */
function byBase(target: string): Verdict<Where> {
  const [, plain, name = '', rest = ''] = /^\/_\/(http:)?([^/?]+)(.*)$/.exec(target) ?? []
  const scheme = plain ? 'http' : 'https'
  const authority = parseAuthority(name, portOf(scheme))
  if (!authority) return refuse('DESTINATION_UNCLEAR', 'no host after /_/')
  const prefix = `${BASE}${plain ?? ''}${name}`
  return accept({ scheme, authority, target: rest.startsWith('/') ? rest : `/${rest}`, prefix })
}

function byAbsolute(target: string, values: ReadonlyMap<string, string>): Verdict<Where> {
  const [, scheme = '', name = '', rest = ''] = /^(https?):\/\/([^/?#]+)(.*)$/.exec(target) ?? []
  const authority = parseAuthority(name, portOf(scheme))
  if (!authority) return refuse('DESTINATION_UNCLEAR', 'the target is no URL')
  if (!sameAuthority(values.get('host'), authority, portOf(scheme))) return refuse('HOST_MISMATCH', 'in absolute form')
  return accept({ scheme, authority, target: rest.startsWith('/') ? rest : `/${rest}`, prefix: undefined })
}

/** The same few come again and again. */
const authorities = new Map<string, Authority>()
const REMEMBERED = 1000

function parseAuthority(text: string, defaultPort: number): Authority | undefined {
  const name = `${text} ${defaultPort}`
  const known = authorities.get(name)
  if (known) return known
  const authority = readAuthority(text, defaultPort)
  if (authority && authorities.size < REMEMBERED) authorities.set(name, authority)
  return authority
}

function sameAuthority(text: string | undefined, { host, port }: Authority, defaultPort: number): boolean {
  const read = parseAuthority(text ?? '', defaultPort)
  return read?.host === host && read.port === port
}

export const portOf = (scheme: string) => (scheme === 'https' ? 443 : 80)

function namedByConnection(values: ReadonlyMap<string, string>): ReadonlySet<string> {
  const names = values.get('connection')
  if (names === undefined) return NONE
  return new Set(names.split(',').map(name => name.trim().toLowerCase()))
}
const NONE: ReadonlySet<string> = new Set()

/** RFC 9110, 7.6.1, and what grew around it; what is said anew; what the proxy or another hop may be made to believe; and what would have a server do
 *  another method, or look at another path, than the one that was decided on. */
const isDropped = openDropped(
  /^(?:connection|keep-alive|te|trailer|transfer-encoding|upgrade|http2-settings|host|expect|accept-encoding|forwarded|via|x-real-ip|x-forwarded-.*|proxy-.*|assay-.*|x-broker-.*|x-vault-.*|x-http-method.*|x-method-override|x-original-.*|x-rewrite-url|(?:x-)?script-name|path-info)$/,
)

/** What has a server read, or write, at another path than the one that was decided on: copies of S3, Azure, Google and Swift, and of WebDAV. */
const namesAnother = openDropped(
  /^(?:x-(?:amz|ms|goog)-copy-source|x-(?:amz|ms)-rename-source|x-ms-file-rename-source|x-copy-from|x-object-manifest|x-symlink-target|destination)$/,
)

export const leadsElsewhere = ({ values }: Head): boolean => values.keys().some(name => namesAnother(folded(name)))

/** Headers as they go on, without those of this hop, without what `slots` name: there the proxy puts its own. */
export function onward({ raw, named: ends }: Head, slots: ReadonlySet<string>): string[] {
  const headers: string[] = []
  for (let at = 0; at < raw.length; at += 2) {
    const name = raw[at] ?? ''
    const lower = name.toLowerCase()
    const plain = folded(lower)
    if (isDropped(plain) || slots.has(plain) || isNamed(ends, lower)) continue
    headers.push(name, raw[at + 1] ?? '')
  }
  return headers
}

/** As servers read it that take all but letters and digits for the same, as variables of CGI are named. */
export function folded(name: string): string {
  return UNUSUAL.test(name) ? name.replace(UNUSUALS, '-') : name
}
const UNUSUAL = /[^a-z0-9-]/
const UNUSUALS = /[^a-z0-9-]/g

/** What says how long a body is stays, whatever `Connection` says. */
function isNamed(ends: ReadonlySet<string>, name: string): boolean {
  return ends.has(name) && !name.startsWith('content-')
}
