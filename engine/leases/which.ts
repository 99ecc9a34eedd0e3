import type { Mount } from '../mount_table.ts'
import { tagOf } from './lease.ts'
import type { Entry } from './name.ts'

/** Which leases. */
export type Which =
  | { readonly accessor: string }
  | { readonly tpmId: string }
  | { readonly mount: Mount }
  /** as Vault has prefixes: `broker/creds` with all below it and not `broker/creds-two`, or one lease */
  | { readonly prefix: string }

export function matcher(which: Which): (entry: Entry) => boolean {
  if ('accessor' in which) return byTag('accessorTag', which.accessor)
  if ('tpmId' in which) return byTag('tpmTag', which.tpmId)
  const prefix = 'mount' in which ? which.mount.path : which.prefix
  const folder = slashed(prefix)
  return ({ path, id }) => `${path}/${id}`.startsWith(folder) || `${path}/${id}` === prefix
}

function byTag(name: 'accessorTag' | 'tpmTag', value: string): (entry: Entry) => boolean {
  const tag = tagOf(value)
  return entry => tag !== '' && entry[name] === tag
}

export const slashed = (prefix: string) => (prefix === '' || prefix.endsWith('/') ? prefix : `${prefix}/`)

/** The next parts of the ids below a prefix, as Vault lists: folders end in a slash. */
export function below(prefix: string, entries: readonly Entry[]): readonly string[] {
  const start = slashed(prefix).length
  const rests = entries.map(({ path, id }) => `${path}/${id}`.slice(start))
  return [...new Set(rests.map(rest => rest.replace(/\/.*$/, '/')))].toSorted()
}
