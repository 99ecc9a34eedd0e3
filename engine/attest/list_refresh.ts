import { successionFault } from '#attestation'
import { BrokerError, isConflict } from '../errors.ts'
import type { Mount } from '../mount_table.ts'
import type { Store } from '../vault/store.ts'
import type { World } from '../world.ts'
import { anchorsOf, checkLists, listsOf } from './bundles.ts'
import { fetchLists } from './list_fetch.ts'
import { type EndorsementRecord, endorsementFolder } from './records.ts'
import type { AttestConfig, AttestSettings } from './settings.ts'

/** Fetches a set of lists again; a host that gives none is asked no more than once a minute. It never fails: a list that cannot be fetched is one that gets old,
 *  and the policy of the mount says what follows. */
export type Refresh = (mount: Mount, name: string, url: string, config: AttestConfig) => Promise<void>

export type RefreshPorts = {
  readonly settings: Pick<AttestSettings, 'ca' | 'crl'>
  readonly store: Pick<Store, 'get' | 'list'>
  readonly world: Pick<World, 'now' | 'monotonic' | 'log'>
  /** called with a mount whose lists were fetched anew */
  readonly changed: (mount: Mount) => void
}

const BETWEEN_MS = 60_000

export function openRefresh(ports: RefreshPorts): Refresh {
  const { settings, world, changed } = ports
  const fetching = new Map<string, Promise<void>>()
  const tried = new Map<string, number>()
  const fetched: Refresh = async (mount, name, url, config) => {
    try {
      const crl = await fetchLists(url, config.crl_hosts)
      const before = await settings.crl.fresh(mount.id, name)
      // an operator has written or deleted them meanwhile
      if (before?.url !== url) return
      if (before.crl !== crl) await succeed(ports, mount, { before: before.crl, crl }, config)
      await settings.crl.write(mount.id, name, kept => {
        if (kept?.url !== url || kept.crl !== before.crl)
          throw new BrokerError('conflict', 'somebody else has written or deleted the lists meanwhile')
        return { crl, fetched_at: new Date(world.now()).toISOString() }
      })
      changed(mount)
    } catch (error) {
      if (!isConflict(error)) world.log.warn({ error, mount: mount.path, name }, 'revocation lists could not be fetched')
    }
  }
  return (mount, name, url, config) => {
    const key = `${mount.id} ${name}`
    const again = (tried.get(key) ?? Number.NEGATIVE_INFINITY) + BETWEEN_MS
    if (!fetching.has(key) && world.monotonic() < again) return Promise.resolve()
    tried.set(key, world.monotonic())
    const flight = fetching.get(key) ?? fetched(mount, name, url, config).finally(() => fetching.delete(key))
    fetching.set(key, flight)
    return flight
  }
}

type Lists = { readonly before: string; readonly crl: string }

/** Nobody looks at what is fetched: it takes nothing back that its CA has revoked. */
async function succeed(ports: RefreshPorts, mount: Mount, { before, crl }: Lists, config: AttestConfig): Promise<void> {
  await checkLists(crl)
  const rules = { cas: await casOf(ports, mount), allowSha1: config.sha1_makers.length > 0 }
  const fault = await successionFault(listsOf(before), listsOf(crl), rules)
  if (fault) throw new BrokerError('bad_request', `url: ${fault}`)
}

/** The anchors of a mount, and what is above the TPMs that it enrolled. */
async function casOf({ settings, store }: RefreshPorts, mount: Mount): Promise<readonly Buffer[]> {
  const names = await settings.ca.list(mount.id)
  const anchors = await Promise.all(names.map(name => settings.ca.get(mount.id, name)))
  const above = new Set<string>()
  for (const tpmId of await store.list(endorsementFolder(mount.id))) {
    const kept = await store.get<EndorsementRecord>(endorsementFolder(mount.id) + tpmId)
    for (const ca of kept?.value.path.slice(1) ?? []) above.add(ca)
  }
  return [
    ...anchors.flatMap(record => anchorsOf(record?.certificate ?? '')),
    ...Array.from(above, ca => Buffer.from(ca, 'base64')),
  ]
}
