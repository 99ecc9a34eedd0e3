import { inParallel } from '../parallel.ts'
import { type Lease, shortIdOf } from './lease.ts'
import { changeLease } from './ledger.ts'
import { type Entry, idIn, nameOf } from './name.ts'
import type { Parts } from './parts.ts'

/** `sync`: waits for the provider, for a while. */
export type How = { readonly sync?: boolean; readonly force?: boolean }

const SYNC_MS = 10_000
const FORCE_MS = 1_000
const AT_ONCE = 32
const POLL_MS = 50

export const entryIn = (lease: Lease): Pick<Entry, 'id'> => ({ id: shortIdOf(lease) })

/** Makes it durable that these are to be revoked, and begins. */
export async function accept(parts: Parts, entries: readonly Pick<Entry, 'id'>[]): Promise<readonly string[]> {
  const { ledger, revoker, clock } = parts
  const names = await inParallel(entries, AT_ONCE, async ({ id }) => {
    const changed = await changeLease(ledger, id, lease =>
      lease.state === 'revoking' ? undefined : { ...lease, state: 'revoking', due: Math.min(lease.due, clock()) },
    )
    const lease = changed ?? (await ledger.read(id))?.value
    return lease && nameOf(lease)
  })
  const there = names.filter(name => name !== undefined)
  for (const name of there) revoker.take(name)
  revoker.pump()
  return there
}

/** Accepts the revocation of these for good. @returns how many are not revoked yet */
export async function end(
  parts: Parts,
  entries: readonly Pick<Entry, 'id'>[],
  { sync = false, force = false }: How,
): Promise<number> {
  const names = await accept(parts, entries)
  if (!sync && !force) return names.length
  const until = parts.world.monotonic() + (force ? FORCE_MS : SYNC_MS)
  const ended = await inParallel(names, AT_ONCE, async name => {
    const done = await settled(parts, name, until)
    if (!done && force) await forget(parts, name)
    return done || force
  })
  return ended.filter(done => !done).length
}

/** Waits until it is gone, or until so long. */
async function settled({ ledger, revoker, world }: Parts, name: string, until: number): Promise<boolean> {
  if ((await revoker.now(name, world.monotonic() < until)) === 'failed') return false
  for (;;) {
    if (!(await ledger.read(idIn(name)))) return true
    if (world.monotonic() >= until) return false
    await new Promise(resolve => setTimeout(resolve, POLL_MS))
  }
}

async function forget({ ledger, onEnd }: Parts, name: string): Promise<void> {
  const kept = await ledger.read(idIn(name))
  if (!kept) return
  await ledger.remove(kept.value, [name])
  onEnd(kept.value, 'forced')
}
