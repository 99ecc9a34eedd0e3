import { accept, type Refused, refuse, type Verdict } from '../refusals.ts'
import type { Held } from '../tls/holder.ts'
import type { Known, Tokens } from '../tokens.ts'
import { unavailable } from '../tokens.ts'
import { type Head, leadsElsewhere, onward, type Pinned, type RawHead, readHead, twiceIn } from './head.ts'
import type { Asked, Outgoing } from './injection.ts'
import { without } from './injections.ts'
import { findToken } from './match.ts'
import type { HttpService, Services } from './service.ts'

/** Who is on a connection, and where it leads when it is a tunnel. */
export type Session = Held & { readonly pinned: Pinned | undefined }

/** A request that may go out, with the real credential in its place. */
export type Swap = {
  readonly head: Head
  readonly service: HttpService
  readonly known: Known
  /** the rule of the token that lets it go there */
  readonly rule: string
  readonly outgoing: Outgoing
}

export type GatePorts = {
  readonly tokens: Tokens
  readonly services: () => Services
  readonly now: () => number
  /** Records the swap; a promise where that is to be durable first. @throws BrokerError unavailable when it cannot be recorded: then nothing goes out */
  readonly record: (swap: Swap, session: Session, txn: string, upgrade: boolean) => void | Promise<void>
}

/** What is asked for, known as far as the refusal needs to say it. */
export type Question = {
  readonly head: RawHead
  readonly session: Session
  readonly txn: string
  readonly upgrade: boolean
  readonly body: Asked['body']
}

/** The one way from a request to a real credential: who, where, with what right, then the swap, then the record of it. Answers at once when the
 *  token is remembered and the credential goes into the head. */
export function openGate(ports: GatePorts): (question: Question) => Verdict<Swap> | Promise<Verdict<Swap>> {
  return question => {
    const routed = route(question, ports.services())
    if (!routed.ok) return routed
    const { head, service, token } = routed.value
    const remembered = ports.tokens.remembered(token, question.session.holder)
    return remembered ? permit(ports, question, head, service, remembered) : opened(ports, question, head, service, token)
  }
}

type Routed = { readonly head: Head; readonly service: HttpService; readonly token: string }

function route({ head: raw, session, upgrade }: Question, services: Services): Verdict<Routed> {
  const read = readHead(raw, session.pinned)
  if (!read.ok) return read
  const { destination } = read.value
  // RFC 6455, 4.1: it would go out as GET, whatever was decided on
  if (upgrade && destination.method !== 'GET') return refuse('REQUEST_FORM', 'an upgrade by another method')
  const service = services.find(destination)
  if (service?.scheme !== destination.scheme)
    return refuse('DESTINATION', `${destination.scheme}://${destination.host}:${destination.port}`)
  // RFC 9110, 9.3.8: what it has a server repeat is not to hold a credential
  if (destination.method === 'TRACE' || !service.serves(destination.method, destination.path))
    return refuse('ROUTE', service.name)
  if (!service.copies && leadsElsewhere(read.value)) return refuse('ROUTE', 'a header names another path')
  if (service.issuesTokens(destination.method, destination.path)) return refuse('TOKEN_ROUTE', service.name)
  if (upgrade && !service.websocket) return refuse('UPGRADE', service.name)
  const twice = twiceIn(read.value, service.slots)
  if (twice !== undefined) return refuse('HEADER_TWICE', twice)
  const token = findToken(read.value, service.match)
  return token.ok ? accept({ head: read.value, service, token: token.value }) : token
}

async function opened(
  ports: GatePorts,
  question: Question,
  head: Head,
  service: HttpService,
  token: string,
): Promise<Verdict<Swap>> {
  const found = await ports.tokens.open(token, question.session.holder).catch(unavailable)
  return found.ok ? permit(ports, question, head, service, found.value) : found
}

function permit(
  ports: GatePorts,
  question: Question,
  head: Head,
  service: HttpService,
  known: Known,
): Verdict<Swap> | Promise<Verdict<Swap>> {
  const rule = ports.tokens.permits(known, head.destination)
  if (!rule.ok) return rule
  const { parameter } = service.match
  const query = parameter === undefined ? head.query : without(head.query, parameter)
  const outgoing: Outgoing = { headers: onward(head, service.slots), query, body: undefined }
  outgoing.headers.push('Accept-Encoding', 'identity')
  const swap = { head, service, known, rule: rule.value, outgoing }
  const injected = inject(swap, question, ports.now())
  return injected instanceof Promise
    ? injected.then(done => done ?? stillPermitted(ports, swap) ?? recorded(ports, question, swap))
    : (injected ?? recorded(ports, question, swap))
}

/** A body may have taken its time, and the token ended meanwhile. */
function stillPermitted({ tokens }: GatePorts, { known, head }: Swap): Refused | undefined {
  const rule = tokens.permits(known, head.destination)
  return rule.ok ? undefined : rule
}

/** Undefined when all went well. */
function inject(swap: Swap, { body }: Question, now: number): Refused | undefined | Promise<Refused | undefined> {
  const asked = { head: swap.head, fields: swap.known.fields, now, body }
  const { injections } = swap.service
  for (const [at, one] of injections.entries()) {
    const done = one.apply(swap.outgoing, asked)
    if (done instanceof Promise) return injectRest(done, swap, asked, at + 1)
    if (!done.ok) return done
  }
  return undefined
}

async function injectRest(first: Promise<Verdict<void>>, swap: Swap, asked: Asked, from: number): Promise<Refused | undefined> {
  const done = await first
  if (!done.ok) return done
  for (const one of swap.service.injections.slice(from)) {
    const next = await one.apply(swap.outgoing, asked)
    if (!next.ok) return next
  }
  return undefined
}

function recorded(ports: GatePorts, { session, txn, upgrade }: Question, swap: Swap): Verdict<Swap> | Promise<Verdict<Swap>> {
  try {
    const durable = ports.record(swap, session, txn, upgrade)
    return durable ? durable.then(() => accept(swap), unavailable) : accept(swap)
  } catch (error) {
    return unavailable(error)
  }
}
