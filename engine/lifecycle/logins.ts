import { createHash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { inParallel } from '../parallel.ts'
import { isInvalidAccessor, type OwnVault } from '../vault/own.ts'
import type { Store } from '../vault/store.ts'
import type { World } from '../world.ts'
import type { MachineId } from './machines.ts'

/** A token that a machine got, as far as it takes to revoke it. */
export type Login = {
  readonly accessor: string
  readonly role: string
  /** the set of reference values that the machine matched */
  readonly reference: string
  readonly epoch: number
  /** seconds since the epoch; a renewal may have made it live longer */
  readonly expires_at: number
}
type Which = (login: Login) => boolean | Promise<boolean>
export type Ended = { readonly accessors: readonly string[]; readonly failed: number }

/** Which tokens each machine holds: one record each, written before the token is given out, gone when the token is. */
export type Logins = {
  /** How many are kept for this machine, at least; those that ended were taken out if it is many. */
  readonly count: (id: MachineId) => Promise<number>
  readonly note: (id: MachineId, login: Login) => Promise<void>
  /** Revokes those of which it is true, each by its accessor, and takes out what has ended by itself. Never throws for one that would not go. */
  readonly end: (id: MachineId, which: Which) => Promise<Ended>
  readonly revoke: (accessor: string) => Promise<void>
  /** TPM ids with tokens on record */
  readonly holders: (mountId: string) => Promise<readonly string[]>
}

/** No machine holds more tokens at a time. */
export const MOST_LOGINS = 10_000
const AT_ONCE = 8
/** How many machines are counted in memory, and for how long before they are counted anew. */
const COUNTED = 10_000
const COUNT_MS = 60_000

export function openLogins(own: OwnVault, store: Store, world: World): Logins {
  const clock = { perf: { now: world.monotonic }, ttlResolution: 0 }
  const counts = new LRUCache<string, number>({ max: COUNTED, ttl: COUNT_MS, noUpdateTTL: true, ...clock })
  const revoke = async (accessor: string) => void (await own.write('auth/token/revoke-accessor', { accessor }))
  const end: Logins['end'] = async (id, which) => {
    const folder = folderOf(id)
    const names = await store.list(folder)
    const ends = await inParallel(names, AT_ONCE, async name => {
      try {
        return await settle(`${folder}${name}`, which)
      } catch (error) {
        world.log.warn({ error, tpm: id.tpmId }, 'a token of a machine could not be revoked yet')
        return 'failed'
      }
    })
    const accessors = ends.flatMap(one => (typeof one === 'object' ? [one.accessor] : []))
    counts.set(folder, ends.filter(one => one === 'kept' || one === 'failed').length)
    return { accessors, failed: ends.filter(one => one === 'failed').length }
  }
  const settle = async (path: string, which: Which): Promise<'kept' | 'gone' | Login> => {
    const login = (await store.fresh<Login>(path))?.value
    if (!login) return 'gone'
    if (await which(login)) {
      await revoke(login.accessor)
      await store.delete(path)
      return login
    }
    if (login.expires_at > world.now() / 1000) return 'kept'
    return outlived(path, login)
  }
  /** It may have been renewed. */
  const outlived = async (path: string, login: Login): Promise<'kept' | 'gone'> => {
    const left = await lifeOf(own, login.accessor)
    if (left === 0) await store.delete(path)
    else await store.put(path, { ...login, expires_at: Math.floor(world.now() / 1000) + left })
    return left === 0 ? 'gone' : 'kept'
  }
  return {
    count: async id => {
      const folder = folderOf(id)
      const known = counts.get(folder)
      if (known !== undefined) return known
      const found = (await store.list(folder)).length
      counts.set(folder, found)
      if (found >= MOST_LOGINS) await end(id, () => false)
      return counts.get(folder) ?? found
    },
    note: async (id, login) => {
      const folder = folderOf(id)
      await store.put(`${folder}${nameOf(login.accessor)}`, login, 0)
      const counted = counts.get(folder)
      if (counted !== undefined) counts.set(folder, counted + 1)
    },
    end,
    revoke,
    holders: async mountId => (await store.list(`${mountId}/logins/`)).map(name => name.replace(/\/$/, '')),
  }
}

const LONG = 86_400

/** Whole seconds that a token has left; 0 when it is gone. */
async function lifeOf(own: OwnVault, accessor: string): Promise<number> {
  try {
    const { ttl } = (await own.write('auth/token/lookup-accessor', { accessor }))?.data ?? {}
    return typeof ttl === 'number' && ttl > 0 ? ttl : LONG
  } catch (error) {
    if (isInvalidAccessor(error)) return 0
    throw error
  }
}

const folderOf = ({ mountId, tpmId }: MachineId) => `${mountId}/logins/${tpmId}/`
const nameOf = (accessor: string) => createHash('sha256').update(accessor).digest('hex')
