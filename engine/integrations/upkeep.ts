import { randomUUID } from 'node:crypto'
import type { Metrics } from '../metrics.ts'
import type { Mount, MountTable } from '../mount_table.ts'
import { inParallel } from '../parallel.ts'
import type { OwnVault } from '../vault/own.ts'
import type { World } from '../world.ts'
import { type Expiry, expiryStates } from './expiry.ts'
import { NOTHING, type Rotation } from './rotation.ts'
import type { Order } from './turn.ts'

/** Looks after the integrations of all mounts: what ends soon is counted and logged, what is due is rotated. */
export type Upkeep = {
  /** one round, now */
  readonly round: () => Promise<void>
  readonly stop: () => void
}

export type UpkeepParts = {
  readonly world: World
  readonly metrics: Metrics
  readonly mounts: MountTable
  readonly own: OwnVault
  readonly rotation: Rotation
  readonly names: (mount: Mount) => Promise<readonly string[]>
  readonly expiry: (mount: Mount, name: string) => Promise<Expiry>
  /** what else time ends, apart from each other */
  readonly sweeps: readonly ((mount: Mount) => Promise<void>)[]
}

const ROUND_MS = 60_000
/** A warning is repeated once a day. */
const REPEAT_MS = 86_400_000
const AT_ONCE = 16

export function openUpkeep(parts: UpkeepParts): Upkeep {
  const { world, metrics, mounts, rotation } = parts
  const warned = new Map<string, number>()
  const warn = (key: string, mount: Mount, name: string, warning: string) => {
    const last = warned.get(key)
    if (last !== undefined && world.monotonic() - last < REPEAT_MS) return
    warned.set(key, world.monotonic())
    world.log.warn({ mount: mount.path, integration: name }, warning)
  }
  const tend = async (mount: Mount, name: string): Promise<Expiry['state']> => {
    const key = `${mount.id}/${name}`
    await rotation.tend(mount, name, orderOf(parts.own)).catch((error: unknown) => {
      world.log.warn(
        { error, mount: mount.path, integration: name },
        'the root credential could not be rotated: the one in use stays',
      )
    })
    try {
      const { state, warning } = await parts.expiry(mount, name)
      if (warning === undefined) warned.delete(key)
      else warn(key, mount, name, warning)
      return state
    } catch (error) {
      warn(key, mount, name, error instanceof Error ? error.message : 'the root credential cannot be read')
      return 'unreadable'
    }
  }
  const careful = (mount: Mount, work: () => Promise<void>) =>
    work().catch((error: unknown) =>
      world.log.warn({ error, mount: mount.path }, 'the mount could not be looked after: again in a minute'),
    )
  const tendAll = async () => {
    const all: (readonly [Mount, string])[] = []
    for (const mount of mounts.ofType('broker'))
      await careful(mount, async () => {
        for (const name of await parts.names(mount)) all.push([mount, name])
      })
    // a new key may be waited for, for more than a minute
    const found = await inParallel(all, AT_ONCE, ([mount, name]) => tend(mount, name))
    for (const state of expiryStates) metrics.integrations.set({ state }, found.filter(one => one === state).length)
  }
  // silent agents do not keep what they have for as long as providers take
  const sweepAll = async () => {
    for (const mount of mounts.ofType('broker')) for (const sweep of parts.sweeps) await careful(mount, () => sweep(mount))
  }
  const timers = [everyMinute(tendAll), everyMinute(sweepAll)]
  return { round: async () => void (await Promise.all([tendAll(), sweepAll()])), stop: () => timers.forEach(clearInterval) }
}

/** Not while it goes on since a minute ago. */
function everyMinute(work: () => Promise<void>): NodeJS.Timeout {
  let isUnderWay = false
  return setInterval(() => {
    if (isUnderWay) return
    isUnderWay = true
    void work().finally(() => {
      isUnderWay = false
    })
  }, ROUND_MS).unref()
}

/** In the broker's own name, with what its policy at Vault lets it. */
function orderOf(own: OwnVault): Order {
  const vaultWrite = async (path: string) => void (await own.write(path, {}))
  return { txn: randomUUID(), by: 'schedule', supplied: NOTHING, vaultWrite }
}
