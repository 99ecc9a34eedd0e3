import { BrokerError, isConflict } from '../errors.ts'
import type { Mount } from '../mount_table.ts'
import type { World } from '../world.ts'
import { anchorsOf, describeLists, listAsPem, listsOf } from './bundles.ts'
import { allowed, fetchLists } from './list_fetch.ts'
import type { AttestConfig, AttestSettings, ListRecord } from './settings.ts'

/** Whom a mount trusts to certify TPMs, and what those have revoked. The same arrays as long as nothing of it changed. */
export type Trusted = { readonly anchors: readonly Buffer[]; readonly lists: readonly Buffer[] }

export type Trust = {
  /** @param format of the evidence: whom a mount trusts to certify TPMs says nothing of others */
  readonly of: (mount: Mount, config: AttestConfig, format?: string) => Promise<Trusted>
  /** What is to be written of a set of revocation lists: given as text, or fetched from `url` now. */
  readonly listsFrom: (config: AttestConfig, given: { crl?: string; url?: string }) => Promise<Partial<ListRecord>>
}

/** Lists that were fetched are fetched again after an hour, or when one of them ends; of a host that gives none no more than once a minute. */
const REFRESH_MS = 3_600_000
const BETWEEN_MS = 60_000

/** @param changed called with a mount whose lists were fetched anew */
export function openTrust(settings: AttestSettings, world: World, changed: (mount: Mount) => void = () => undefined): Trust {
  const anchors = openJoin()
  const lists = openJoin()
  const fetching = new Map<string, Promise<void>>()
  const tried = new Map<string, number>()

  const refresh = (mount: Mount, name: string, { url }: ListRecord, config: AttestConfig): Promise<void> => {
    const key = `${mount.id} ${name}`
    const again = (tried.get(key) ?? Number.NEGATIVE_INFINITY) + BETWEEN_MS
    if (!fetching.has(key) && world.monotonic() < again) return Promise.resolve()
    tried.set(key, world.monotonic())
    const flight = fetching.get(key) ?? fetched(mount, name, url, config).finally(() => fetching.delete(key))
    fetching.set(key, flight)
    return flight
  }
  /** A list that cannot be fetched is one that gets old: the policy of the mount says what follows. */
  const fetched = async (mount: Mount, name: string, url: string, config: AttestConfig): Promise<void> => {
    try {
      const crl = await fetchLists(url, config.crl_hosts)
      await settings.crl.write(mount.id, name, kept => {
        if (kept?.url !== url) throw new BrokerError('conflict', 'an operator has written or deleted the lists meanwhile')
        if (!follows(crl, kept.crl)) throw new BrokerError('bad_request', 'url: a list that was there before is missing')
        return { crl, fetched_at: isoOf(world.now()) }
      })
      changed(mount)
    } catch (error) {
      if (!isConflict(error)) world.log.warn({ error, mount: mount.path, name }, 'revocation lists could not be fetched')
    }
  }
  const listsIn = async (mount: Mount, config: AttestConfig): Promise<readonly (readonly Buffer[])[]> => {
    if (config.crl === 'off') return []
    const names = await settings.crl.list(mount.id)
    return Promise.all(
      names.map(async name => {
        const record = await settings.crl.get(mount.id, name)
        if (!record || !isDue(record, world.now())) return listsOf(record?.crl ?? '')
        const refreshed = refresh(mount, name, record, config)
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
      if (url !== undefined && url !== '') {
        const { href } = allowed(url, config.crl_hosts)
        return { url: href, crl: await fetchLists(href, config.crl_hosts), fetched_at: isoOf(world.now()) }
      }
      return { ...(url === '' && { url }), ...(crl !== undefined && { crl: asPem(crl), url: '', fetched_at: '' }) }
    },
  }
}

function isDue({ url, fetched_at, crl }: ListRecord, now: number): boolean {
  return url !== '' && (now >= Date.parse(fetched_at) + REFRESH_MS || hasEnded({ crl }, now))
}

/** Of whom there was a list there has to be one: else whoever answers in the place of the host takes back what was revoked. */
function follows(crl: string, before: string): boolean {
  const issuers = new Set(describeLists(crl).map(({ issuer }) => issuer))
  return describeLists(before).every(({ issuer }) => issuers.has(issuer))
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

const isoOf = (ms: number) => new Date(ms).toISOString()

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
