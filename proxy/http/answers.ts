import type { Dispatcher } from 'undici'
import { type Destination, parseAuthority } from '#engine'
import { openDropped } from './dropped.ts'
import { portOf } from './head.ts'
import type { Scrubber } from './scrub.ts'
import type { Services } from './service.ts'

/** What of an answer does not reach the agent: what belongs to this hop, what would log it in by itself, what would send its client elsewhere. */
const isDropped = openDropped(
  /^(?:connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|set-cookie2?|www-authenticate|authentication-info|authorization|alt-svc|alt-used|refresh|strict-transport-security|clear-site-data|x-vault-.*|assay-.*)$/,
)

/** What says how a body is encoded, and of what it says that it is not: chunks are taken off on the way. */
const UNENCODED: ReadonlyMap<string, string> = new Map([
  ['content-encoding', 'identity'],
  ['transfer-encoding', 'chunked'],
])

export type AnswerHead = {
  /** name, value, name, value, ... */
  readonly headers: string[]
  /** `Content-Encoding` or `Transfer-Encoding`, when it is one */
  readonly encoding: string | undefined
  /** bytes of the body, NaN where it is not said */
  readonly length: number
}

export type Filter = {
  readonly destination: Destination
  /** what stands before the path of a `Location` that leads back here; undefined where it may name the server, as its client does */
  readonly prefix: string | undefined
  readonly services: Services
  readonly scrubber: Scrubber | undefined
}

/** Name, value, name, value, ... of an answer: of HTTP/1 undici has the bytes of the wire, of HTTP/2 an object. */
export function rawHeaders({ rawHeaders: raw }: Dispatcher.DispatchController): readonly string[] {
  if (Array.isArray(raw)) return raw.map(one => one.toString('latin1'))
  return Object.entries(raw ?? {}).flatMap(([name, given]) => [given ?? []].flat().flatMap(value => [name, value]))
}

/** The head of an answer as it may go on. `raw` is name, value, name, value, ... */
export function filterHead(raw: readonly string[], filter: Filter): AnswerHead {
  const headers: string[] = []
  let encoding: string | undefined
  let length = Number.NaN
  let named: ReadonlySet<string> | undefined
  for (let at = 0; at < raw.length; at += 2) {
    const name = raw[at] ?? ''
    const lower = name.toLowerCase()
    if (lower === 'connection')
      named = new Set([
        ...(named ?? []),
        ...text(raw, at)
          .toLowerCase()
          .split(/\s*,\s*/),
      ])
    if (lower === 'content-length') length = Number(text(raw, at))
    const plain = UNENCODED.get(lower)
    if (plain !== undefined && text(raw, at).toLowerCase() !== plain) encoding = text(raw, at)
    if (isDropped(lower)) continue
    const value = lower === 'location' || lower === 'content-location' ? relocated(text(raw, at), filter) : text(raw, at)
    if (value !== undefined) headers.push(name, value)
  }
  return { headers: scrubbed(named ? headersWithout(headers, named) : headers, filter.scrubber), encoding, length }
}

function text(raw: readonly string[], at: number): string {
  return raw[at + 1] ?? ''
}

function headersWithout(headers: readonly string[], names: ReadonlySet<string>): string[] {
  return headers.filter((_, at) => {
    const name = (headers[at - (at % 2)] ?? '').toLowerCase()
    return !names.has(name) || name.startsWith('content-')
  })
}

/** A redirect to where it came from leads back through the proxy; one to a declared service stays; any other is kept back. What it is comes of how a client
 *  reads it: from the path that was asked for (RFC 9110, 10.2.2), and `/\\host` as another host. */
function relocated(location: string, { destination, prefix, services }: Filter): string | undefined {
  const { scheme, host, port, path } = destination
  const url = URL.parse(location, `${scheme}://${host}:${port}${path}`)
  if (url?.username !== '' || url.password !== '') return undefined
  const authority = parseAuthority(url.host, portOf(url.protocol.slice(0, -1)))
  if (!authority || !/^https?:$/.test(url.protocol)) return undefined
  if (url.protocol === `${scheme}:` && authority.host === host && authority.port === port) {
    if (location.startsWith('/') && !location.startsWith('//')) return `${prefix ?? ''}${location}`
    // who uploads to the address of a Location, as Google's have it, does not take it for relative
    return prefix === undefined ? url.href : `${prefix}${url.pathname}${url.search}${url.hash}`
  }
  return services.find(authority)?.scheme === url.protocol.slice(0, -1) ? url.href : undefined
}

/** All at once, as a value is seldom there. */
function scrubbed(headers: string[], scrubber: Scrubber | undefined): string[] {
  if (!scrubber?.whole(Buffer.from(headers.join('\n'), 'latin1'))) return headers
  return headers.map(one => {
    const bytes = Buffer.from(one, 'latin1')
    scrubber.whole(bytes)
    return bytes.toString('latin1')
  })
}
