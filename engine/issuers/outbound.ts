import {
  BrokenCircuitError,
  ConsecutiveBreaker,
  circuitBreaker,
  DelegateBackoff,
  ExponentialBackoff,
  halfJitterGenerator,
  handleType,
  handleWhen,
  type IPolicy,
  retry,
  wrap,
} from 'cockatiel'
import { LRUCache } from 'lru-cache'
import { BrokerError } from '../errors.ts'
import { type Http, openHttp, type Received, type Sent, Unanswered } from '../http.ts'

/** What such libraries give: plain headers, of bodies a form. */
export type FetchInit = {
  readonly method: string
  readonly headers: Readonly<Record<string, string>>
  readonly body?: URLSearchParams | undefined
}

/** HTTP to the provider of one integration. Redirects are answers like any other, they are not followed.
 *  @throws BrokerError unavailable, naming the integration and the reason, when it is down, slow, too busy (429, 5xx) or says too much */
export type Outbound = {
  readonly send: (sent: Sent) => Promise<Received>
  /** the same for libraries that want a `fetch` */
  readonly fetch: (url: string, init: FetchInit) => Promise<Response>
  /** What `send` threw last: libraries wrap what their transport throws. */
  readonly failure: () => BrokerError | undefined
  /** The same for what may not be sent at any time: asked before each attempt, and when `may` throws there is none. */
  readonly under: (may: () => void) => Outbound
}

/** Whether an answer is a provider's own way to say that it is asked too often, and so did nothing. */
export type Throttled = (received: Received) => boolean

/** All providers. The breaker and what a 429 asked for are kept for each integration, by `key`, and each host that it asks. */
export type Upstreams = {
  readonly of: (key: string, name: string, ca?: string, throttled?: Throttled) => Outbound
  readonly close: () => Promise<void>
}

export type UpstreamsOptions = {
  readonly monotonic: () => number
  /** of one attempt, from connecting to the last byte */
  readonly deadlineMs?: number
}

const DEADLINE_MS = 8_000
/** A provider that wants to be left alone for longer is not waited for: who asked is told. */
const WAIT_MS = 2_000
/** Of an answer, where nobody says that there may be more: to read a megabyte of lists in lists takes a tenth of a second of everybody's. */
const MOST_BYTES = 2 ** 17
const LONGEST_HOLD_MS = 300_000
const FAILURES = 5
const FIRST_PAUSE_MS = 100
const INTEGRATIONS = 10_000
/** bundles of trust anchors, each with connections of its own */
const AUTHORITIES = 256

export function openUpstreams({ monotonic, deadlineMs = DEADLINE_MS }: UpstreamsOptions): Upstreams {
  const gates = new LRUCache<string, Gate>({ max: INTEGRATIONS })
  const clients = new LRUCache<string, Http>({ max: AUTHORITIES, dispose: client => void client.close() })
  const gateOf = (key: string, url: string): Gate => {
    const place = `${key} ${new URL(url).origin}`
    const gate = gates.get(place) ?? openGate(monotonic)
    gates.set(place, gate)
    return gate
  }
  const clientOf = (ca: string): Http => {
    const client = clients.get(ca) ?? openHttp({ deadlineMs, ca })
    clients.set(ca, client)
    return client
  }
  return {
    of: (key, name, ca = '', throttled = () => false) =>
      outboundOf(name, (sent, may) => gateOf(key, sent.url)(() => attempt(clientOf(ca), sent, throttled, may))),
    close: async () => void (await Promise.all([...clients.values()].map(client => client.close()))),
  }
}

function outboundOf(
  name: string,
  once: (sent: Sent, may: () => void) => Promise<Received>,
  may: () => void = () => undefined,
): Outbound {
  let failure: BrokerError | undefined
  const send = async (sent: Sent): Promise<Received> => {
    try {
      return await once(sent, may)
    } catch (error) {
      failure = failureOf(name, error)
      throw failure
    }
  }
  return { send, failure: () => failure, fetch: fetchOver(send), under: must => outboundOf(name, once, must) }
}

function failureOf(name: string, error: unknown): BrokerError {
  // why it may not be sent is not about the provider
  if (error instanceof BrokerError) return error
  const kind = isUndone(error) ? NothingDone : BrokerError
  return new kind('unavailable', `the provider of the integration ${name} ${reasonOf(error)}`)
}

/** Why there is no answer to use; nothing of what was sent or received is in it. */
class Failure extends Error {
  /** the provider did nothing, so asking again does no harm */
  readonly undone: boolean
  readonly retryAfterMs: number | undefined
  constructor(reason: string, undone: boolean, retryAfterMs?: number) {
    super(reason)
    this.undone = undone
    this.retryAfterMs = retryAfterMs
  }
}

/** The provider was not asked, or said that it did nothing: there is nothing to revoke. */
export class NothingDone extends BrokerError {}

function isUndone(error: unknown): boolean {
  return error instanceof BrokenCircuitError || (error instanceof Failure && error.undone)
}

/** Runs a call, or refuses to. */
type Gate = (call: () => Promise<Received>) => Promise<Received>

/** Retry with back-off where nothing was done, a breaker after five failures in a row, and quiet for as long as the provider asked for. */
function openGate(monotonic: () => number): Gate {
  let heldUntil = 0
  // half of a pause is always there: one that is drawn from zero on may be over at once
  const pauses = new ExponentialBackoff({ initialDelay: 1_000, maxDelay: 30_000, generator: halfJitterGenerator })
  const backoff = new DelegateBackoff<{ result: object; attempt: number }>(({ result, attempt }) => {
    const asked = 'error' in result && result.error instanceof Failure ? result.error.retryAfterMs : undefined
    return asked ?? FIRST_PAUSE_MS * 2 ** (attempt - 1)
  })
  const policy: IPolicy = wrap(
    retry(
      handleWhen(error => error instanceof Failure && error.undone && (error.retryAfterMs ?? 0) <= WAIT_MS),
      { maxAttempts: 2, backoff },
    ),
    circuitBreaker(handleType(Failure), { halfOpenAfter: pauses, breaker: new ConsecutiveBreaker(FAILURES) }),
  )
  return async call => {
    const left = heldUntil - monotonic()
    if (left > 0) throw new Failure(`asked to be left alone for ${Math.ceil(left / 1000)} s more`, true)
    try {
      return await policy.execute(call)
    } catch (error) {
      const asked = error instanceof Failure ? (error.retryAfterMs ?? 0) : 0
      if (asked > WAIT_MS) heldUntil = monotonic() + Math.min(asked, LONGEST_HOLD_MS)
      throw error
    }
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof BrokenCircuitError) return 'failed several times in a row and is left alone for a moment'
  return error instanceof Failure ? error.message : 'could not be asked'
}

async function attempt(client: Http, sent: Sent, throttled: Throttled, may: () => void): Promise<Received> {
  may()
  const received = await client.send({ mostBytes: MOST_BYTES, ...sent }).catch(unanswered)
  if (throttled(received)) throw busy(received, 'is asked too often')
  if (isBusy(received)) throw busy(received)
  return received
}

/** GitHub says 403 to who asks too often, too, and when to come back. */
function isBusy({ status, headers }: Received): boolean {
  return status === 429 || status >= 500 || (status === 403 && (headers['retry-after'] !== undefined || isUsedUp(headers)))
}

/** GitHub's primary limit comes without Retry-After (REST API, rate limits: exceeding the rate limit). */
function isUsedUp(headers: Received['headers']): boolean {
  return headers['x-ratelimit-remaining'] === '0' && /^\d{1,12}$/.test(headers['x-ratelimit-reset'] ?? '')
}

function unanswered(error: unknown): never {
  if (error instanceof Unanswered) throw new Failure(error.reason, error.unsent)
  throw error
}

function busy({ status, headers }: Received, what = `answered with status ${status}`): Failure {
  const undone = status < 500 || status === 503
  const seconds = secondsIn(headers)
  const wait = seconds === undefined ? '' : ` and asked to be left alone for ${seconds} s`
  return new Failure(`${what}${wait}`, undone, seconds === undefined ? undefined : seconds * 1000)
}

/** Retry-After (RFC 9110, 10.2.3): seconds, or a date, which is taken by the provider's own clock; so is the time of a reset. */
function secondsIn(headers: Received['headers']): number | undefined {
  const { 'retry-after': asked = '', date = '' } = headers
  if (/^\d{1,9}$/.test(asked)) return Number(asked)
  const seconds = (Date.parse(asked) - Date.parse(date)) / 1000
  if (Number.isFinite(seconds)) return Math.max(0, Math.ceil(seconds))
  const left = isUsedUp(headers) ? Number(headers['x-ratelimit-reset']) - Date.parse(date) / 1000 : 0
  // one in the past says nothing: with others than GitHub it may be no time at all, but a number of seconds
  return left > 0 ? Math.ceil(left) : undefined
}

/** Statuses that a `Response` may have no body with. */
const BODILESS = [204, 205, 304]

/** No `Request` is made and read again: that would take as long as everything else here. */
function fetchOver(send: Outbound['send']): Outbound['fetch'] {
  return async (url, { method, headers, body: form }) => {
    const sent = { method: method as Sent['method'], url, headers, body: form?.toString() }
    const { status, headers: told, body } = await send(sent)
    return new Response(BODILESS.includes(status) ? null : new Uint8Array(body), { status, headers: told })
  }
}
