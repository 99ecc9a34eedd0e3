import { type Lease, shortIdOf, tagOf } from './lease.ts'

/** What is known of a lease without reading it: all of it is in the name of its entry in the calendar. */
export type Entry = {
  readonly id: string
  /** seconds since the epoch */
  readonly due: number
  /** `tagOf` the accessor and of the TPM's id; empty where there is none */
  readonly accessorTag: string
  readonly tpmTag: string
  /** the lease id without its last part: `broker/creds/deploy` */
  readonly path: string
}

/** `<id>.<due>.<accessor>.<tpm>.<path>`: so a list of names is an index, and restoring it reads no lease. */
export function nameOf(lease: Lease): string {
  const id = shortIdOf(lease)
  const path = lease.leaseId.slice(0, -id.length - 1)
  const due = lease.due.toString(36)
  return [id, due, tagOf(lease.accessor), tagOf(lease.tpmId), Buffer.from(path).toString('base64url')].join('.')
}

export const minuteOf = (due: number) => Math.floor(due / 60)

/** undefined for what is no name of ours */
export function entryOf(name: string): Entry | undefined {
  const [id, due, accessorTag, tpmTag, path, ...more] = name.split('.')
  if (!id || !due || accessorTag === undefined || tpmTag === undefined || !path || more.length > 0) return undefined
  const seconds = Number.parseInt(due, 36)
  if (!Number.isSafeInteger(seconds)) return undefined
  return { id, due: seconds, accessorTag, tpmTag, path: pathOf(path) }
}

/** There are as many as roles, and a hundred thousand names have them. */
const paths = new Map<string, string>()
const MOST_PATHS = 10_000

function pathOf(encoded: string): string {
  const known = paths.get(encoded)
  if (known !== undefined) return known
  if (paths.size >= MOST_PATHS) paths.clear()
  const path = Buffer.from(encoded, 'base64url').toString()
  paths.set(encoded, path)
  return path
}

/** Seconds since the epoch; never for what is no name of ours. */
export function dueIn(name: string): number {
  const from = name.indexOf('.') + 1
  const due = Number.parseInt(name.slice(from, name.indexOf('.', from)), 36)
  return Number.isSafeInteger(due) ? due : Number.POSITIVE_INFINITY
}

/** Tag of the accessor; empty where there is none. */
export function accessorIn(name: string): string {
  const from = name.indexOf('.', name.indexOf('.') + 1) + 1
  return name.slice(from, name.indexOf('.', from))
}

export const idIn = (name: string) => name.slice(0, name.indexOf('.'))
