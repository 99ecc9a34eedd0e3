import { describe, expect, test } from 'vitest'
import { BrokerError } from '../../engine/errors.ts'
import { openLargeStore } from '../../engine/vault/large.ts'
import type { Kept, Store } from '../../engine/vault/store.ts'

/** A store in memory that keeps the rule of versions. */
function memory() {
  const kept = new Map<string, Kept<unknown>>()
  const get = async <T>(path: string) => kept.get(path) as Kept<T> | undefined
  const store: Store = {
    get,
    fresh: get,
    put: async (path, value, cas) => {
      const version = kept.get(path)?.version ?? 0
      if (cas !== undefined && cas !== version) throw new BrokerError('conflict', 'changed')
      kept.set(path, { value: structuredClone(value), version: version + 1 })
    },
    list: async () => [],
    delete: async path => void kept.delete(path),
    deleteAll: async () => undefined,
  }
  return { store, kept }
}

const large = { text: 'ä"\n'.repeat(300_000) }
const small = { text: 'a' }

describe('values of any size', () => {
  test('come back as they were, in parts that a record can hold', async () => {
    const { store, kept } = memory()
    await openLargeStore(store).put('mount/ca/x', large, 0)
    expect((await openLargeStore(store).get('mount/ca/x'))?.value).toEqual(large)
    expect((await openLargeStore(store).fresh('mount/ca/x'))?.version).toBe(1)
    for (const { value } of kept.values()) expect(JSON.stringify(value).length).toBeLessThan(1024 * 1024)
    expect([...kept.keys()].filter(path => !path.startsWith('mount/parts/ca/x/'))).toEqual(['mount/ca/x'])
  })

  test('are replaced whole, and what is replaced leaves nothing', async () => {
    const { store, kept } = memory()
    const both = openLargeStore(store)
    await both.put('mount/ca/x', large, 0)
    await both.put('mount/ca/x', { text: `${large.text}more` }, 1)
    expect((await both.get<typeof large>('mount/ca/x'))?.value.text.slice(-4)).toBe('more')
    await both.put('mount/ca/x', small, 2)
    expect([...kept]).toEqual([['mount/ca/x', { value: small, version: 3 }]])
    await both.put('mount/ca/x', large, 3)
    await both.delete('mount/ca/x')
    expect(kept.size).toBe(0)
  })

  test('that another replica replaced a moment ago are read as they are now', async () => {
    const { store, kept } = memory()
    await openLargeStore(store).put('mount/ca/x', large, 0)
    const before = kept.get('mount/ca/x')
    await openLargeStore(store).put('mount/ca/x', { text: `${large.text}more` }, 1)
    const behind = { ...store, get: async <T>(path: string) => (path === 'mount/ca/x' ? before : kept.get(path)) as Kept<T> }
    expect((await openLargeStore(behind).get<typeof large>('mount/ca/x'))?.value.text.slice(-4)).toBe('more')
  })

  test('that lost against another writer leave the record as it is', async () => {
    const { store } = memory()
    const both = openLargeStore(store)
    await both.put('mount/ca/x', large, 0)
    await expect(both.put('mount/ca/x', { text: `${large.text}more` }, 0)).rejects.toMatchObject({ code: 'conflict' })
    expect((await openLargeStore(store).get('mount/ca/x'))?.value).toEqual(large)
  })

  test('of which a part is missing or another one cannot be read', async () => {
    const { store, kept } = memory()
    await openLargeStore(store).put('mount/ca/x', large, 0)
    const [part = ''] = [...kept.keys()].filter(path => path.includes('/parts/'))
    kept.set(part, { value: { text: 'x' }, version: 1 })
    await expect(openLargeStore(store).get('mount/ca/x')).rejects.toMatchObject({ code: 'unavailable' })
    kept.delete(part)
    await expect(openLargeStore(store).get('mount/ca/x')).rejects.toMatchObject({ code: 'unavailable' })
  })
})
