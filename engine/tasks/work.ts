import { createHash } from 'node:crypto'
import { accept, reject } from '#attestation'
import { ignoreConflict } from '../conflicts.ts'
import { isConflict } from '../errors.ts'
import type { Mount } from '../mount_table.ts'
import type { Verdict } from '../refusals.ts'
import type { Time } from '../time.ts'
import type { Store } from '../vault/store.ts'
import type { TaskContext } from './context.ts'

/** Whose work it is: what an agent does for one session of a task, else what it does with one login. */
export type Worker = { readonly tpmId: string; readonly accessor: string; readonly role: string; readonly task: TaskContext }

/** What a role allows of it; 0 is without. */
export type WorkRules = { readonly maxSeconds: number; readonly heartbeatSeconds: number }

export type Working = {
  /** whole seconds; Infinity without a maximum */
  readonly leftSeconds: number
  /** how soon the next sign of life is wanted; Infinity when none is */
  readonly beatWithinSeconds: number
}

/** Long work: credentials follow each other for as long as the role allows, and only while the agent shows that it lives. */
export type Work = {
  /** A request is a sign of life, and the first one begins the work. */
  readonly beat: (mount: Mount, worker: Worker, rules: WorkRules) => Promise<Verdict<Working>>
  /** Ends what has a lease and whose agent is silent; forgets what ended long ago. */
  readonly sweep: (mount: Mount) => Promise<void>
}

type Kept = {
  readonly role: string
  readonly since: number
  readonly beat: number
  /** seconds since the epoch: when the silence is too long; 0 for never */
  readonly silentAt: number
  readonly accessors: readonly string[]
  /** seconds since the epoch: when it has taken as long as it may; what is forgotten before could begin anew */
  readonly until?: number
  readonly ended?: true
}

export type WorkParts = {
  readonly state: Store
  readonly time: Pick<Time, 'earlier'>
  /** ends the leases of a token */
  readonly end: (accessor: string) => Promise<void>
  /** how often a role wants a sign of life now, in seconds, 0 for never; undefined when there is no such role */
  readonly heartbeatOf: (mount: Mount, role: string) => Promise<number | undefined>
}

/** More than an agent has at a time, so that what falls out of the list is mostly dead. */
const ACCESSORS = 128
const FORGET_SECONDS = 30 * 86_400
/** No maximum and no signs of life. */
export const UNBOUNDED: Working = { leftSeconds: Number.POSITIVE_INFINITY, beatWithinSeconds: Number.POSITIVE_INFINITY }

export function openWork({ state, time, end, heartbeatOf }: WorkParts): Work {
  const folder = (mount: Mount) => `${mount.id}/work/`
  const now = () => Math.floor(time.earlier() / 1000)

  const begin = async (path: string, worker: Worker, rules: WorkRules): Promise<Kept> => {
    const kept = keptOf(worker.role, now(), now(), [worker.accessor], rules)
    try {
      await state.put(path, kept, 0)
      return kept
    } catch (error) {
      const there = isConflict(error) ? await state.fresh<Kept>(path) : undefined
      if (!there) throw error
      return there.value
    }
  }
  /** Written when it changes something: a quarter of the time between two signs of life is close enough. */
  const live = async (path: string, kept: Kept, { accessor, role }: Worker, rules: WorkRules): Promise<void> => {
    const isWritten = ({ since, accessors, beat, until }: Kept) =>
      accessors.includes(accessor) &&
      until === untilOf(since, rules) &&
      (rules.heartbeatSeconds === 0 || now() - beat < rules.heartbeatSeconds / 4)
    if (isWritten(kept)) return
    for (;;) {
      const there = await state.fresh<Kept>(path)
      // who ended it meanwhile was first; who beat meanwhile did it for this one, unless its token is not on record yet
      if (!there || there.value.ended || isWritten(there.value)) return
      const { since, accessors } = there.value
      const all = accessors.includes(accessor) ? accessors : [...accessors, accessor]
      // nobody would find by it any more what it got
      for (const dropped of all.slice(0, -ACCESSORS)) await end(dropped)
      try {
        return await state.put(path, keptOf(role, since, now(), all.slice(-ACCESSORS), rules), there.version)
      } catch (error) {
        if (!isConflict(error)) throw error
      }
    }
  }
  /** Also by what its role wants now, which its agent may have heard of since. */
  const isSilentStill = async (mount: Mount, { role, beat }: Kept): Promise<boolean> => {
    const wanted = await heartbeatOf(mount, role)
    return wanted === undefined || (wanted > 0 && beat + wanted < now())
  }
  return {
    beat: async (mount, worker, rules) => {
      const { maxSeconds, heartbeatSeconds } = rules
      const path = `${folder(mount)}${nameOf(worker)}`
      const kept = (await state.get<Kept>(path))?.value ?? (await begin(path, worker, rules))
      const leftSeconds = maxSeconds === 0 ? Number.POSITIVE_INFINITY : kept.since + maxSeconds - now()
      if (leftSeconds <= 0) return reject('WORK_ENDED', `it has taken ${maxSeconds} seconds, which is what the role allows`)
      const silent = heartbeatSeconds > 0 && now() - kept.beat > heartbeatSeconds ? await isSilent(state, path, now()) : false
      if (kept.ended || silent) return reject('WORK_ENDED', `no sign of life came within ${heartbeatSeconds} seconds`)
      await live(path, kept, worker, rules)
      return accept({ leftSeconds, beatWithinSeconds: heartbeatSeconds || Number.POSITIVE_INFINITY })
    },
    sweep: async mount => {
      for (const name of await state.list(folder(mount))) {
        const path = `${folder(mount)}${name}`
        const there = await state.fresh<Kept>(path)
        if (!there) continue
        const { silentAt, beat, until = 0, ended, accessors } = there.value
        if (Math.max(beat, until) + FORGET_SECONDS < now()) await state.delete(path)
        else if (!ended && silentAt > 0 && silentAt < now() && (await isSilentStill(mount, there.value))) {
          // leases first: a work that is marked as ended is not looked at again
          for (const accessor of accessors) await end(accessor)
          await state.put(path, { ...there.value, ended: true }, there.version).catch(ignoreConflict)
        }
      }
    },
  }
}

/** What is remembered may be some seconds old: silence is looked at past the cache. */
async function isSilent(state: Store, path: string, now: number): Promise<boolean> {
  const there = await state.fresh<Kept>(path)
  return there !== undefined && (there.value.ended === true || (there.value.silentAt > 0 && there.value.silentAt < now))
}

function keptOf(role: string, since: number, beat: number, accessors: readonly string[], rules: WorkRules): Kept {
  const { heartbeatSeconds } = rules
  const silentAt = heartbeatSeconds > 0 ? beat + heartbeatSeconds : 0
  return { role, since, beat, accessors, until: untilOf(since, rules), silentAt }
}

const untilOf = (since: number, { maxSeconds }: WorkRules) => (maxSeconds > 0 ? since + maxSeconds : 0)

/** A session of a task is the same work whatever token it is done with; without one, a login is a work. */
function nameOf({ tpmId, accessor, role, task }: Worker): string {
  const { org, task: name, session } = task
  const which = session === '' ? [accessor] : [org, name, session]
  return createHash('sha256')
    .update(JSON.stringify([tpmId, role, ...which]))
    .digest('hex')
}
