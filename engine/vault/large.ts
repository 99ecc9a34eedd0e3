import { createHash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { BrokerError } from '../errors.ts'
import type { Kept, Store } from './store.ts'

/** What one record of Vault's store may hold is bounded (1 MiB by default with integrated storage), and what is larger is kept in parts of so many characters. */
const PART = 400_000
const MAX_JOINED = 64

/** A value that is kept in parts: where they are found, and what they have to add up to. */
type Manifest = { readonly parts: number; readonly sha256: string }

/**
 * A store whose values may be of any size. Parts are written before the record that names them and never changed, so that a
 * reader sees the old value or the new one, whole.
 */
export function openLargeStore(store: Store): Store {
  const joined = new LRUCache<string, object>({ max: MAX_JOINED })

  const whole = async <T>(path: string, kept: Kept<unknown> | undefined): Promise<Kept<T> | undefined> => {
    const manifest = kept && manifestOf(kept.value)
    if (!kept || !manifest) return kept as Kept<T> | undefined
    const value = joined.get(manifest.sha256) ?? (await join(path, manifest))
    joined.set(manifest.sha256, value)
    return { value: value as T, version: kept.version }
  }
  const join = async (path: string, { parts, sha256 }: Manifest): Promise<object> => {
    const places = Array.from({ length: parts }, (_, at) => partPath(path, sha256, at))
    const texts = await Promise.all(places.map(place => store.fresh<{ text: string }>(place)))
    const text = texts.map(part => part?.value.text ?? '').join('')
    if (digestOf(text) !== sha256) throw new BrokerError('unavailable', `the record ${path} is not whole`)
    return JSON.parse(text) as object
  }
  const remove = async (path: string, { value }: Kept<unknown>): Promise<void> => {
    const { parts, sha256 } = manifestOf(value) ?? { parts: 0, sha256: '' }
    for (let at = 0; at < parts; at += 1) await store.delete(partPath(path, sha256, at))
  }

  return {
    ...store,
    get: async <T>(path: string) => {
      const kept = await store.get<object>(path)
      try {
        return await whole<T>(path, kept)
      } catch (error) {
        // another replica may have replaced it, and taken the parts that our copy of the record names
        const now = await store.fresh<object>(path)
        if (now?.version === kept?.version) throw error
        return whole<T>(path, now)
      }
    },
    fresh: async path => whole(path, await store.fresh<object>(path)),
    put: async (path, value, cas) => {
      const text = JSON.stringify(value)
      const before = await store.fresh<object>(path)
      const manifest = text.length > PART ? await writeParts(store, path, text) : undefined
      await store.put(path, manifest ? { manifest } : value, cas)
      if (before && manifestOf(before.value)?.sha256 !== manifest?.sha256) await remove(path, before)
    },
    delete: async path => {
      const before = await store.fresh<object>(path)
      await store.delete(path)
      if (before) await remove(path, before)
    },
  }
}

async function writeParts(store: Store, path: string, text: string): Promise<Manifest> {
  const manifest = { parts: Math.ceil(text.length / PART), sha256: digestOf(text) }
  for (let at = 0; at < manifest.parts; at += 1)
    await store.put(partPath(path, manifest.sha256, at), { text: text.slice(at * PART, (at + 1) * PART) })
  return manifest
}

function manifestOf(value: unknown): Manifest | undefined {
  return (value as { manifest?: Manifest }).manifest
}

/** Under the first folder of the path, which is the mount's, beside what is listed there. */
function partPath(path: string, sha256: string, at: number): string {
  const [mount = '', ...rest] = path.split('/')
  return [mount, 'parts', ...rest, sha256, at].join('/')
}

function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
