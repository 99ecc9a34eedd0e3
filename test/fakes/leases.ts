import { randomUUID } from 'node:crypto'
import { BrokerError } from '../../engine/errors.ts'
import type { Begin } from '../../engine/leases/begin.ts'
import { type Handle, idFrom, type Lease } from '../../engine/leases/lease.ts'
import { type Ended, type Provider, Unfindable } from '../../engine/leases/provider.ts'
import type { everySoOften } from '../../engine/leases/rounds.ts'
import { type Leases, openLeases } from '../../engine/leases/service.ts'
import type { TokenLife } from '../../engine/leases/tokens.ts'
import { openTime, type Time } from '../../engine/time.ts'
import type { Kept, Store } from '../../engine/vault/store.ts'
import { type TestWorld, testWorld } from './world.ts'

/** What outlives a process: the store, and what the provider knows of what it made. */
export type Outside = {
  readonly kept: Map<string, Kept<unknown>>
  /** every credential that was ever made, by its id; `false` when it was revoked */
  readonly alive: Map<string, boolean>
  readonly made: Map<string, string>
  readonly tokens: Map<string, TokenLife>
  /** what the role lets its leases live */
  longest: number | undefined
  /** the provider answers */
  up: boolean
  /** the provider can be asked for what it made */
  findable: boolean
  revocations: number
  /** lets a test hold a write of the store, or a revocation, before it takes effect, or the reply to a read */
  hold: ((call: 'put' | 'delete' | 'got' | 'listed' | 'revoke', path: string) => Promise<void>) | undefined
}
export const outside = (): Outside => ({
  kept: new Map(),
  alive: new Map(),
  made: new Map(),
  tokens: new Map(),
  longest: 3600,
  up: true,
  findable: true,
  revocations: 0,
  hold: undefined,
})

class Dead extends Error {}
/** When a process dies: before its nth step takes effect, or after it did and before it learns of it. */
export type Death = { readonly step: number; readonly when: 'before' | 'after' }

/** Rounds are those that a test makes: none begins by itself where somebody is held, or looks, for as long as that takes. */
const whenAsked: typeof everySoOften =
  ({ revoker, adrift }) =>
  async () => {
    await revoker.stop()
    await adrift.round()
  }
type Options = {
  readonly death?: Death
  readonly world?: TestWorld
  readonly cutOff?: boolean
  /** it makes rounds by itself, too */
  readonly turns?: boolean
}

/** A process that holds leases. Every call to the store and to the provider is a step; after its death nothing it does has an effect.
 *  One that is cut off gets credentials, and cannot have them revoked. */
export type Process = {
  readonly leases: Leases
  readonly world: TestWorld
  readonly time: Time
  readonly ended: { lease: Lease; how: Ended }[]
  readonly failures: unknown[]
  readonly steps: () => number
  readonly store: Store
  readonly observed: { held: () => number; overdue: () => number }
  /** what the provider does when it is asked for a credential */
  readonly provide: (txn: string) => Promise<Handle>
}

export async function openProcess(
  out: Outside,
  { death, world = testWorld(), cutOff = false, turns = false }: Options = {},
): Promise<Process> {
  const { step, steps } = stepsUntil(death)
  const store = fakeStore(out, step)
  const [ended, failures]: [Process['ended'], unknown[]] = [[], []]
  let observed: Process['observed'] = { held: () => 0, overdue: () => 0 }
  const time = openTime(world)
  const leases = await openLeases({
    world,
    time,
    store,
    ...(turns ? {} : { rounds: whenAsked }),
    provider: fakeProvider(cutOff ? { ...out, up: false } : out, step),
    tokens: async accessor => out.tokens.get(accessor) ?? { alive: true, ttlSeconds: Number.POSITIVE_INFINITY },
    longest: async () => out.longest,
    onEnd: (lease, how) => void ended.push({ lease, how }),
    onFailure: (_, error) => void failures.push(error),
    observe: read => {
      observed = read
    },
  })
  const provide = (txn: string) =>
    step(() => {
      if (!out.up) throw new BrokerError('unavailable', 'the provider is down')
      const credential = randomUUID()
      out.alive.set(credential, true)
      out.made.set(txn, credential)
      return { credential }
    })
  return {
    leases,
    world,
    time,
    ended,
    failures,
    steps,
    store,
    provide,
    observed: { held: () => observed.held(), overdue: () => observed.overdue() },
  }
}

type Step = <T>(make: () => T) => Promise<T>

function stepsUntil(death: Death | undefined): { readonly step: Step; readonly steps: () => number } {
  let steps = 0
  let dead = false
  const step: Step = async make => {
    await Promise.resolve()
    if (dead) throw new Dead()
    const now = ++steps === death?.step
    if (now) dead = true
    if (now && death?.when === 'before') throw new Dead()
    const made = make()
    if (now) throw new Dead()
    return made
  }
  return { step, steps: () => steps }
}

function fakeStore(out: Outside, step: Step): Store {
  const { kept } = out
  const fresh = async <T>(path: string) => {
    const found = await step(() => kept.get(path) as Kept<T> | undefined)
    await out.hold?.('got', path)
    return found
  }
  const list = (path: string) => {
    const below = [...kept.keys()].filter(key => key.startsWith(path)).map(key => key.slice(path.length).replace(/\/.*/, '/'))
    return [...new Set(below)]
  }
  return {
    get: fresh,
    fresh,
    put: async (path, value, cas) => {
      await out.hold?.('put', path)
      return step(() => {
        const version = kept.get(path)?.version ?? 0
        if (cas !== undefined && cas !== version) throw new BrokerError('conflict', 'somebody else changed this')
        kept.set(path, { value: structuredClone(value), version: version + 1 })
      })
    },
    list: async path => {
      const found = await step(() => list(path))
      await out.hold?.('listed', path)
      return found
    },
    delete: async path => {
      await out.hold?.('delete', path)
      return step(() => void kept.delete(path))
    },
    deleteAll: folder =>
      step(() => {
        for (const key of kept.keys()) if (key.startsWith(folder)) kept.delete(key)
      }),
  }
}

function fakeProvider(out: Outside, step: Step): Provider {
  return {
    revoke: async (_, { credential = '' }) => {
      await out.hold?.('revoke', credential)
      return step(() => {
        out.revocations += 1
        if (!out.up) throw new Error('the provider is down')
        out.alive.set(credential, false)
      })
    },
    find: ({ txn }) =>
      step(() => {
        if (!out.findable) throw new Unfindable()
        if (!out.up) throw new Error('the provider is down')
        const credential = out.made.get(txn)
        return credential === undefined ? undefined : { credential }
      }),
  }
}

const MOUNT = {
  type: 'broker',
  path: 'broker/',
  id: 'mount-1',
  accessor: 'broker_1',
  description: '',
  defaultTtlSeconds: 0,
  maxTtlSeconds: 0,
} as const

export const asked = (more: Partial<Begin> = {}): Begin => ({
  mount: MOUNT,
  path: 'creds/deploy',
  accessor: 'accessor-1',
  tpmId: 'tpm-1',
  issuer: 'fake',
  role: 'deploy',
  integration: '',
  txn: randomUUID(),
  ttlSeconds: 900,
  maxTtlSeconds: 3600,
  ...more,
})

/** A lease that is active, and had 900 s to live, as it is kept. */
export function activeLease({ expiresAt, ...more }: Pick<Lease, 'expiresAt'> & Partial<Lease>): Lease {
  const { mount, path, ttlSeconds, maxTtlSeconds: _, ...names } = asked()
  return {
    state: 'active',
    leaseId: `${mount.path}${path}/${idFrom(randomUUID())}`,
    mountId: mount.id,
    ...names,
    ttlSeconds,
    issuedAt: expiresAt - ttlSeconds,
    expiresAt,
    maxExpiresAt: expiresAt + ttlSeconds,
    renewedAt: 0,
    due: expiresAt,
    handle: { credential: randomUUID() },
    ...more,
  }
}

/** A whole issue: intent, provider, confirmation. What the caller got. */
export async function issue(
  { leases, provide, world }: Process,
  more: Partial<Begin> = {},
): Promise<{ leaseId: string; credential: string }> {
  const request = asked(more)
  const begun = await leases.begin(request)
  const handle = await provide(request.txn)
  await begun.confirm(handle, world.now() / 1000 + 3600)
  return { leaseId: begun.leaseId, credential: handle['credential'] ?? '' }
}

export const living = (out: Outside) => [...out.alive.values()].filter(Boolean).length

/** What is in the store. */
export const rest = ({ kept }: Outside) => [...kept.keys()]

/** Lets so many seconds pass, a few at a time, and does what is due. */
export async function passes({ leases, world }: Process, seconds: number): Promise<void> {
  for (let left = seconds; left > 0; left -= 10) {
    world.pass(Math.min(left, 10) * 1000)
    await leases.sweep()
  }
}

/** Lets the clocks turn while something waits. */
export async function turning<T>({ world }: Process, work: Promise<T>): Promise<T> {
  const timer = setInterval(() => world.pass(200), 10)
  return work.finally(() => clearInterval(timer))
}
