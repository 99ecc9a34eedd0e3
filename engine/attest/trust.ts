import { BrokerError } from '../errors.ts'
import type { Mount } from '../mount_table.ts'
import type { World } from '../world.ts'
import { anchorsOf, describeLists, listAsPem, listsOf } from './bundles.ts'
import { allowed, fetchLists } from './list_fetch.ts'
import type { Refresh } from './list_refresh.ts'
import type { AttestConfig, AttestSettings, ListRecord } from './settings.ts'

/** Whom a mount trusts to certify TPMs, and what those have revoked. The same arrays as long as nothing of it changed. */
export type Trusted = { readonly anchors: readonly Buffer[]; readonly lists: readonly Buffer[] }

export type Trust = {
  /** @param format of the evidence: whom a mount trusts to certify TPMs says nothing of others */
  readonly of: (mount: Mount, config: AttestConfig, format?: string) => Promise<Trusted>
  /** What is to be written of a set of revocation lists: given as text, or fetched from `url` now. */
  readonly listsFrom: (config: AttestConfig, given: { crl?: string; url?: string }) => Promise<Partial<ListRecord>>
}

/** Lists that were fetched are fetched again after an hour, or when one of them ends. */
const REFRESH_MS = 3_600_000

export function openTrust(settings: AttestSettings, refresh: Refresh, world: Pick<World, 'now'>): Trust {
  const anchors = openJoin()
  const lists = openJoin()
  const listsIn = async (mount: Mount, config: AttestConfig): Promise<readonly (readonly Buffer[])[]> => {
    if (config.crl === 'off') return []
    const names = await settings.crl.list(mount.id)
    return Promise.all(
      names.map(async name => {
        const record = await settings.crl.get(mount.id, name)
        if (!record || !isDue(record, world.now())) return listsOf(record?.crl ?? '')
        const refreshed = refresh(mount, name, record.url, config)
        if (!hasEnded(record, world.now())) return listsOf(record.crl)
        await refreshed
        return listsOf((await settings.crl.get(mount.id, name))?.crl ?? record.crl)
      }),
    )
  }

  return {
    of: async (mount, config, format = 'tpm2-quote') => {
      const names = await settings.ca.list(mount.id)
      const [records, revoked] = await Promise.all([
        Promise.all(names.map(name => settings.ca.get(mount.id, name))),
        listsIn(mount, config),
      ])
      const bundles = records.flatMap(record => (record?.format === format ? [anchorsOf(record.certificate)] : []))
      return { anchors: anchors(`${mount.id} ${format}`, bundles), lists: lists(mount.id, revoked) }
    },
    listsFrom: async (config, { crl, url }) => {
      if (url && crl) throw new BrokerError('bad_request', 'url: wanted either the lists or where they are fetched from')
      if (url) {
        const { href } = allowed(url, config.crl_hosts)
        return { url: href, crl: await fetchLists(href, config.crl_hosts), fetched_at: new Date(world.now()).toISOString() }
      }
      return { ...(url === '' && { url }), ...(crl !== undefined && { crl: asPem(crl), url: '', fetched_at: '' }) }
    },
  }
}

/** Also where the clock that they were fetched by was ahead. */
function isDue({ url, fetched_at, crl }: ListRecord, now: number): boolean {
  return url !== '' && (Math.abs(now - Date.parse(fetched_at)) >= REFRESH_MS || hasEnded({ crl }, now))
}

function hasEnded({ crl }: Pick<ListRecord, 'crl'>, now: number): boolean {
  return describeLists(crl).some(({ next_update }) => !(Date.parse(next_update) > now))
}

/** PEM as it is, or the base64 of a list in DER. */
function asPem(text: string): string {
  if (text.includes('-----BEGIN ')) return text
  if (!/^[A-Za-z0-9+/=\s]+$/.test(text)) throw new BrokerError('bad_request', 'crl: wanted PEM, or the base64 of DER')
  return listAsPem(Buffer.from(text, 'base64'))
}

/** One array for several, the same one as long as they are: what is read of the certificates in it is kept by it. */
function openJoin(): (key: string, arrays: readonly (readonly Buffer[])[]) => readonly Buffer[] {
  const last = new Map<string, { from: readonly (readonly Buffer[])[]; joined: readonly Buffer[] }>()
  return (key, arrays) => {
    const kept = last.get(key)
    if (kept && kept.from.length === arrays.length && kept.from.every((array, at) => array === arrays[at])) return kept.joined
    const joined = arrays.flat()
    last.set(key, { from: arrays, joined })
    return joined
  }
}
