import type { Mount } from '../mount_table.ts'
import { inParallel } from '../parallel.ts'
import type { Parts } from './parts.ts'
import { matcher } from './which.ts'

/** Live leases of an integration. `all`: no more of the mount's leases are there than were looked at. */
export type Through = { readonly found: number; readonly all: boolean }

/** Names do not say where a lease came from, and each record is a read. */
const MOST = 10_000
const AT_ONCE = 32

/** How many leases of this mount were issued through this integration. */
export async function through({ ledger }: Pick<Parts, 'ledger'>, mount: Mount, integration: string): Promise<Through> {
  await ledger.refresh()
  const entries = ledger.calendar.where(matcher({ mount }))
  const kept = await inParallel(entries.slice(0, MOST), AT_ONCE, ({ id }) => ledger.read(id))
  return { found: kept.filter(one => one?.value.integration === integration).length, all: entries.length <= MOST }
}
