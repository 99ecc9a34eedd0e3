import { BrokerError, isConflict } from '../errors.ts'
import { gather } from '../gather.ts'
import { absent } from '../vault/client.ts'
import type { OwnVault } from '../vault/own.ts'
import type { Store } from '../vault/store.ts'
import type { Epoch } from './binding.ts'

/** What is revoked: generations, and single tokens with the second at which they end anyway. */
export type Revoked = {
  readonly tenants: Readonly<Record<string, number>>
  readonly agents: Readonly<Record<string, number>>
  readonly denied: Readonly<Record<string, number>>
}

const RECORD = 'sealing/revocations'
const NOTHING: Revoked = { tenants: {}, agents: {}, denied: {} }
const ATTEMPTS = 8
/** No sealed token lives longer: what is denied is forgotten then. */
const LONGEST_SECONDS = 3600

/** The side that revokes. */
export type Revocations = {
  /** what a token that is sealed now belongs to */
  readonly epoch: (tenant: string, agent: string) => Promise<Epoch>
  /** Ends every token that was issued so far by this mount or to this agent. */
  readonly raise: (what: { readonly tenant: string } | { readonly agent: string }) => Promise<void>
  /** Ends one token. */
  readonly deny: (jti: string) => Promise<void>
}

type Change = (revoked: Revoked) => Revoked

export function openRevocations(store: Store, now: () => number): Revocations {
  const write = async (changes: readonly Change[], attempt = 1): Promise<readonly undefined[]> => {
    const kept = await store.fresh<Revoked>(RECORD)
    try {
      const now = changes.reduce((revoked, make) => make(revoked), kept?.value ?? NOTHING)
      await store.put(RECORD, now, kept?.version ?? 0)
    } catch (error) {
      if (!isConflict(error) || attempt === ATTEMPTS) throw error
      await write(changes, attempt + 1)
    }
    return changes.map(() => undefined)
  }
  // all that is revoked at once is one write: those of one broker do not stand in each other's way
  const change = gather<Change, undefined>(write, Number.POSITIVE_INFINITY)
  return {
    epoch: async (tenant, agent) => {
      const { tenants, agents } = (await store.get<Revoked>(RECORD))?.value ?? NOTHING
      return [generation(tenants, tenant), generation(agents, agent)]
    },
    raise: what =>
      change(revoked => ({
        ...revoked,
        ...('tenant' in what
          ? { tenants: raised(revoked.tenants, what.tenant) }
          : { agents: raised(revoked.agents, what.agent) }),
      })),
    deny: jti => {
      const second = Math.floor(now() / 1000)
      return change(revoked => ({ ...revoked, denied: { ...live(revoked.denied, second), [jti]: second + LONGEST_SECONDS } }))
    },
  }
}

function raised(generations: Readonly<Record<string, number>>, name: string): Readonly<Record<string, number>> {
  return { ...generations, [name]: generation(generations, name) + 1 }
}

/** Names come from elsewhere: what every object has is no generation. */
function generation(generations: Readonly<Record<string, number>>, name: string): number {
  return Object.hasOwn(generations, name) ? (generations[name] ?? 0) : 0
}

function live(denied: Readonly<Record<string, number>>, second: number): Readonly<Record<string, number>> {
  return Object.fromEntries(Object.entries(denied).filter(([, exp]) => exp > second))
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
      const old = epoch[0] < generation(revoked.tenants, tenant) || epoch[1] < generation(revoked.agents, agent)
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
  return { tenants: value.tenants, agents: value.agents, denied: value.denied }
}
