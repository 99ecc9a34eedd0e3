import { createHash } from 'node:crypto'
import { type Collection, openCollection } from '../collection.ts'
import { BrokerError } from '../errors.ts'
import { duration, type Field, flag, integer, list, map, parseFields, required, text, type Values } from '../fields.ts'
import { rotatorFor, shapes } from '../rotators/index.ts'
import { Secret } from '../secret.ts'
import { stores } from '../stores/index.ts'
import type { Store } from '../vault/store.ts'

const VAULT = 'vault'
const WEEK_SECONDS = 7 * 86_400
/** What was replaced stays good for a while: rotations do not overlap. */
const SHORTEST_SECONDS = 3600
const ORG = /^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$/
const DATE = /^$|^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)$/

/** What an operator configures of an integration; the root credential itself is no part of it. */
export const integrationFields = {
  type: required(text('Issuer that it is for, or what is rotated.', { choices: [...shapes.keys()] })),
  settings: map('What the issuer needs to know: a JSON object or key=value pairs. Nothing secret.'),
  store: text('Store that holds its root credential.', { fallback: VAULT, max: 128 }),
  ref: text('What names the root credential in a store other than `vault`.', { fallback: '', max: 512 }),
  org: text(
    'Organisation that owns it; only tasks of that organisation may use it. Everybody whom role and policy let when empty.',
    {
      fallback: '',
      form: [new RegExp(`^$|${ORG.source}`), 'a name of letters, digits and . _ : / -'],
    },
  ),
  tasks: list('Tasks of that organisation that may use it. All of them when empty.', { max: 256 }),
  read_actions: list(
    'Actions that only read. Only for them a root credential may be used that the store said before it went down.',
  ),
  max_stale: duration('How old a root credential may be that is used while its store is down. Never when 0.', { fallback: 0 }),
  expires_at: text('When the root credential ends (RFC 3339), where the store does not know it.', {
    fallback: '',
    form: [DATE, 'a time such as 2027-01-31T00:00:00Z'],
  }),
  warn_before: duration('How long before its end warnings begin.', { fallback: WEEK_SECONDS }),
  rotate_every: duration('How often the root credential is replaced, where a rotator can. Only on demand when 0.', {
    fallback: 0,
  }),
  rotation: map('What the rotator needs to know beside the settings: a JSON object or key=value pairs. Nothing secret.'),
}

/** What the broker itself remembers of it. */
const recordFields = {
  ...integrationFields,
  creator: text('Who made it.', { fallback: '' }),
  private: flag('It was made by an attested agent: only that agent and those it granted may use it.', { fallback: false }),
  created_at: integer('Seconds since the epoch.', { fallback: 0 }),
  rotated_at: integer('Seconds since the epoch.', { fallback: 0 }),
}
export type IntegrationRecord = Values<typeof recordFields>

export const storeFields = {
  type: required(text('Kind of store.', { choices: Object.keys(stores).filter(kind => kind !== VAULT) })),
  settings: map('Where it is and who the broker is there: a JSON object or key=value pairs. Nothing secret.'),
  refs: list('References that integrations may name there; a `*` at the end stands for any rest. All when empty.', { max: 512 }),
}
export type StoreRecord = Values<typeof storeFields>

export const grantFields = {
  expires_at: text('When the grant ends (RFC 3339). Never when empty.', {
    fallback: '',
    form: [DATE, 'a time such as 2027-01-31T00:00:00Z'],
  }),
  granted_by: text('Who gave it.', { fallback: '' }),
}

/** Written beside a record and never read back. */
export const secrets: Field<Readonly<Record<string, Secret>> | undefined> = secretMap(
  'What lets the broker in, by name: a JSON object (a file or standard input keeps it off the command line). Write-only.',
)

export type IntegrationSettings = {
  readonly integration: Collection<typeof recordFields>
  readonly store: Collection<typeof storeFields>
  /** of one integration, by id of the entity that it is for */
  readonly grant: (integration: string) => Collection<typeof grantFields>
}

export function openIntegrationSettings(state: Store): IntegrationSettings {
  const store = openCollection(state, 'store', storeFields, { check: record => checkStore(record) })
  return {
    store,
    integration: openCollection(state, 'integration', recordFields, {
      check: async (record, mountId) => {
        checkIntegration(record)
        if (record.store !== VAULT) checkRef(record, await store.get(mountId, record.store))
      },
    }),
    grant: integration => openCollection(state, `grant/${integration}`, grantFields, { check: checkEnd }),
  }
}

/** Tells an integration from others that had its name before or will have it: what belongs to one is not for another. */
export function madeOf({ creator, created_at }: Pick<IntegrationRecord, 'creator' | 'created_at'>): string {
  return tagOf([creator, created_at])
}

/** Tells a store as it is configured from what it was before: what lets the broker in at one place is not sent to another. */
export function placeOf({ type, settings }: Pick<StoreRecord, 'type' | 'settings'>): string {
  return tagOf([type, Object.entries(settings).toSorted(([a], [b]) => (a < b ? -1 : 1))])
}

const tagOf = (what: readonly unknown[]) => createHash('sha256').update(JSON.stringify(what)).digest('base64url').slice(0, 22)

/** The settings of an integration as its issuer reads them. @throws BrokerError bad_request naming what is wrong */
export function settingsOf({ type, settings }: Pick<IntegrationRecord, 'type' | 'settings'>): Readonly<Record<string, unknown>> {
  return exactly(shapes.get(type)?.settings ?? {}, settings)
}

/** What the rotator of an integration is configured with. */
export function rotationOf(record: Pick<IntegrationRecord, 'type' | 'settings' | 'rotation'>): Readonly<Record<string, unknown>> {
  return exactly(rotatorFor(record.type, settingsOf(record))?.rotator.settings ?? {}, record.rotation, 'rotation')
}

export function storeSettingsOf({ type, settings }: StoreRecord): Readonly<Record<string, unknown>> {
  return exactly(stores[type]?.settings ?? {}, settings)
}

/** A setting that is not known may be a misspelt one, which protects nothing. */
function exactly(
  fields: Parameters<typeof parseFields>[0],
  raw: Readonly<Record<string, unknown>>,
  what = 'settings',
): Readonly<Record<string, unknown>> {
  const { values, unknown } = parseFields(fields, raw)
  if (unknown.length > 0)
    throw new BrokerError('bad_request', `${what}: wanted ${Object.keys(fields).join(', ') || 'none'}, and nothing else`)
  return values
}

function checkStore(record: StoreRecord): void {
  storeSettingsOf(record)
}

function checkIntegration(record: IntegrationRecord): void {
  const found = rotatorFor(record.type, settingsOf(record))
  rotationOf(record)
  if (record.rotate_every > 0 && (!found || found.rotator.supplied))
    throw new BrokerError('bad_request', 'rotate_every: nothing can replace this kind of root credential by itself')
  if (record.rotate_every > 0 && record.rotate_every < SHORTEST_SECONDS)
    throw new BrokerError('bad_request', `rotate_every: wanted at least ${SHORTEST_SECONDS} seconds`)
  if (record.max_stale > 0 && record.read_actions.length === 0)
    throw new BrokerError('bad_request', 'max_stale: wanted read_actions too, as only they may be served so')
  checkEnd(record)
  if (record.store === VAULT && record.ref !== '')
    throw new BrokerError('bad_request', 'ref: wanted none, as the broker names it itself in the store vault')
}

/** A day or an hour that there is none of. */
function checkEnd({ expires_at }: { readonly expires_at: string }): void {
  if (expires_at !== '' && Number.isNaN(Date.parse(expires_at)))
    throw new BrokerError('bad_request', 'expires_at: wanted a time such as 2027-01-31T00:00:00Z')
}

function checkRef(record: IntegrationRecord, store: StoreRecord | undefined): void {
  if (store && store.refs.length > 0 && !store.refs.some(one => covers(one, record.ref)))
    throw new BrokerError('bad_request', 'ref: the store does not let integrations name this one')
  if (!store) throw new BrokerError('bad_request', 'store: there is no store of this name')
  const wanted = stores[store.type]?.ref
  if (wanted && !wanted.form.test(record.ref)) throw new BrokerError('bad_request', `ref: wanted ${wanted.means}`)
}

function covers(pattern: string, ref: string): boolean {
  return pattern.endsWith('*') ? ref.startsWith(pattern.slice(0, -1)) : ref === pattern
}

function secretMap(description: string): Field<Readonly<Record<string, Secret>> | undefined> {
  const plain = map(description)
  const read = (raw: unknown) =>
    Object.fromEntries(Object.entries(plain.read(raw)).map(([name, value]) => [name, new Secret(textOf(value))]))
  return { ...plain, read, fallback: undefined, sensitive: true }
}

/** Keys of service accounts are JSON objects: they are kept as text. */
function textOf(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value ?? '')
}
