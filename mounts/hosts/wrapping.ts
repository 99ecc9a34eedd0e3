import { type Broker, BrokerError, Presented } from '#engine'
import { contentOf } from '../sys/json.ts'
import type { HttpReply } from './envelope.ts'

type Envelope = {
  readonly data?: object | null
  readonly wrap_info?: object | null
  readonly lease_id?: string
  readonly lease_duration?: number
  readonly renewable?: boolean
}

/** `X-Vault-Wrap-TTL`: seconds, days such as `1d`, or a duration as Go writes it, such as `5m0s`; none at all is no wrapping, as at Vault.
 *  @throws BrokerError bad_request for what is no duration that Vault can have: before anything is done */
export function wrapTtlOf(header: string | undefined): string | undefined {
  if (!header) return undefined
  const wrong = 'error parsing X-Vault-Wrap-TTL header'
  if (header.startsWith('-')) throw new BrokerError('bad_request', `${wrong}: requested wrap ttl cannot be negative`)
  const seconds = header.length > 64 ? undefined : secondsOf(header)
  if (seconds === undefined || seconds > MOST_SECONDS) throw new BrokerError('bad_request', wrong)
  return seconds >= UNITS.ns ? header : undefined
}

const UNITS = { ns: 1e-9, us: 1e-6, ms: 1e-3, s: 1, m: 60, h: 3600 }
/** Go counts durations in nanoseconds, in 63 bits. */
const MOST_SECONDS = 9_223_372_036
const DAY = 86_400

function secondsOf(text: string): number | undefined {
  const [, whole, days] = /^(\d+)(d?)$/.exec(text) ?? []
  if (whole !== undefined) return Number(whole) * (days ? DAY : 1)
  if (!/^\+?(?:(?:\d+\.?\d*|\.\d+)(?:[num]?s|[mh]))+$/.test(text)) return undefined
  const parts = text.matchAll(/([\d.]+)([a-z]+)/g)
  return parts.reduce((sum, [, count, unit]) => sum + Number(count) * UNITS[unit as keyof typeof UNITS], 0)
}

/** What Vault has wrapped, plain: what belongs to it of ours is put in, then it is wrapped again. Vault has decided already whether it may be, and for how long. */
export async function unwrapped({ vault }: Broker, reply: HttpReply, from: string): Promise<HttpReply> {
  const token = (contentOf(reply) as { wrap_info?: { token?: string } | null } | undefined)?.wrap_info?.token
  if (reply.status !== 200 || token === undefined) return reply
  const plain = await vault.write('sys/wrapping/unwrap', {}, { as: new Presented(token, from) })
  return { status: 200, headers: reply.headers ?? {}, ...(plain ? { body: plain } : {}) }
}

/** Our own reply in a token of Vault's that gives it once. Vault wraps its own replies without asking for a right or a use of the caller's token, and
 *  so is this: in the name of the broker. What cannot be wrapped reaches nobody, so a lease of ours that is in it ends. */
export async function wrapped(broker: Broker, reply: HttpReply, ttl: string | undefined): Promise<HttpReply> {
  const envelope = reply.body as Envelope | undefined
  if (ttl === undefined || reply.status !== 200 || envelope?.wrap_info || !(envelope?.data || envelope?.lease_id)) return reply
  const { status, headers = {} } = reply
  const { data, lease_id, lease_duration, renewable } = envelope
  const content = lease_id ? { ...data, lease_id, lease_duration, renewable } : { ...data }
  try {
    return { status, headers, body: { ...EMPTY, wrap_info: await broker.wrap(content, ttl) } }
  } catch (error) {
    // a lease that was renewed has no credential in the reply, and stays
    if (lease_id && data) await broker.leases.revoke(lease_id)
    throw error
  }
}

/** What Vault's wrapped replies have beside `wrap_info`. */
const EMPTY = {
  request_id: '',
  lease_id: '',
  renewable: false,
  lease_duration: 0,
  data: null,
  wrap_info: null,
  warnings: null,
  auth: null,
  mount_type: '',
}
