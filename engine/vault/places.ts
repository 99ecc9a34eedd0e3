import { BrokerError } from '../errors.ts'
import { gatherCalls } from '../gather.ts'
import type { OwnVault } from './own.ts'
import type { Places } from './provision.ts'

type Row = { readonly type?: string; readonly options?: { readonly version?: string } | null }

/** Looks whether the mounts are there in which this service keeps its keys and records. One look at a time is for all who asked before it began: anybody
 *  may ask whether it is ready. It throws BrokerError unavailable that names the mount that is not there. */
export function openPlacesCheck(vault: Pick<OwnVault, 'read'>, places: Pick<Places, 'transit' | 'kv'>): () => Promise<void> {
  return gatherCalls(() => check(vault, places))
}

async function check(vault: Pick<OwnVault, 'read'>, { transit, kv }: Pick<Places, 'transit' | 'kv'>): Promise<void> {
  const mounts = (await vault.read('sys/mounts'))?.data as Readonly<Record<string, Row>> | undefined
  if (mounts?.[`${transit}/`]?.type !== 'transit') throw missing('transit', transit, 'a transit engine')
  const records = mounts[`${kv}/`]
  if (records?.type !== 'kv' || records.options?.version !== '2') throw missing('kv', kv, 'a KV engine of version 2')
}

function missing(place: 'transit' | 'kv', path: string, wanted: string): BrokerError {
  return new BrokerError(
    'unavailable',
    `vault has nothing at ${path}/ that is ${wanted} (places.${place}): \`assay setup --apply --config FILE\` mounts one`,
  )
}
