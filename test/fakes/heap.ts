import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as (how?: { readonly type: 'minor' | 'major' }) => void

/** Bytes on the heap that something still refers to. */
export function heapUsed(): number {
  collect()
  return process.memoryUsage().heapUsed
}

/** Bytes that have grown old on the heap, after a look at the young alone. */
export function heapGrownOld(): number {
  collect({ type: 'minor' })
  return getHeapSpaceStatistics().find(({ space_name: name }) => name === 'old_space')?.space_used_size ?? Number.NaN
}

/** How many of these something still refers to. */
export async function alive(all: readonly WeakRef<object>[]): Promise<number> {
  // what was looked at lives until its turn of the event loop is over
  await new Promise(setImmediate)
  collect()
  return all.filter(one => one.deref() !== undefined).length
}

/** Bytes outside of the heap that something on it still refers to. */
export function heldOutside(): number {
  collect()
  collect() // what the first one found is given back while it goes on
  return process.memoryUsage().arrayBuffers
}
