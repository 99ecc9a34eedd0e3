import { createHash, timingSafeEqual } from 'node:crypto'
import { BrokerError, isConflict } from '../errors.ts'
import type { Mount } from '../mount_table.ts'
import type { TaskContext } from '../tasks/context.ts'
import type { Kept, Store } from '../vault/store.ts'
import type { World } from '../world.ts'

/** What an agent asks a person to consent to. Nothing secret is in it. */
export type Wish = {
  readonly role: string
  readonly integration: string
  readonly tpmId: string
  readonly plugin: string
  readonly action: string
  readonly scope: readonly string[]
  readonly audience: string
  readonly ttlSeconds: number
  /** what the agent does it for */
  readonly task: TaskContext | undefined
}

/** What goes to the identity provider and has to come back, or to fit what comes back. */
export type Journey = {
  /** SHA-256 of the cookie: whoever comes back has to be the browser that left */
  readonly browser: string
  readonly state: string
  readonly nonce: string
  readonly verifier: string
}

/** `asked`: nobody decided. `sent`: allowed here, on the way through the identity provider. `redeeming`: came back, once. */
export type State = 'asked' | 'sent' | 'redeeming' | 'granted' | 'denied' | 'failed'

export type ConsentRequest = {
  readonly state: State
  readonly wish: Wish
  /** what agent and page both show, so that a person sees that they belong together */
  readonly userCode: string
  /** SHA-256 of the agent's handle */
  readonly handle: string
  /** milliseconds since the epoch */
  readonly expiresAt: number
  readonly journey?: Journey
  /** milliseconds since the epoch: when it came back */
  readonly cameBackAt?: number
}

export type Found = {
  readonly mountId: string
  readonly path: string
  readonly version: number
  readonly request: ConsentRequest
}

/** Requests for consent, in KV: whichever replica the person's browser and the agent reach, it is there. */
export type Requests = {
  /** @throws BrokerError rate_limited when this machine has too many open */
  readonly open: (
    mount: Mount,
    wish: Wish,
  ) => Promise<{ readonly id: string; readonly handle: string; readonly userCode: string }>
  /** By what the page's address holds, the agent's handle, or what came back from the identity provider. Undefined when there is none or it ended. */
  readonly byId: (id: string) => Promise<Found | undefined>
  readonly byHandle: (mount: Mount, handle: string) => Promise<Found | undefined>
  readonly byState: (state: string) => Promise<Found | undefined>
  /** From exactly this state to that one: of two who try, one is told that it was too late. @throws BrokerError conflict */
  readonly move: (found: Found, to: State, journey?: Journey) => Promise<Found>
  readonly close: (found: Found) => Promise<void>
}

export const LIFE_MS = 10 * 60_000
const OPEN_PER_MACHINE = 8
const LETTERS = 'BCDFGHJKLMNPQRSTVWXZ'

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')
const same = (a: string, b: string) => timingSafeEqual(Buffer.from(sha256(a), 'hex'), Buffer.from(sha256(b), 'hex'))
const placeOf = (tpmId: string) => sha256(tpmId).slice(0, 24)

export function openRequests(store: Store, { now, random }: World): Requests {
  const read = async (mountId: string, place: string, key: string): Promise<Found | undefined> => {
    const path = `${mountId}/consent/${place}/${key}`
    const kept = await store.fresh<ConsentRequest>(path)
    return kept && kept.value.expiresAt > now() ? found(mountId, path, kept) : undefined
  }
  const byId = async (id: string) => {
    const [mountId, place, secret] = partsOf(id, 3)
    return mountId && place && secret ? read(mountId, place, sha256(secret)) : undefined
  }
  return {
    byId,
    open: async (mount, wish) => {
      const place = placeOf(wish.tpmId)
      await makeRoom(store, `${mount.id}/consent/${place}/`, now())
      const [secret, handle] = [random(24).toString('base64url'), random(24).toString('base64url')]
      const userCode = codeOf(random(8))
      const request = { state: 'asked', wish, userCode, handle: sha256(handle), expiresAt: now() + LIFE_MS } as const
      await store.put(`${mount.id}/consent/${place}/${sha256(secret)}`, request satisfies ConsentRequest, 0)
      return { id: `${mount.id}.${place}.${secret}`, handle: `${place}.${sha256(secret)}.${handle}`, userCode }
    },
    byHandle: async (mount, given) => {
      const [place, key, handle] = partsOf(given, 3)
      const there = place && key && handle ? await read(mount.id, place, key) : undefined
      return there && same(there.request.handle, sha256(handle ?? '')) ? there : undefined
    },
    byState: async state => {
      const [mountId, place, key, secret] = partsOf(state, 4)
      const there = mountId && place && key && secret ? await read(mountId, place, key) : undefined
      return there?.request.journey && same(there.request.journey.state, state) ? there : undefined
    },
    move: async ({ mountId, path, version, request }, to, journey) => {
      const cameBack = to === 'redeeming' ? { cameBackAt: now() } : {}
      const next = { ...request, state: to, ...cameBack, ...(journey ? { journey } : {}) }
      try {
        await store.put(path, next, version)
      } catch (error) {
        if (isConflict(error)) throw new BrokerError('conflict', 'this was answered already')
        throw error
      }
      return found(mountId, path, { value: next, version: version + 1 })
    },
    close: ({ path }) => store.delete(path),
  }
}

/** `state` for the identity provider: finds the request again, and tells nobody the address of the page. */
export function stateOf({ mountId, path }: Found, random: World['random']): string {
  const [place, key] = path.split('/').slice(-2)
  return `${mountId}.${place}.${key}.${random(24).toString('base64url')}`
}

export const browserOf = (cookie: string) => sha256(cookie)

function found(mountId: string, path: string, { value, version }: Kept<ConsentRequest>): Found {
  return { mountId, path, version, request: value }
}

const PART = /^[A-Za-z0-9_-]{1,128}$/

function partsOf(text: string, count: number): readonly string[] {
  const parts = text.split('.')
  return parts.length === count && parts.every(part => PART.test(part)) ? parts : []
}

/** What ended goes; a machine that opens one after the other is stopped. */
async function makeRoom(store: Store, folder: string, now: number): Promise<void> {
  const names = await store.list(folder)
  const kept = await Promise.all(names.map(name => store.fresh<ConsentRequest>(folder + name)))
  const over = names.filter((_, index) => (kept[index]?.value.expiresAt ?? 0) <= now)
  await Promise.all(over.map(name => store.delete(folder + name)))
  if (names.length - over.length >= OPEN_PER_MACHINE)
    throw new BrokerError('rate_limited', 'this machine waits for the consent of too many people already')
}

/** Easy to read aloud, hard to guess: `BCDF-GHJK`, of twenty letters that make no words. */
function codeOf(bytes: Buffer): string {
  const letters = [...bytes].map(byte => LETTERS[byte % LETTERS.length]).join('')
  return `${letters.slice(0, 4)}-${letters.slice(4)}`
}
