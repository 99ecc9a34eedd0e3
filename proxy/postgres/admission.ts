import type { TLSSocket } from 'node:tls'
import type { Destination } from '#engine'
import { unreached } from '../egress/dial.ts'
import { accept, refuse, type Verdict } from '../refusals.ts'
import { carriedToken } from '../tls/carried.ts'
import { type Held, isInForce } from '../tls/holder.ts'
import { type Known, unavailable } from '../tokens.ts'
import { askPassword, type First, MAX_STARTUP, negotiate, readFirst, readPassword } from './messages.ts'
import type { SessionPorts } from './ports.ts'
import type { MessageReader } from './reader.ts'
import type { Upstream } from './upstream.ts'

export type Admitted = {
  readonly upstream: Upstream
  readonly held: Held
  readonly known: Known
  readonly destination: Destination
}

/** From a startup message to a session at the server: who, where, with what right, then the record of it, then the login. */
export async function admit(
  ports: SessionPorts,
  held: Held | undefined,
  first: First | undefined,
  reader: MessageReader,
  socket: TLSSocket,
  txn: string,
): Promise<Verdict<Admitted>> {
  if (!held || !isInForce(held, ports.now())) return refuse('NO_CERTIFICATE', 'none, or one that is not in force')
  if (first?.kind !== 'startup') return refuse('REQUEST_FORM', 'no startup message of protocol 3')
  const negotiated = negotiate(first)
  if (negotiated) socket.write(negotiated)
  const { parameters } = first
  const database = parameters.get('database') ?? parameters.get('user') ?? ''
  if (parameters.has('replication')) return refuse('ROUTE', 'replication')
  if (ports.databases.length > 0 && !ports.databases.includes(database)) return refuse('ROUTE', 'the database is not served')
  const asked = optionsOf(parameters.get('options') ?? '')
  const token = asked.token ?? carriedToken(socket) ?? (await passwordOf(reader, socket))
  if (token === undefined || token === '')
    return refuse('NO_TOKEN', 'neither beside the certificate, nor in options, nor as the password')
  const found = await ports.tokens.open(token, held.holder).catch(unavailable)
  if (!found.ok) return found
  const destination = { scheme: 'postgres', ...ports.place, method: 'CONNECT', path: `/${encodeURIComponent(database)}` }
  const rule = ports.tokens.permits(found.value, destination)
  if (!rule.ok) return rule
  const { username, password } = found.value.fields
  if (!username || !password) return refuse('CREDENTIAL_SHAPE', 'wanted username and password')
  const applicationName = parameters.get('application_name') ?? ''
  const options = [asked.rest, ...settingsIn(parameters)].filter(one => one !== '').join(' ')
  if ([applicationName, options].some(one => one.includes(token))) return refuse('TOKEN_STRAY', 'in a setting, beside its place')
  const kept = await ports.record({ known: found.value, service: ports.service, destination, rule: rule.value }, held, txn)
  if (!kept.ok) return kept
  const encoding = parameters.get('client_encoding')
  const login = { database, user: username.reveal(), password, applicationName, options, encoding }
  return ports.connect(login).then(
    upstream => accept({ upstream, held, known: found.value, destination }),
    (error: NodeJS.ErrnoException) => refuse(unreached(error), wordOf(error)),
  )
}

/** `-c assay.token=...` among the options of the session, as libpq sends them; the rest goes on. */
function optionsOf(options: string): { readonly token: string | undefined; readonly rest: string } {
  const found = /(?:^|\s)-c\s*assay\.token=(\S+)/.exec(options)
  return { token: found?.[1], rest: found ? options.replace(found[0], '').trim() : options }
}

/** What has a place of its own in a login, and what is no setting. */
const PLACED = /^(?:user|database|options|application_name|client_encoding|replication|_pq_\..*)$/

/** Settings that a client sends with its first message, such as its time zone, as options say them. */
function settingsIn(parameters: ReadonlyMap<string, string>): string[] {
  const settings = [...parameters].filter(([name]) => !PLACED.test(name))
  return settings.map(([name, value]) => `-c ${`${name}=${value}`.replace(/[\s\\]/g, '\\$&')}`)
}

/** The sealed token in place of a password: over this connection it may go in clear. */
async function passwordOf(reader: MessageReader, socket: TLSSocket): Promise<string | undefined> {
  socket.write(askPassword())
  return readPassword(await reader.next(1, MAX_STARTUP).catch(() => Buffer.alloc(0)))
}

/** SQLSTATE of the server, or the code of the network: a word, never a sentence that may hold what was sent. */
function wordOf(error: NodeJS.ErrnoException): string {
  return /^[A-Z0-9_]{1,40}$/.test(error.code ?? '') ? (error.code ?? '') : 'it broke off'
}

export async function firstOf(reader: MessageReader): Promise<First | undefined> {
  return readFirst(await reader.next(0, MAX_STARTUP))
}
