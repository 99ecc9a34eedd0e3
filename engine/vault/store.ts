import { LRUCache } from 'lru-cache'
import { BrokerError } from '../errors.ts'
import { openReads } from '../reads.ts'
import { absent, type VaultReply } from './client.ts'
import { isVersionMismatch, isVersionWanted, type OwnVault } from './own.ts'

export type Kept<T> = { readonly value: T; readonly version: number }

/** Durable state. `get` may be up to `FRESH_MS` old, unless this process wrote it; `cas` 0 creates only.
 *  @throws BrokerError conflict when `cas` is not the current version, unavailable when the store cannot be reached */
export type Store = {
  readonly get: <T>(path: string) => Promise<Kept<T> | undefined>
  /** past the cache */
  readonly fresh: <T>(path: string) => Promise<Kept<T> | undefined>
  readonly put: (path: string, value: object, cas?: number) => Promise<void>
  readonly list: (path: string) => Promise<readonly string[]>
  readonly delete: (path: string) => Promise<void>
  /** everything under a folder, given with its trailing slash */
  readonly deleteAll: (folder: string) => Promise<void>
}

/** How long another replica may still see what was changed here: the stated latency of disabling and of policy changes. */
export const FRESH_MS = 5_000
const MAX_KEPT = 10_000
const OVERWRITES = 8

/** What is not there is known, too. */
type Found = { readonly kept: Kept<unknown> | undefined }

/** State in a KV v2 mount, read through a small cache (`kept` records at most) with one flight per path. */
export function openStore(vault: OwnVault, mount: string, monotonic: () => number, kept = MAX_KEPT): Store {
  const clock = { perf: { now: monotonic }, ttlResolution: 0 }
  const cache = new LRUCache<string, Found>({ max: kept, ttl: FRESH_MS, ...clock })
  const read = async (path: string): Promise<Found> => {
    const reply = await absent(vault.read(`${mount}/data/${path}`))
    return { kept: reply && keptOf(path, reply.data) }
  }
  const write = (path: string, value: object, cas?: number) =>
    vault.write(`${mount}/data/${path}`, { data: { value }, ...(cas === undefined ? {} : { options: { cas } }) })
  /** Where every write wants a version: of what is there now, whoever else writes. */
  const overwrite = async (path: string, value: object, tries = OVERWRITES): Promise<unknown> => {
    const { kept } = await read(path)
    return write(path, value, kept?.version ?? 0).catch((error: unknown) => {
      if (tries === 1 || !isVersionMismatch(error)) throw error
      return overwrite(path, value, tries - 1)
    })
  }
  const { shared, fresh, change } = openReads(cache, read)
  const list = (path: string) => vault.list(`${mount}/metadata/${path}`)
  const remove = (path: string) => change(path, () => absent(vault.delete(`${mount}/metadata/${path}`)))
  const deleteAll = async (folder: string): Promise<void> => {
    for (const name of await list(folder)) await (name.endsWith('/') ? deleteAll(folder + name) : remove(folder + name))
  }
  return {
    get: async <T>(path: string) => (cache.get(path) ?? (await shared(path))).kept as Kept<T> | undefined,
    fresh: async <T>(path: string) => (await fresh(path)).kept as Kept<T> | undefined,
    put: (path, value, cas) =>
      change(path, () =>
        write(path, value, cas)
          .catch((error: unknown) => {
            if (!isVersionWanted(error)) throw error
            return overwrite(path, value)
          })
          .catch(conflict),
      ),
    list,
    delete: remove,
    deleteAll,
  }
}

/** What cannot be read is not absent: a rule that is there and is not seen would be a hole. */
function keptOf(path: string, data: VaultReply['data']): Kept<unknown> {
  const inner = data?.['data'] as { value?: unknown } | null | undefined
  const version = (data?.['metadata'] as { version?: unknown } | undefined)?.version
  if (inner?.value === undefined || typeof version !== 'number')
    throw new BrokerError('unavailable', `the record ${path} cannot be read`)
  return { value: inner.value, version }
}

function conflict(error: unknown): never {
  if (isVersionMismatch(error))
    throw new BrokerError('conflict', 'somebody else changed this at the same time: read it and try again')
  throw error
}
