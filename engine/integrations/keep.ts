import { setTimeout as sleep } from 'node:timers/promises'
import { BrokerError } from '../errors.ts'
import type { Root, RootCredential } from './port.ts'

type Fields = RootCredential['fields']

/** A store that does not answer is asked again after these. */
const PAUSES_MS = [100, 500, 2_000]

/** Stores fields that a provider gave in place of those in `read`, without the end that those had: nobody said theirs. They may be the only ones that are good now: so a store that does not answer is asked
 *  again, and whoever wrote other fields meanwhile keeps theirs, and does not put back what was in place of these.
 *  @param only whether they may be; of others any other version that is there by then is in the way
 *  @throws BrokerError conflict when somebody replaced the same fields, unavailable when the store does not answer */
export async function keep(
  root: Pick<Root, 'fresh' | 'replace'>,
  read: RootCredential,
  fields: Fields,
  only = true,
): Promise<void> {
  let there = read
  for (let attempt = 0; ; attempt++) {
    try {
      return await root.replace({ fields: { ...there.fields, ...fields } }, there.version)
    } catch (error) {
      const pause = PAUSES_MS[attempt]
      if (!(error instanceof BrokerError) || pause === undefined) throw error
      if (error.code === 'unavailable') await sleep(pause)
      else if (error.code !== 'conflict') throw error
      else {
        there = await root.fresh()
        // the answer to what was written before did not arrive
        if (agree(fields, fields, there.fields)) return
        if (!only || !agree(fields, read.fields, there.fields)) throw error
      }
    }
  }
}

/** Whether two have the same in these fields. */
function agree(names: Fields, one: Fields, other: Fields): boolean {
  return Object.keys(names).every(name => one[name]?.reveal() === other[name]?.reveal())
}
