import { expect, test } from 'vitest'
import type { Courier } from '../../engine/lifecycle/courier.ts'
import type { Login, Logins } from '../../engine/lifecycle/logins.ts'
import { type Happened, moved, type Reason, reasons } from '../../engine/lifecycle/machine.ts'
import { openMachines } from '../../engine/lifecycle/machines.ts'
import { openWorker } from '../../engine/lifecycle/worker.ts'
import type { Mount } from '../../engine/mount_table.ts'
import { openStore, type Store } from '../../engine/vault/store.ts'
import { fakeTransit } from '../fakes/transit.ts'
import { testWorld } from '../fakes/world.ts'

// What is ended of a machine to which something happened, and that it is found again until it is.

const mount = { id: 'mount', path: 'auth/tpm-quote/', type: 'tpm-quote' } as Mount
const id = { mountId: mount.id, tpmId: 'tpm' }
const MARKER = 'mount/open/tpm'

/** A machine with a token of the epoch before it last moved, and one of that; and what was asked for its end. */
function opened() {
  const world = testWorld()
  const kept = openStore(fakeTransit(), 'assay', world.monotonic)
  const all = { world, asked: [] as unknown[], measured: [] as string[], left: 0, gone: undefined as Error | undefined }
  const hooks = { cleared: async () => {} }
  const store: Store = {
    ...kept,
    delete: async path => {
      await hooks.cleared()
      await kept.delete(path)
    },
  }
  const machines = openMachines(kept)
  const happened = async (reason: Reason) => {
    const what: Happened = { id: `${reason} ${all.asked.length}`, reason, detail: '', at: world.now() }
    await kept.put(MARKER, {})
    await machines.change(id, machine => moved(machine, what, true))
  }
  const end: Logins['end'] = async (_, which) => {
    const tokens = ['before', 'since'].map((accessor, epoch) => ({ accessor, epoch }) as Login)
    const ended = await Promise.all(tokens.map(async one => ((await which(one)) ? [one.accessor] : [])))
    return { accessors: ended.flat(), failed: 0 }
  }
  const worker = openWorker({
    world,
    store,
    machines,
    logins: { end } as Logins,
    courier: { tell: async () => ({ told: [], left: [] }) } as unknown as Courier,
    mounts: () => [mount],
    endLeases: async (_, __, accessors) => {
      all.asked.push(accessors)
      if (all.gone) throw all.gone
      return all.left
    },
    measured: reason => void all.measured.push(reason),
  })
  const begin = async () => {
    worker.begin(mount, id.tpmId)
    await worker.idle()
  }
  const open = async () => [(await machines.fresh(id)).incidents.length, (await kept.list('mount/open/')).length]
  return { ...all, all, hooks, worker, happened, begin, open }
}

const others = (Object.keys(reasons) as Reason[]).filter(reason => reason !== 'rebooted')
test.each([['rebooted', ['before']], ...others.map(reason => [reason, 'all'] as const)] as const)(
  'of a machine that was %s, leases of these tokens end: %j',
  async (reason, wanted) => {
    const { happened, begin, asked, measured, open } = opened()
    await happened(reason)
    await begin()
    expect([asked, measured, await open()]).toEqual([[wanted], [reason], [0, 0]])
  },
)

test.each([
  ['cannot be ended', new Error('vault does not answer'), 0],
  ['are left', undefined, 2],
] as const)('what leases %s is found again until none is, and overdue meanwhile', async (_, gone, left) => {
  const { all, world, worker, happened, begin, measured, open } = opened()
  Object.assign(all, { gone, left })
  await happened('failed')
  await begin()
  world.pass(30_001)
  await worker.sweep()
  expect([measured, await open(), worker.overdue()]).toEqual([[], [1, 1], 1])
  Object.assign(all, { gone: undefined, left: 0 })
  await worker.sweep()
  expect([measured, await open(), worker.overdue()]).toEqual([['failed'], [0, 0], 0])
})

test('what is announced while the mark of the one before is taken away is found all the same', async () => {
  const { worker, hooks, happened, begin, asked, open } = opened()
  await happened('rebooted')
  hooks.cleared = async () => {
    hooks.cleared = async () => {}
    await happened('failed')
  }
  await begin()
  expect(await open()).toEqual([1, 1])
  await worker.sweep()
  expect([asked, await open()]).toEqual([
    [['before'], 'all'],
    [0, 0],
  ])
})
