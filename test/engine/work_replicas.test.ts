import { expect, test } from 'vitest'
import { BrokerError } from '../../engine/errors.ts'
import type { Mount } from '../../engine/mount_table.ts'
import { NO_CONTEXT } from '../../engine/tasks/bindings.ts'
import { openWork, type WorkRules } from '../../engine/tasks/work.ts'
import type { Store } from '../../engine/vault/store.ts'
import { agreeing, testWorld } from '../fakes/world.ts'

// What is written of long work, by whom, and what a replica that remembers less makes of it.

const mount = { id: 'mount', path: 'broker/', type: 'broker' } as Mount
const rules: WorkRules = { maxSeconds: 0, heartbeatSeconds: 120 }
const worker = (accessor = 'a', session = 's') => ({
  tpmId: 'tpm',
  accessor,
  role: 'deploy',
  task: { ...NO_CONTEXT, org: 'acme', session },
})

/** Replicas beside one Vault, each of which remembers what it read until a test lets it forget. */
function shared() {
  const world = testWorld()
  const kept = new Map<string, { value: unknown; version: number }>()
  const ended: string[] = []
  const all = { world, kept, ended, writes: 0, wanted: 120, fault: undefined as Error | undefined }
  const replica = () => {
    const remembered = new Map<string, unknown>()
    const state = {
      get: async (path: string) => {
        if (!remembered.has(path)) remembered.set(path, kept.get(path))
        return remembered.get(path)
      },
      fresh: async (path: string) => kept.get(path),
      put: async (path: string, value: object, cas?: number) => {
        all.writes += 1
        if (all.fault) throw all.fault
        const version = kept.get(path)?.version ?? 0
        if (cas !== undefined && cas !== version) throw new BrokerError('conflict', 'somebody else was faster')
        kept.set(path, { value, version: version + 1 })
        remembered.delete(path)
      },
      list: async (folder: string) => [...kept.keys()].map(path => path.slice(folder.length)),
    } as unknown as Store
    const end = async (accessor: string) => void ended.push(accessor)
    const work = openWork({ state, time: agreeing(world), end, heartbeatOf: async () => all.wanted })
    return { forget: () => remembered.clear(), beat: work.beat, sweep: work.sweep }
  }
  return { ...all, all, replica }
}

test('a sign of life is written once in a quarter of the time in which the next is wanted', async () => {
  const { all, world, replica } = shared()
  const { beat } = replica()
  const writes: number[] = []
  for (const seconds of [0, 0, 29, 1, 29, 1]) {
    world.pass(seconds * 1000)
    await beat(mount, worker(), rules)
    writes.push(all.writes)
  }
  expect(writes).toEqual([1, 1, 1, 2, 2, 3])
})

test('where none is wanted, what is written is that it began, and when it ends by the role of now', async () => {
  const { all, world, replica } = shared()
  const { beat } = replica()
  const writes: number[] = []
  for (const maxSeconds of [3600, 3600, 7200, 7200, 0]) {
    world.pass(600_000)
    await beat(mount, worker(), { maxSeconds, heartbeatSeconds: 0 })
    writes.push(all.writes)
  }
  expect(writes).toEqual([1, 1, 2, 2, 3])
})

test('work of which no sign of life was wanted is not silent when its role wants them', async () => {
  const { world, ended, replica } = shared()
  const { beat, sweep } = replica()
  await beat(mount, worker(), { maxSeconds: 0, heartbeatSeconds: 0 })
  world.pass(3_600_000)
  await sweep(mount)
  expect(ended).toEqual([])
})

test('of two who begin it at once both are on record', async () => {
  const { world, ended, replica } = shared()
  const [one, other] = [replica(), replica()]
  await Promise.all([one.beat(mount, worker('a'), rules), other.beat(mount, worker('b'), rules)])
  world.pass(121_000)
  await one.sweep(mount)
  expect(ended.toSorted()).toEqual(['a', 'b'])
})

test('nothing is begun, and nothing goes on, that cannot be written', async () => {
  const { all, world, replica } = shared()
  const { beat, forget } = replica()
  const away = new BrokerError('unavailable', 'vault does not answer')
  all.fault = away
  await expect(beat(mount, worker(), rules)).rejects.toBe(away)
  all.fault = undefined
  forget()
  await beat(mount, worker(), rules)
  world.pass(60_000)
  all.fault = away
  await expect(beat(mount, worker(), rules)).rejects.toBe(away)
})

test('who remembers an older sign of life does not take it for silence', async () => {
  const { world, replica } = shared()
  const [one, other] = [replica(), replica()]
  await one.beat(mount, worker(), rules)
  await other.beat(mount, worker(), rules)
  world.pass(100_000)
  expect(await one.beat(mount, worker(), rules)).toMatchObject({ ok: true })
  world.pass(30_000)
  expect(await other.beat(mount, worker(), rules)).toMatchObject({ ok: true })
})

test('what was ended meanwhile is not begun anew by who remembers it as it was', async () => {
  const { world, ended, replica } = shared()
  const [one, other] = [replica(), replica()]
  await one.beat(mount, worker(), rules)
  await other.beat(mount, worker(), { ...rules, heartbeatSeconds: 600 })
  world.pass(121_000)
  await one.sweep(mount)
  expect(ended).toEqual(['a'])
  // its role wants fewer signs by now
  await other.beat(mount, worker('b'), { ...rules, heartbeatSeconds: 600 })
  other.forget()
  expect(await other.beat(mount, worker('b'), rules)).toMatchObject({ ok: false, code: 'WORK_ENDED' })
})

test('a round goes on past what somebody wrote meanwhile, and not past a Vault that does not answer', async () => {
  const { all, world, ended, replica } = shared()
  const { beat, sweep } = replica()
  for (const session of ['s', 't']) await beat(mount, worker(session, session), rules)
  world.pass(121_000)
  all.fault = new BrokerError('conflict', 'somebody else was faster')
  await sweep(mount)
  expect(ended).toEqual(['s', 't'])
  all.fault = new BrokerError('unavailable', 'vault does not answer')
  await expect(sweep(mount)).rejects.toBe(all.fault)
})
