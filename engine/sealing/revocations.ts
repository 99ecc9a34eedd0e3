import { retryConflicts } from '../conflicts.ts'
import { BrokerError } from '../errors.ts'
import { gather } from '../gather.ts'
import type { Time } from '../time.ts'
import { absent } from '../vault/client.ts'
import type { OwnVault } from '../vault/own.ts'
import type { Store } from '../vault/store.ts'
import type { Epoch } from './binding.ts'

/** What is revoked: generations, and single tokens with the second at which they are forgotten. Vault keeps it in one record, so that a proxy sees it at one
 *  moment. */
export type Revoked = {
  readonly tenants: Readonly<Record<string, number>>
  /** Each is the second of its day, or later: one that was forgotten and comes again is above all that were there before. */
  readonly agents: Readonly<Record<string, number>>
  readonly denied: Readonly<Record<string, number>>
  /** the least that the generation of an agent is */
  readonly floor?: number
  /** second from which on generations of agents are such; before, they were counted from 1 */
  readonly from?: number
}

const RECORD = 'sealing/revocations'
const NOTHING: Revoked = { tenants: {}, agents: {}, denied: {} }
const TRIES = 8
/** No sealed token lives longer, and clocks of those who seal, revoke and open differ by less than the rest: what is as old is forgotten. */
const KEPT_SECONDS = 3600 + 600
/** What Vault takes in one record is bounded by default: 10,000 names in an object (`max_json_object_entry_count`), 1 MiB with integrated storage. */
const MOST_NAMES = 9_000
const MOST_BYTES = 900_000

/** The side that revokes. */
export type Revocations = {
  /** what a token that is sealed now belongs to */
  readonly epoch: (tenant: string, agent: string) => Promise<Epoch>
  /** Ends every token that was issued so far by this mount or to this agent. */
  readonly raise: (what: { readonly tenant: string } | { readonly agent: string }) => Promise<void>
  /** Ends one token. */
  readonly deny: (jti: string) => Promise<void>
}

type Draft = {
  readonly tenants: Map<string, number>
  readonly agents: Map<string, number>
  readonly denied: Map<string, number>
  readonly floor: number
  readonly from: number
}
type Change = (draft: Draft, second: number) => void

export function openRevocations(store: Store, time: Pick<Time, 'earlier' | 'later'>): Revocations {
  const write = async (changes: readonly Change[]): Promise<readonly undefined[]> => {
    const kept = await store.fresh<Revoked>(RECORD)
    const second = Math.floor(time.later() / 1000)
    const draft = draftOf(kept?.value ?? NOTHING, second, Math.floor(time.earlier() / 1000))
    for (const make of changes) make(draft, second)
    await store.put(RECORD, bounded(draft, second), kept?.version ?? 0)
    return changes.map(() => undefined)
  }
  // all that is revoked at once is one write: those of one broker do not stand in each other's way
  const change = gather<Change, undefined>(changes => retryConflicts(TRIES, () => write(changes)))
  return {
    epoch: async (tenant, agent) => {
      const { tenants, agents, floor = 0 } = (await store.get<Revoked>(RECORD))?.value ?? NOTHING
      return [generation(tenants, tenant), Math.max(generation(agents, agent), floor)]
    },
    raise: what =>
      change(({ tenants, agents, floor }, second) => {
        if ('tenant' in what) tenants.set(what.tenant, (tenants.get(what.tenant) ?? 0) + 1)
        else agents.set(what.agent, Math.max(second, floor + 1, (agents.get(what.agent) ?? 0) + 1))
      }),
    deny: jti => change(({ denied }, second) => void denied.set(jti, second + KEPT_SECONDS)),
  }
}

/** Without what is forgotten: the tokens of an agent that were sealed before its generation have all expired, and those that it has now are of no lower one than
 *  those that are sealed next.
 *  @param past the second that is over, whichever clock is right */
function draftOf({ tenants, agents, denied, floor = 0, from = 0 }: Revoked, second: number, past: number): Draft {
  const begun = from || second
  return {
    tenants: new Map(Object.entries(tenants)),
    agents: new Map(Object.entries(agents).filter(([, since]) => Math.max(since, begun) + KEPT_SECONDS > past)),
    denied: new Map(Object.entries(denied).filter(([, until]) => until > past)),
    floor,
    from: begun,
  }
}

/** Where more is revoked in an hour than one record holds, every token of every agent is: whoever may still have one asks again. */
function bounded({ tenants, agents, denied, floor, from }: Draft, second: number): Revoked {
  const kept = { tenants: Object.fromEntries(tenants), from }
  const whole = { ...kept, agents: Object.fromEntries(agents), denied: Object.fromEntries(denied), floor }
  const fits = Math.max(agents.size, denied.size) <= MOST_NAMES && Buffer.byteLength(JSON.stringify(whole)) <= MOST_BYTES
  if (fits) return whole
  const highest = [...agents.values()].reduce((one, other) => Math.max(one, other), floor)
  return { ...kept, agents: {}, denied: {}, floor: Math.max(second, highest + 1) }
}

/** Names come from elsewhere: what every object has is no generation. */
function generation(generations: Readonly<Record<string, number>>, name: string): number {
  return Object.hasOwn(generations, name) ? (generations[name] ?? 0) : 0
}

/** The side that heeds what is revoked: a copy that is read again and again. */
export type RevocationWatch = {
  /** `stale` when nobody knows: the copy is older than its limit */
  readonly standing: (token: {
    readonly tenant: string
    readonly agent: string
    readonly jti: string
    readonly epoch: Epoch
  }) => 'live' | 'revoked' | 'stale'
  /** whether it is known what is revoked */
  readonly current: () => boolean
  readonly stop: () => void
}

export type WatchPorts = {
  readonly vault: OwnVault
  readonly kv: string
  readonly monotonic: () => number
  readonly pollMs: number
  /** a copy that is older serves nobody */
  readonly limitMs: number
  readonly onError: (error: unknown) => void
}

/** Reads the copy once before it returns. @throws BrokerError unavailable, VaultRefusal when it cannot be read */
export async function watchRevocations({ vault, kv, monotonic, pollMs, limitMs, onError }: WatchPorts): Promise<RevocationWatch> {
  let revoked = NOTHING
  let at = Number.NEGATIVE_INFINITY
  const look = async () => {
    const asked = monotonic()
    const reply = await absent(vault.read(`${kv}/data/${RECORD}`))
    // nobody takes back what was revoked by taking the record away
    if (!reply && revoked !== NOTHING)
      throw new BrokerError('unavailable', `vault keeps no ${kv}/${RECORD} any more: bring it back`)
    revoked = reply ? read(reply.data) : NOTHING
    // as old as the question, not as the answer
    at = asked
  }
  await look()
  let stopped = false
  let timer: NodeJS.Timeout | undefined
  const again = () => {
    if (stopped) return
    timer = setTimeout(() => void look().catch(onError).finally(again), pollMs).unref()
  }
  again()
  const current = () => monotonic() - at <= limitMs
  return {
    current,
    standing: ({ tenant, agent, jti, epoch }) => {
      if (!current()) return 'stale'
      const least = Math.max(generation(revoked.agents, agent), revoked.floor ?? 0)
      const old = epoch[0] < generation(revoked.tenants, tenant) || epoch[1] < least
      return old || Object.hasOwn(revoked.denied, jti) ? 'revoked' : 'live'
    },
    stop: () => {
      stopped = true
      clearTimeout(timer)
    },
  }
}

/** A record that cannot be read is no empty one. */
function read(data: Readonly<Record<string, unknown>> | null | undefined): Revoked {
  const value = (data?.['data'] as { value?: Partial<Revoked> } | null | undefined)?.value
  if (!value?.tenants || !value.agents || !value.denied)
    throw new BrokerError('unavailable', 'the record of what is revoked cannot be read')
  return { tenants: value.tenants, agents: value.agents, denied: value.denied, floor: value.floor ?? 0 }
}
