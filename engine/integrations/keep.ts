import { setTimeout as sleep } from 'node:timers/promises'
import { BrokerError, isConflict } from '../errors.ts'
import { StoreFault } from '../stores/store.ts'
import type { Root, RootCredential } from './port.ts'

type Fields = RootCredential['fields']

/** A store that does not answer is asked again after these. */
const PAUSES_MS = [100, 500, 2_000]
/** Where what it is to keep is nowhere else, for as long as another server of it may take to be the active one. */
const PATIENT_MS = [...PAUSES_MS, ...Array.from({ length: 11 }, () => 5_000)]

export type How = {
  /** They may be the only ones that are good now. Of others any other version that is there by then is in the way. */
  readonly only?: boolean
  readonly pause?: (ms: number) => Promise<unknown>
}

/** Stores fields that a provider gave in place of those in `read`, without the end that those had: nobody said theirs. A store that does not answer is asked
 *  again, and whoever wrote other fields meanwhile keeps theirs, and does not put back what was in place of these.
 *  @throws BrokerError conflict when somebody replaced the same fields, unavailable when the store does not answer */
export async function keep(
  root: Pick<Root, 'fresh' | 'replace'>,
  read: RootCredential,
  fields: Fields,
  { only = true, pause = sleep }: How = {},
): Promise<void> {
  let there = read
  for (let attempt = 0; ; attempt++) {
    try {
      const other = await put(root, there, fields)
      if (!other) return
      if (!only || !agree(fields, read.fields, other.fields)) throw taken()
      there = other
    } catch (error) {
      const ms = pausesAfter(error, only)[attempt]
      if (ms === undefined) throw error
      await pause(ms)
    }
  }
}

/** @returns what is there by now, where it is neither what was nor this */
async function put(
  root: Pick<Root, 'fresh' | 'replace'>,
  there: RootCredential,
  fields: Fields,
): Promise<RootCredential | undefined> {
  try {
    await root.replace({ fields: { ...there.fields, ...fields } }, there.version)
    return undefined
  } catch (error) {
    if (!isConflict(error)) throw error
    const other = await root.fresh()
    // the answer to what was written before did not arrive
    return agree(fields, fields, other.fields) ? undefined : other
  }
}

const taken = () => new BrokerError('conflict', 'somebody else changed this at the same time: read it and try again')

/** A store that says no says it again. */
function pausesAfter(error: unknown, only: boolean): readonly number[] {
  if (!(error instanceof BrokerError) || error.code !== 'unavailable') return []
  const isAnswer = error.cause instanceof StoreFault && error.cause.kind !== 'down'
  return only && !isAnswer ? PATIENT_MS : PAUSES_MS
}

/** Whether two have the same in these fields. */
function agree(names: Fields, one: Fields, other: Fields): boolean {
  return Object.keys(names).every(name => one[name]?.reveal() === other[name]?.reveal())
}
