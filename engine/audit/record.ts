import { createHmac, createSecretKey } from 'node:crypto'
import { Secret } from '../secret.ts'
import { LINE_LIMIT } from './chain.ts'

/** One thing that happened. `txn` is the correlation id that the caller sees too; `path` is hashed when an agent chose its text. */
export type AuditRecord = {
  readonly type: 'request' | 'intent' | 'outcome' | 'refusal' | 'system'
  readonly txn: string
  readonly operation: string
  readonly mount: string
  readonly path: string | Hashed
  readonly fields?: Fields | Shared
}
export type Fields = Readonly<Record<string, Field | undefined>>
/** What a field may hold. Text is marked by the caller as plain or hashed, so that none gets in by accident; a `Secret` is always hashed. */
export type Field = Plain | Hashed | Secret | Secret<Uint8Array> | number | boolean | null
export type Hashable = string | Uint8Array | Secret | Secret<Uint8Array>

/** Text that may be read in the log as it is: names that an operator gave, codes, ids that the broker made. */
export class Plain {
  readonly value: string | readonly string[]
  constructor(value: string | readonly string[]) {
    this.value = value
  }
}

/** A value of which the log holds the keyed hash: tokens, accessors, whatever an agent submitted. It cannot be read back. */
export class Hashed {
  readonly #value: Hashable
  constructor(value: Hashable) {
    this.#value = value
  }

  text(hash: Hash): string {
    return `"${hash(this.#value)}"`
  }
}

/** Fields that many records have: as JSON they are made once. */
export class Shared {
  readonly fields: Fields
  #text: string | undefined

  constructor(fields: Fields) {
    this.fields = fields
  }

  text(hash: Hash): string {
    this.#text ??= fieldsOf(this.fields, hash, JSON.stringify)
    return this.#text
  }
}

export const plain = (value: string | readonly string[]) => new Plain(value)
export const hashed = (value: Hashable) => new Hashed(value)

export type Hash = (value: Hashable) => string

/** `hmac-sha256:<hex>`, the form that Vault's audit log has; the key is at least 32 bytes. */
export function hasherOf(key: Secret<Uint8Array>): Hash {
  if (key.reveal().length < 32) throw new RangeError('the key of the audit log wants at least 32 bytes')
  const keyObject = createSecretKey(key.reveal())
  return value => {
    const bytes = value instanceof Secret ? value.reveal() : value
    return `hmac-sha256:${createHmac('sha256', keyObject).update(bytes).digest('hex')}`
  }
}

/** The members of a record as JSON text without the braces. What would make a record longer than a line is there with its beginning and its hash.
 *  Throws `TypeError` for unmarked text or a bad name. */
export function membersOf(record: AuditRecord, time: number, hash: Hash): string {
  const members = written(record, time, hash, JSON.stringify)
  return isShort(members) ? members : bounded(written(record, time, hash, value => shortened(value, hash)))
}

function written({ type, txn, operation, mount, path, fields }: AuditRecord, time: number, hash: Hash, json: Json): string {
  const common =
    `"time":"${new Date(time).toISOString()}","type":"${type}","txn":${JSON.stringify(txn)}` +
    `,"operation":${JSON.stringify(operation)},"mount":${JSON.stringify(mount)}` +
    `,"path":${path instanceof Hashed ? path.text(hash) : json(path)}`
  if (fields instanceof Shared && json === JSON.stringify) return common + fields.text(hash)
  return common + fieldsOf(fields instanceof Shared ? fields.fields : (fields ?? {}), hash, json)
}

/** Plain text as JSON. */
type Json = (value: Plain['value']) => string

/** Of so many fields as there are, each may be so long. */
const LONG = 512
const BEGINNING = 128

function shortened(value: Plain['value'], hash: Hash): string {
  const text = JSON.stringify(value)
  if (text.length <= LONG) return text
  return JSON.stringify(`${text.slice(0, BEGINNING)}... ${text.length} characters of JSON, ${hash(text)}`)
}

/** The members of a record that the log makes about itself. */
export function systemMembers(event: string, time: number, fields: Readonly<Record<string, string | number>>): string {
  const rest = Object.entries(fields).map(([name, value]) => `,"${name}":${JSON.stringify(value)}`)
  return bounded(`"time":"${new Date(time).toISOString()}","type":"system","event":"${event}"${rest.join('')}`)
}

function fieldsOf(fields: Fields, hash: Hash, json: Json): string {
  let text = ''
  for (const name in fields) {
    const field = fields[name]
    if (field !== undefined) text += `${opened.get(name) ?? open(name)}${textOf(field, hash, json)}`
  }
  return text
}

/** Names that were looked at, as they stand before their value. They come from our own sources, so there are few. */
const opened = new Map<string, string>()
const taken = new Set(['index', 'prev', 'hash', 'time', 'type', 'txn', 'operation', 'mount', 'path', 'event'])

function open(name: string): string {
  if (taken.has(name) || !/^[a-z][a-z0-9_]*$/.test(name)) throw new TypeError(`an audit record cannot have a field '${name}'`)
  const text = `,"${name}":`
  if (opened.size < 1000) opened.set(name, text)
  return text
}

function textOf(field: Field, hash: Hash, json: Json): string {
  if (field instanceof Plain) return json(field.value)
  if (field instanceof Secret) return `"${hash(field)}"`
  if (field instanceof Hashed) return field.text(hash)
  if (field === null || typeof field === 'boolean' || Number.isFinite(field)) return String(field)
  throw new TypeError('text in an audit record is marked as plain or as hashed')
}

/** What the chain adds around the members is below 256 bytes. */
const MEMBERS_LIMIT = LINE_LIMIT - 256

function isShort(members: string): boolean {
  // a UTF-16 unit is at most 3 bytes: most records need no counting
  return members.length * 3 <= MEMBERS_LIMIT || Buffer.byteLength(members) <= MEMBERS_LIMIT
}

function bounded(members: string): string {
  if (!isShort(members)) throw new RangeError('an audit record is above the limit of a line')
  return members
}
