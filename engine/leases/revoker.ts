import { pause } from '../back_off.ts'
import { wasFirst } from '../conflicts.ts'
import { BrokerError } from '../errors.ts'
import type { Kept } from '../vault/store.ts'
import type { World } from '../world.ts'
import { type Gates, openGates } from './gates.ts'
import { type Lease, shortIdOf } from './lease.ts'
import { changeLease, type Ledger } from './ledger.ts'
import { dueIn, idIn, nameOf } from './name.ts'
import { CALL_SECONDS, call, type Ended, type Provider } from './provider.ts'

export type RevokerOptions = {
  readonly world: World
  /** seconds since the epoch */
  readonly clock: () => number
  readonly ledger: Ledger
  readonly provider: Provider
  /** name of this replica */
  readonly me: string
  readonly onEnd: (lease: Lease, how: Ended) => void
  readonly onFailure: (lease: Lease, error: unknown) => void
}

export type Revoker = {
  /** Looks after a lease whose name is due, until there is nothing left to do. */
  readonly take: (name: string) => void
  /** Begins what was taken. */
  readonly pump: () => void
  /** And what has waited for its next try long enough. */
  readonly wake: () => void
  /** Ends when nothing is under way; what waits for its next try stays. */
  readonly idle: () => Promise<void>
  /** Ends with what is under way, however much was taken: that is left to others. */
  readonly stop: () => Promise<void>
  /** One try of what was taken, whatever the pauses say; `patient`: although its provider does not answer. `later`: somebody else is at it, its time has
   *  not come, or its provider is left alone. */
  readonly now: (name: string, patient: boolean) => Promise<'done' | 'failed' | 'later'>
  /** what is due and not done, with how often it failed here, and why it did last where that may be told */
  readonly waiting: () => readonly { readonly id: string; readonly failures: number; readonly why: string | undefined }[]
}

const AT_ONCE = 16
/** Longer than a call: who dies while it revokes is followed by another then. */
const CLAIM_SECONDS = 2 * CALL_SECONDS
const FIRST_MS = 1_000
const LONGEST_MS = 30_000
/** A name is there before its record is, or says so: it is not taken away while that may be on its way still. */
const WRITE_SECONDS = 10

/** In the queue: when it is tried next, on the monotonic clock, and whose call it is when that is known. */
type Task = {
  readonly name: string
  notBefore: number
  failures: number
  /** of the last failure */
  why: string | undefined
  provider: string | undefined
  flight: Promise<Step> | undefined
  /** taken while a try was under way, which may have read what was there before */
  again: boolean
  /** as far as is known */
  due: boolean
  /** how it ended was said */
  told: boolean
}
type Step = 'done' | 'failed' | { readonly waitMs: number; readonly due?: false }

/** Revokes what is due, and does not stop to: pauses grow up to half a minute, apart per lease and per provider. Replicas agree by check-and-set:
 *  who writes the claim makes the call. */
export function openRevoker(options: RevokerOptions): Revoker {
  const { world } = options
  const chance = () => world.random(1).readUInt8() / 256
  const gates = openGates(world.monotonic, chance)
  /** for who waits: one call more, that does not count as the one that sees whether a provider is back */
  const past: Gates = { ...gates, enter: () => true, left: () => {} }
  const tasks = new Map<string, Task>()
  /** those that may be begun: what waits for a provider that is down is not looked at with each that ends */
  const ready = new Set<Task>()
  const running = new Set<Promise<Step>>()

  const sleep = (task: Task, ms: number) => {
    task.notBefore = world.monotonic() + ms
  }
  const settle = (task: Task, step: Step): Step => {
    const { again } = task
    Object.assign(task, { flight: undefined, again: false })
    if (step === 'failed') {
      task.failures += 1
      sleep(task, pause(task.failures, FIRST_MS, LONGEST_MS, chance()))
    } else if (again) ready.add(task)
    else if (step === 'done') tasks.delete(task.name)
    else {
      task.due = step.due ?? true
      sleep(task, step.waitMs)
    }
    return step
  }
  const begin = (task: Task, through: Gates): Promise<Step> | undefined => {
    ready.delete(task)
    // what waits for a provider that does not answer is not even read
    if (task.provider !== undefined && !through.enter(task.provider)) {
      sleep(task, FIRST_MS)
      return undefined
    }
    const flight: Promise<Step> = attempt(options, through, task, take)
      .catch((error: unknown): Step => {
        world.log.warn({ error, lease: idIn(task.name) }, 'a lease could not be looked after: it is tried again')
        return 'failed'
      })
      .then(step => settle(task, step))
      .finally(() => {
        running.delete(flight)
        pump()
      })
    task.flight = flight
    running.add(flight)
    return flight
  }
  let stopped = false
  const pump = () => {
    for (const task of ready) {
      if (stopped || running.size >= AT_ONCE) return
      void begin(task, gates)
    }
  }
  const take = (name: string) => {
    const task = tasks.get(name) ?? taskOf(name)
    tasks.set(name, task)
    if (task.flight) task.again = true
    else {
      task.due = true
      ready.add(task)
    }
  }
  const idle = async () => {
    while (running.size > 0) await Promise.all(running)
  }
  return {
    take,
    pump,
    wake: () => {
      const at = world.monotonic()
      for (const task of tasks.values()) if (!task.flight && task.notBefore <= at) ready.add(task)
      pump()
    },
    idle,
    stop: () => {
      stopped = true
      return idle()
    },
    now: async (name, patient) => {
      for (let task = tasks.get(name); task; task = tasks.get(name)) {
        const { flight } = task
        const step = await (flight ?? begin(task, patient ? past : gates))
        if (step === 'failed') return step
        // what was under way may have stopped at a gate
        if (!flight && step !== 'done') return 'later'
      }
      return 'done'
    },
    waiting: () =>
      [...tasks.values()].filter(({ due }) => due).map(({ name, failures, why }) => ({ id: idIn(name), failures, why })),
  }
}

function taskOf(name: string): Task {
  const begun = { notBefore: 0, failures: 0, why: undefined, provider: undefined, flight: undefined }
  return { name, ...begun, again: false, due: true, told: false }
}

/** One look at what is due: puts its name right, or ends it. A lease that has another name by now is looked after under that one alone. */
async function attempt(options: RevokerOptions, gates: Gates, task: Task, later: (name: string) => void): Promise<Step> {
  const { ledger, clock, me } = options
  // whose gate has to be told when there is no call
  let entered = task.provider
  try {
    const kept = await ledger.read(idIn(task.name))
    if (!kept) return await nothing(options, task.name)
    const lease = kept.value
    if (nameOf(lease) !== task.name) {
      if (lease.due <= clock()) later(nameOf(lease))
      const waitMs = underWayMs(options, task.name)
      if (waitMs > 0) return { waitMs, due: false }
      await ledger.rename(task.name, lease)
      return 'done'
    }
    // what is accepted is not put off by a clock that goes back
    if (lease.due > clock() && lease.state !== 'revoking') return early(options, task.name)
    const { claim } = lease
    if (claim && claim.by !== me && claim.until > clock()) return { waitMs: FIRST_MS }
    task.provider ??= [lease.mountId, lease.issuer, lease.integration].join(' ')
    if (entered === undefined && !gates.enter(task.provider)) return { waitMs: FIRST_MS }
    entered = task.provider
    const claimed = await claimIt(options, kept)
    if (!claimed) return { waitMs: FIRST_MS }
    entered = undefined
    return await end(options, gates, claimed, task)
  } finally {
    if (entered !== undefined) gates.left(entered)
  }
}

/** It was taken while the wall clock was ahead: the calendar tells it again. */
function early({ ledger: { calendar } }: RevokerOptions, name: string): Step {
  calendar.drop(name)
  calendar.add(name)
  return 'done'
}

/** A name without a record: of a lease that was ended, or of one that is being written. */
async function nothing(options: RevokerOptions, name: string): Promise<Step> {
  const { ledger } = options
  if (!ledger.calendar.has(name)) return 'done'
  const waitMs = underWayMs(options, name)
  if (waitMs > 0) return { waitMs, due: false }
  await ledger.dropName(name)
  return 'done'
}

/** For how long what this name was written for may be on its way still. */
function underWayMs({ clock }: RevokerOptions, name: string): number {
  return (dueIn(name) + WRITE_SECONDS - clock()) * 1000
}

/** Undefined when another replica was faster. */
async function claimIt({ ledger, clock, me }: RevokerOptions, kept: Kept<Lease>): Promise<Lease | undefined> {
  const claimed: Lease = { ...kept.value, state: 'revoking', claim: { by: me, until: clock() + CLAIM_SECONDS } }
  return (await wasFirst(ledger.replace(kept, claimed))) ? claimed : undefined
}

async function end(options: RevokerOptions, gates: Gates, lease: Lease, task: Task): Promise<Step> {
  const how = await asked(options, gates, lease, task)
  if (how === 'failed' || typeof how === 'object') return how
  // once, also when the store has to be asked again to forget it
  if (!task.told) options.onEnd(lease, how)
  task.told = true
  await options.ledger.remove(lease, [task.name])
  return 'done'
}

async function asked(
  options: RevokerOptions,
  gates: Gates,
  lease: Lease,
  task: Task,
): Promise<Ended | 'failed' | { readonly waitMs: number }> {
  const { provider = '' } = task
  try {
    const how = await call(options, lease)
    // nobody was asked
    if (typeof how === 'object' || how === 'unfindable') gates.left(provider)
    else gates.ended(provider, true)
    return how
  } catch (error) {
    gates.ended(provider, false)
    task.why = error instanceof BrokerError ? error.message : undefined
    options.onFailure(lease, error)
    await unclaim(options, lease)
    return 'failed'
  }
}

/** Another replica may reach the provider where this one does not, or know an issuer that this one is too old for. */
async function unclaim({ ledger, me }: RevokerOptions, lease: Lease): Promise<void> {
  await changeLease(ledger, shortIdOf(lease), kept => {
    const { claim, ...free } = kept
    return claim?.by === me ? free : undefined
  })
}
