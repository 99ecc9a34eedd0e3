import { LRUCache } from 'lru-cache'
import { BrokerError } from '../errors.ts'
import type { Metrics } from '../metrics.ts'
import type { Mount } from '../mount_table.ts'
import { shapes } from '../rotators/index.ts'
import { Secret } from '../secret.ts'
import { stores } from '../stores/index.ts'
import { type Answer, openReader, type Reader } from '../stores/reader.ts'
import { type Held, type Next, StoreFault } from '../stores/store.ts'
import { vaultKv } from '../stores/vault_kv.ts'
import type { Cipher } from '../vault/cipher.ts'
import type { Store } from '../vault/store.ts'
import type { World } from '../world.ts'
import { openLocks } from './locks.ts'
import type { Root, RootCredential } from './port.ts'
import {
  type IntegrationRecord,
  type IntegrationSettings,
  madeOf,
  placeOf as placeOfStore,
  type StoreRecord,
  storeSettingsOf,
} from './settings.ts'

/** Root credentials, wherever they are kept. */
export type Roots = {
  /** @param maxStaleSeconds how old an answer may be while the store is down; 0 for never */
  readonly of: (
    mount: Mount,
    name: string,
    record: IntegrationRecord,
    maxStaleSeconds: number,
    noted?: (read: RootCredential) => void,
  ) => Root
  /** Adds these fields to what is there, or makes it. @throws BrokerError */
  readonly write: (mount: Mount, name: string, record: IntegrationRecord, fields: Next['fields']) => Promise<void>
  /** Takes away what the broker itself keeps. */
  readonly remove: (mount: Mount, name: string, record?: IntegrationRecord) => Promise<void>
  /** What lets the broker into a configured store. */
  readonly writeStore: (mount: Mount, name: string, fields: Next['fields']) => Promise<void>
  readonly removeStore: (mount: Mount, name: string) => Promise<void>
  readonly close: () => Promise<void>
}

export type RootsParts = {
  readonly world: World
  readonly state: Store
  readonly cipher: Cipher
  readonly settings: IntegrationSettings
  readonly metrics: Metrics
}

type Place = { readonly reader: Reader; readonly ref: string; readonly kind: string }
type Opened = { readonly made: string; readonly reader: Reader }

/** That one call to a store may take. */
const DEADLINE_MS = 5_000
const OPEN_STORES = 256

export function openRoots({ world, state, cipher, settings, metrics }: RootsParts): Roots {
  const storeWorld = { state, cipher, now: world.now, deadlineMs: DEADLINE_MS }
  const guard = (kind: string) => ({
    monotonic: world.monotonic,
    deadlineMs: DEADLINE_MS,
    observe: (outcome: string) => metrics.storeCalls.inc({ store: kind, outcome }),
  })
  const vault = openReader(vaultKv.open({}, {}, storeWorld), guard('vault'))
  const locks = openLocks(state, world)
  const opened = new LRUCache<string, Opened>({
    max: OPEN_STORES,
    dispose: ({ reader }) => void reader.close().catch(() => undefined),
  })

  const storeOf = async (mount: Mount, name: string): Promise<{ reader: Reader; kind: string }> => {
    const record = await settings.store.get(mount.id, name)
    const kind = record && stores[record.type]
    if (!record || !kind) throw new BrokerError('unavailable', `there is no store ${name}`)
    const credentials = await vault
      .read(storeRef(mount, name, record), 0)
      .catch(faulty(`what lets the broker into the store ${name}`, 'vault'))
    const made = `${JSON.stringify(record)} ${credentials.version}`
    const key = `${mount.id}/${name}`
    const there = opened.get(key)
    if (there?.made === made) return { reader: there.reader, kind: record.type }
    const reader = openReader(kind.open(storeSettingsOf(record), credentials.fields, storeWorld), guard(record.type))
    opened.set(key, { made, reader })
    return { reader, kind: record.type }
  }
  const placeOf = async (mount: Mount, name: string, record: IntegrationRecord): Promise<Place> =>
    record.store === 'vault'
      ? { reader: vault, ref: rootRef(mount, name, record), kind: 'vault' }
      : { ...(await storeOf(mount, record.store)), ref: record.ref }

  return {
    of: (mount, name, record, maxStaleSeconds, noted) => {
      const what = `the root credential of the integration ${name}`
      const reading = async (how: 'read' | 'fresh'): Promise<RootCredential> => {
        const { reader, ref, kind } = await placeOf(mount, name, record)
        const asked = how === 'read' ? reader.read(ref, maxStaleSeconds) : reader.fresh(ref)
        const held = await asked.catch(keyless(record)).catch(faulty(what, kind))
        const read = checked(what, record, held, world.now())
        noted?.(read)
        return read
      }
      const replace: Root['replace'] = async ({ fields, expiresAt }, version) => {
        const { reader, ref, kind } = await placeOf(mount, name, record)
        // the end that an operator wrote is theirs to change: no store takes it for its own
        const next = expiresAt === undefined || expiresAt === endOf(record) ? { fields } : { fields, expiresAt }
        await reader.replace(ref, next, version).catch(faulty(what, kind))
      }
      return {
        read: () => reading('read'),
        fresh: () => reading('fresh'),
        replace,
        alone: work => locks.alone(`${mount.id}/lock/${name}`, async hold => work(await reading('fresh'), hold)),
      }
    },
    write: async (mount, name, record, fields) => {
      const { reader, ref, kind } = await placeOf(mount, name, record)
      await merged(reader, ref, fields, wantedOf(record.type)).catch(
        faulty(`the root credential of the integration ${name}`, kind),
      )
    },
    remove: (mount, name, record) =>
      vault.remove(rootRef(mount, name, record)).catch(faulty(`the root credential of the integration ${name}`, 'vault')),
    writeStore: async (mount, name, fields) => {
      const record = await settings.store.fresh(mount.id, name)
      const wanted = (record && stores[record.type]?.secrets) ?? {}
      await merged(vault, storeRef(mount, name, record), fields, wanted).catch(
        faulty(`what lets the broker into the store ${name}`, 'vault'),
      )
    },
    removeStore: (mount, name) =>
      vault.remove(storeRef(mount, name)).catch(faulty(`what lets the broker into the store ${name}`, 'vault')),
    close: async () => {
      opened.clear()
      await vault.close()
    },
  }
}

/** Replicas remember records and root credentials apart: neither an integration nor a store is ever given what one of the same name had. */
const rootRef = (mount: Mount, name: string, record?: IntegrationRecord) =>
  `${mount.id}/root/${name}#${record ? madeOf(record) : ''}`
const storeRef = (mount: Mount, name: string, record?: StoreRecord) =>
  `${mount.id}/store-root/${name}#${record ? placeOfStore(record) : ''}`

type Wanted = Readonly<Record<string, { readonly required: boolean }>>
export const wantedOf = (type: string): Wanted => shapes.get(type)?.secrets ?? {}

/** What is given replaces what is there, name by name; the whole has to make sense. */
async function merged(reader: Reader, ref: string, fields: Next['fields'], wanted: Wanted): Promise<void> {
  const there = await reader.fresh(ref).catch(nothing)
  const known = Object.entries(there.fields).filter(([name]) => Object.hasOwn(wanted, name))
  const next = { ...Object.fromEntries(known), ...fields }
  checkSecrets(next, wanted)
  await reader.replace(ref, { fields: next }, there.version)
}

/** Of what is not there, or cannot be decrypted any more, nothing is kept. */
function nothing(error: unknown): Held {
  if (!(error instanceof StoreFault)) throw error
  const version = error.kind === 'absent' ? '' : error.version
  if (version === undefined) throw error
  return { fields: {}, version }
}

/** Before anything is written: a write that is refused changes nothing, above all not where what is there is sent.
 *  @param kept whether what is not given may be there already
 *  @throws BrokerError bad_request naming what is wanted */
export function checkGiven(fields: Next['fields'], wanted: Wanted, kept: boolean): void {
  checkSecrets(kept ? { ...Object.fromEntries(Object.keys(wanted).map(name => [name, KEPT])), ...fields } : fields, wanted)
}

const KEPT = new Secret('what is there')

function checkSecrets(fields: Next['fields'], wanted: Wanted): void {
  const stray = Object.keys(fields).find(name => !Object.hasOwn(wanted, name))
  if (stray !== undefined)
    throw new BrokerError('bad_request', `secrets: wanted ${Object.keys(wanted).join(', ') || 'none'}, and nothing else`)
  const gone = Object.keys(wanted).find(name => wanted[name]?.required && isEmpty(fields[name]))
  if (gone !== undefined) throw new BrokerError('bad_request', `secrets: missing ${gone}`)
}

const isEmpty = (secret: Secret | undefined) => secret === undefined || secret.reveal() === ''

/** A store may hold anything: what lacks a field or has ended is no root credential. */
function checked(
  what: string,
  record: IntegrationRecord,
  { fields, version, expiresAt, stale }: Answer,
  now: number,
): RootCredential {
  const wanted = wantedOf(record.type)
  const gone = Object.keys(wanted).find(name => wanted[name]?.required && isEmpty(fields[name]))
  if (gone !== undefined) throw new BrokerError('unavailable', `${what} lacks ${gone}`)
  const end = expiresAt ?? endOf(record)
  const root = { fields, version, stale, ...(end === undefined ? {} : { expiresAt: end }) }
  if (end !== undefined && end * 1000 <= now) throw new Expired(what, root)
  return root
}

/** What is there, and serves for nothing but to be told of. */
export class Expired extends BrokerError {
  readonly root: RootCredential
  constructor(what: string, root: RootCredential) {
    super('unavailable', `${what} has expired: replace it`)
    this.root = root
  }
}

/** Where the issuer needs no secret, as with a key in transit, nothing has to be there. */
function keyless(record: IntegrationRecord): (error: unknown) => Answer {
  return error => {
    const needed = Object.values(wantedOf(record.type)).some(({ required }) => required)
    if (needed || !(error instanceof StoreFault) || error.kind !== 'absent') throw error
    return { fields: {}, version: '', stale: false }
  }
}

function endOf({ expires_at }: IntegrationRecord): number | undefined {
  return expires_at === '' ? undefined : Math.floor(Date.parse(expires_at) / 1000)
}

function faulty(what: string, kind: string): (error: unknown) => never {
  return error => {
    if (!(error instanceof StoreFault)) throw error
    const sentence = `${what} cannot be had from ${kind}: ${error.reason}`
    throw new BrokerError(error.kind === 'conflict' ? 'conflict' : 'unavailable', sentence, { cause: error })
  }
}
