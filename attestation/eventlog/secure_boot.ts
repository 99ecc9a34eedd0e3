import { hash } from 'node:crypto'
import type { Bank } from '../pcrs.ts'
import { accept, reject, type Verdict } from '../verdict.ts'
import {
  CERT_SHA256,
  CERT_X509,
  type EfiSignature,
  GLOBAL_VARIABLE,
  IMAGE_SECURITY_DATABASE,
  readEfiVariable,
  readSignatureLists,
} from './efi_variable.ts'
import type { PcrEvent } from './event_log.ts'
import { isSeparator } from './event_rules.ts'
import { eventType } from './event_types.ts'
import { hexIn } from './replay.ts'

/** What PCR 7 says of the secure boot policy, by events before its separator. */
export type SecureBootClaims = {
  /** whether the firmware ran only what its databases allow, and shim only what is signed; left out when no event says so */
  readonly secureBoot?: boolean
  readonly databases: Readonly<Partial<Record<Database, DatabaseClaims>>>
  /** what the firmware said it did, such as that it is being debugged */
  readonly actions: readonly string[]
  /** digests of the database entries by which images were allowed to run, and of what shim adds: these come after the separator */
  readonly authorities: readonly string[]
}
export type Database = keyof typeof homes
/** The digest is the measured one, which covers the name as well. */
export type DatabaseClaims = { readonly digest: string; readonly entries: readonly DatabaseEntry[] }
/** A certificate by its fingerprint, an image by its digest; of any other kind, whose type is then a GUID, the SHA-256 digest. */
export type DatabaseEntry = { readonly type: string; readonly owner: string; readonly sha256: string }

const homes = { PK: GLOBAL_VARIABLE, KEK: GLOBAL_VARIABLE, db: IMAGE_SECURITY_DATABASE, dbx: IMAGE_SECURITY_DATABASE } as const

/**
 * @param events of PCR 7, all of them, after `faultOfEvents`
 * @returns BAD_ENCODING when refused, for a variable that cannot be read
 */
export function secureBootClaims(events: readonly PcrEvent[], bank: Bank): Verdict<SecureBootClaims> {
  const end = events.findIndex(event => isSeparator(event, bank))
  const before = events.slice(0, end)
  const policy = policyOf(before, bank)
  if (!policy.ok) return policy
  const actions = before.filter(({ type }) => type === eventType.EFI_ACTION).map(({ data }) => data.toString())
  const authorities = events.slice(end + 1).map(event => hexIn(event, bank))
  const unvalidated = authorities.some(digest => unvalidating[bank].has(digest))
  return accept({ ...policy.value, ...(unvalidated && { secureBoot: false }), actions, authorities })
}

/**
 * What shim measures when somebody at the machine told it to validate nothing: MokSBState, a byte that is not zero. By the digest, as nothing says that the
 * data of an authority is what was measured.
 */
function unvalidatingDigests(bank: Bank): ReadonlySet<string> {
  const name = Buffer.from('MokSBState', 'utf16le')
  const head = Buffer.concat([SHIM_LOCK, sizeOf(name.length / 2), sizeOf(1), name])
  return new Set(Array.from({ length: 255 }, (_, at) => hash(bank, Buffer.concat([head, Buffer.of(at + 1)]))))
}

/** 605dab50-e046-4300-abb6-3dd810dd8b23, as it is measured */
const SHIM_LOCK = Buffer.from('50ab5d6046e00043abb63dd810dd8b23', 'hex')
const sizeOf = (bytes: number) => Buffer.of(bytes, 0, 0, 0, 0, 0, 0, 0)
const unvalidating: Readonly<Record<Bank, ReadonlySet<string>>> = {
  sha256: unvalidatingDigests('sha256'),
  sha384: unvalidatingDigests('sha384'),
  sha512: unvalidatingDigests('sha512'),
}

type Policy = Pick<SecureBootClaims, 'secureBoot' | 'databases'>

function policyOf(events: readonly PcrEvent[], bank: Bank): Verdict<Policy> {
  let policy: Policy = { databases: {} }
  for (const event of events.filter(({ type }) => type === eventType.EFI_VARIABLE_DRIVER_CONFIG)) {
    const read = readEfiVariable(event.data)
    if (!read.ok) return read
    const { guid, name, value } = read.value
    if (guid === GLOBAL_VARIABLE && name === 'SecureBoot') {
      const state = stateOf(value)
      if (!state.ok) return state
      policy = { ...policy, secureBoot: state.value }
    } else if (isDatabase(name) && homes[name] === guid) {
      const signatures = readSignatureLists(value)
      if (!signatures.ok) return signatures
      const database = { digest: hexIn(event, bank), entries: signatures.value.map(entryOf) }
      policy = { ...policy, databases: { ...policy.databases, [name]: database } }
    }
  }
  return accept(policy)
}

/** A variable that is not there is measured without a value. */
function stateOf(value: Buffer): Verdict<boolean> {
  const [state = 0] = value
  return value.length <= 1 && state <= 1
    ? accept(state === 1)
    : reject('BAD_ENCODING', `SecureBoot is 0x${value.toString('hex')}`)
}

function isDatabase(name: string): name is Database {
  return Object.hasOwn(homes, name)
}

function entryOf({ type, owner, data }: EfiSignature): DatabaseEntry {
  if (type === CERT_SHA256) return { type: 'sha256', owner, sha256: data.toString('hex') }
  return { type: type === CERT_X509 ? 'x509' : type, owner, sha256: hash('sha256', data) }
}
