import { BrokerError } from './errors.ts'
import { Secret } from './secret.ts'

type Form = readonly [Pick<RegExp, 'test'>, string]

/** One parameter of a path: what it holds, how it is read from what a client sent, and the words that help prints. */
export type Field<T> = {
  readonly kind: 'string' | 'bytes' | 'duration' | 'integer' | 'boolean' | 'list' | 'map'
  readonly description: string
  /** `raw` is never undefined. Throws `Unreadable` when it is not a value of this kind. */
  readonly read: (raw: unknown) => T
  readonly fallback: T
  readonly required: boolean
  readonly sensitive: boolean
  readonly choices?: readonly string[]
  /** what its text, or each of them, has to match, and that in words */
  readonly form?: Form
}
export type Fields = Readonly<Record<string, Field<unknown>>>
export type Values<F extends Fields> = { readonly [K in keyof F]: F[K] extends Field<infer T> ? T : never }

/** Says what was wanted; the submitted value is never in it. */
class Unreadable extends Error {}

type Given<T> = {
  readonly fallback?: T
  readonly choices?: readonly string[]
  readonly max?: number
  readonly form?: Form
}

/** Of a text that has to be one of these. */
type OneOf<C extends string> = Omit<Given<string>, 'fallback' | 'choices'> & { readonly choices: readonly C[] }

function field<T>(kind: Field<T>['kind'], description: string, read: (raw: unknown) => T, given: Given<T> = {}): Field<T> {
  const { choices, form, fallback } = given
  const wanted = { ...(choices ? { choices } : {}), ...(form ? { form } : {}) }
  return { kind, description, read, fallback: fallback as T, required: false, sensitive: false, ...wanted }
}

export function text(description: string): Field<string | undefined>
export function text<const C extends string>(description: string, given: OneOf<C> & { readonly fallback: C }): Field<C>
export function text<const C extends string>(description: string, given: OneOf<C>): Field<C | undefined>
export function text(description: string, given: Given<string> & { readonly fallback: string }): Field<string>
export function text(description: string, given: Given<string>): Field<string | undefined>
export function text(description: string, given: Given<string> = {}): Field<string | undefined> {
  return field<string | undefined>(
    'string',
    description,
    raw => formed(chosen(string(raw, given.max ?? 4096), given.choices), given.form),
    given,
  )
}

/** Standard or URL-safe base64, with or without padding. */
export function bytes(description: string, given: { readonly max: number }): Field<Buffer | undefined> {
  return field<Buffer | undefined>('bytes', description, raw => base64(raw, given.max))
}

/** Hex digits of at least one byte, in either case. */
export function hex(description: string, given: { readonly max: number }): Field<Buffer | undefined> {
  return field<Buffer | undefined>('string', description, raw => Buffer.from(formed(string(raw, 2 * given.max), HEX), 'hex'))
}

/** Whole seconds; read as Vault reads durations. */
export function duration(description: string): Field<number | undefined>
export function duration(description: string, given: { readonly fallback: number }): Field<number>
export function duration(description: string, given: { readonly fallback?: number } = {}): Field<number | undefined> {
  return field<number | undefined>('duration', description, seconds, given)
}

export function integer(description: string, given: { readonly fallback: number }): Field<number> {
  return field('integer', description, whole, given)
}

export function flag(description: string, given: { readonly fallback: boolean }): Field<boolean> {
  return field('boolean', description, boolean, given)
}

/** A JSON list of strings, or one string with commas. */
export function list<const C extends string>(
  description: string,
  given: OneOf<C> & { readonly fallback?: readonly C[] },
): Field<readonly C[]>
export function list(description: string, given?: Given<readonly string[]>): Field<readonly string[]>
export function list(description: string, given: Given<readonly string[]> = {}): Field<readonly string[]> {
  return field('list', description, raw => strings(raw, given), { ...given, fallback: given.fallback ?? [] })
}

/** A JSON object, or `key=value` strings. */
export function map(description: string): Field<Readonly<Record<string, unknown>>> {
  return field('map', description, members, { fallback: {} })
}

export function required<T>(of: Field<T | undefined>): Field<T>
export function required<T>(of: Field<T>): Field<T>
export function required<T>(of: Field<T | undefined>): Field<T> {
  return { ...(of as Field<T>), required: true }
}

/** The same fields, none of which has to be there: for who gives some of them only. */
export function optional<F extends Fields>(fields: F): F {
  return Object.fromEntries(Object.entries(fields).map(([name, one]) => [name, { ...one, required: false }])) as unknown as F
}

/** Wrapped as it is read, so that it cannot be printed from there on. */
export function sensitive(of: Field<string | undefined>): Field<Secret | undefined> {
  const read = (raw: unknown) => new Secret(of.read(raw) ?? '')
  return { kind: of.kind, description: of.description, read, fallback: undefined, required: of.required, sensitive: true }
}

export type Parsed<F extends Fields> = {
  readonly values: Values<F>
  readonly given: Partial<Values<F>>
  readonly unknown: readonly string[]
}

/** Reads what a client sent against the fields of a path. Unknown parameters are named, not refused: Vault's clients send more than a path knows.
 *  @throws BrokerError bad_request, naming the field and what it wants */
export function parseFields<F extends Fields>(fields: F, raw: Readonly<Record<string, unknown>>): Parsed<F> {
  const given: Record<string, unknown> = {}
  const values: Record<string, unknown> = {}
  for (const [name, one] of Object.entries(fields)) {
    const sent = Object.hasOwn(raw, name) && raw[name] !== null && raw[name] !== undefined
    if (!sent && one.required) throw new BrokerError('bad_request', `missing ${name}: ${one.description}`)
    if (sent) given[name] = readField(name, one, raw[name])
    values[name] = sent ? given[name] : one.fallback
  }
  const unknown = Object.keys(raw).filter(name => !Object.hasOwn(fields, name))
  return { values: values as Values<F>, given: given as Partial<Values<F>>, unknown }
}

function readField(name: string, one: Field<unknown>, raw: unknown): unknown {
  try {
    return one.read(raw)
  } catch (error) {
    if (error instanceof Unreadable) throw new BrokerError('bad_request', `${name}: ${error.message}`)
    throw error
  }
}

function string(raw: unknown, max: number): string {
  // it is another one by now: an identifier of so many digits would be somebody else's
  if (typeof raw === 'number' && Math.abs(raw) > Number.MAX_SAFE_INTEGER)
    throw new Unreadable('wanted so long a number as a string')
  if (typeof raw === 'number' || typeof raw === 'boolean') return String(raw)
  if (typeof raw !== 'string') throw new Unreadable('wanted a string')
  if (raw.length > max) throw new Unreadable(`wanted at most ${max} characters`)
  if (!raw.isWellFormed()) throw new Unreadable('wanted well-formed Unicode')
  return raw
}

/** What was too long to be read as a string, see who hosts us: the bytes of its text. */
function ascii(raw: Uint8Array, max: number): string {
  if (raw.length > max) throw new Unreadable(`wanted at most ${max} characters`)
  return Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength).toString('latin1')
}

function chosen(value: string, choices: readonly string[] | undefined): string {
  if (choices && !choices.includes(value)) throw new Unreadable(`wanted one of ${choices.join(', ')}`)
  return value
}

function formed(value: string, form: Form | undefined): string {
  if (form && !form[0].test(value)) throw new Unreadable(`wanted ${form[1]}`)
  return value
}

const HEX: Form = [/^(?:[0-9a-f]{2})+$/i, 'bytes in hex']
/** What is no base64 is left out by the decoder, so it shows in the length: faster than to look at each of millions of characters. */
function base64(raw: unknown, max: number): Buffer {
  const longest = Math.ceil(max / 3) * 4 + 4
  const value = (raw instanceof Uint8Array ? ascii(raw, longest) : string(raw, longest)).trim()
  const decoded = Buffer.from(value, 'base64')
  const digits = value.length - (value.endsWith('==') ? 2 : Number(value.endsWith('=')))
  if (digits % 4 === 1 || decoded.length !== Math.floor((digits * 3) / 4)) throw new Unreadable('wanted base64')
  if (decoded.length > max) throw new Unreadable(`wanted at most ${max} bytes`)
  return decoded
}

const UNITS: Readonly<Record<string, number>> = { ns: 1e-9, us: 1e-6, µs: 1e-6, μs: 1e-6, ms: 1e-3, s: 1, m: 60, h: 3600 }
const GO = /^\+?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+$/
const MAX_SECONDS = 10 * 365 * 86400

/** As Vault reads it: seconds, whole days, or Go's notation; nothing is 0. */
function seconds(raw: unknown): number {
  const value = string(raw, 64)
  const [, plain, unit] = /^(\d+)(d?)$/.exec(value) ?? []
  const total = plain === undefined ? composed(value) : Number(plain) * (unit === 'd' ? 86_400 : 1)
  if (total > MAX_SECONDS) throw new Unreadable('wanted a shorter duration')
  return total
}

function composed(value: string): number {
  if (value === '') return 0
  if (!GO.test(value)) throw new Unreadable('wanted a duration such as 900, 15m, 1h30m or 30d')
  const parts = value.matchAll(/([\d.]+)([a-zµμ]+)/g)
  const total = parts.reduce((sum, [, amount, unit]) => sum + Number(amount) * (UNITS[unit ?? ''] ?? Number.NaN), 0)
  // decimal fractions have no exact form here: 0.7h is 2520 s
  return Math.floor(total + 1e-9 * Math.max(1, total))
}

function whole(raw: unknown): number {
  const value = string(raw, 20).trim()
  if (!/^-?\d{1,15}$/.test(value)) throw new Unreadable('wanted a whole number')
  return Number(value)
}

const TRUE = ['1', 't', 'T', 'TRUE', 'true', 'True']
const FALSE = ['0', 'f', 'F', 'FALSE', 'false', 'False']

function boolean(raw: unknown): boolean {
  const value = parseBool(string(raw, 8))
  if (value === undefined) throw new Unreadable('wanted true or false')
  return value
}

/** Go's strconv.ParseBool, which Vault applies to `?list=`. */
export function parseBool(raw: string): boolean | undefined {
  if (TRUE.includes(raw)) return true
  return FALSE.includes(raw) ? false : undefined
}

const MAX_ITEMS = 1000

function strings(raw: unknown, given: Given<readonly string[]>): readonly string[] {
  const items = Array.isArray(raw) ? raw : string(raw, 65_536).split(',')
  if (items.length > MAX_ITEMS) throw new Unreadable(`wanted at most ${MAX_ITEMS} items`)
  const read = items.map(item => string(item, given.max ?? 4096).trim()).filter(item => item !== '')
  for (const item of read) formed(chosen(item, given.choices), given.form)
  return [...new Set(read)]
}

function members(raw: unknown): Readonly<Record<string, unknown>> {
  if (typeof raw === 'string') return raw.trimStart().startsWith('{') ? object(json(raw)) : pairs([raw])
  return Array.isArray(raw) ? pairs(raw) : object(raw)
}

function json(raw: string): unknown {
  try {
    return JSON.parse(string(raw, 65_536))
  } catch (error) {
    if (error instanceof SyntaxError) throw new Unreadable('wanted a JSON object or key=value pairs')
    throw error
  }
}

function object(raw: unknown): Readonly<Record<string, unknown>> {
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw))
    throw new Unreadable('wanted a JSON object or key=value pairs')
  if (isDeeper(raw, DEEPEST)) throw new Unreadable(`wanted members that are nested at most ${DEEPEST} deep`)
  return Object.fromEntries(Object.entries(raw).filter(([name]) => name !== '__proto__'))
}

/** What walks through members afterwards may do so by calling itself. */
const DEEPEST = 32

function isDeeper(value: unknown, depth: number): boolean {
  if (typeof value !== 'object' || value === null) return false
  return depth === 0 || Object.values(value).some(member => isDeeper(member, depth - 1))
}

function pairs(raw: readonly unknown[]): Readonly<Record<string, unknown>> {
  const items = raw.flatMap(item => string(item, 65_536).split(',')).map(item => pair(item.trim()))
  const names = items.map(([name]) => name)
  if (new Set(names).size < names.length) throw new Unreadable('wanted each name once: a list is for JSON')
  return Object.fromEntries(items)
}

function pair(item: string): [string, string] {
  const at = item.indexOf('=')
  if (at < 1)
    throw new Unreadable('wanted a JSON object or key=value pairs: commas part them, and a value that has one is for JSON')
  return [item.slice(0, at), item.slice(at + 1)]
}
