import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { reasonOf, startOf } from './files.ts'

/** One piece of evidence with what others say should come of it. */
export type Case = {
  readonly id: string
  /** what the set says, if anything: never looked at by `judge` */
  readonly expected: Expectation
  /** `OK` or another code that accepts, or the code of the refusal */
  readonly judge: () => string | Promise<string>
}
/** In its own words; whether an outcome is the one, or null where that cannot be said. */
export type Expectation = { readonly says: string | null; readonly holds: (got: string) => boolean | null }

/** Codes that accept: a quote may begin a new session, or be the twin of one that was accepted. */
const accepting = ['OK', 'OK_BUT_SAME_CHALLENGE', 'REBOOTED', 'RESUMED']
const isAccepted = (got: string) => accepting.includes(got)

const nothing: Expectation = { says: null, holds: () => null }

/**
 * How the fields `expected` and `expected_code` of a case read. A code wins, in either of them; several are alternatives. Where there is none, any
 * refusal is as good as another. What is judged as a quote may well be accepted as something else.
 */
export function expectationOf(record: Fields): Expectation {
  const { expected, expected_code: code } = record
  const word = typeof expected === 'string' ? expected : undefined
  if (word?.startsWith('refuse-when')) return conditional(word)
  const codes = codesIn(code)
  if (codes.length > 0) return { says: codes.join(' or '), holds: got => codes.includes(got) }
  return word === undefined ? nothing : outcomeOf(word)
}

function codesIn(field: unknown): string[] {
  return [field].flat().flatMap(code => (typeof code === 'string' ? (code.match(/\b[A-Z][A-Z_]{1,}\b/g) ?? []) : []))
}

function outcomeOf(word: string): Expectation {
  if (/^[A-Z][A-Z_]+$/.test(word)) return { says: word, holds: got => got === word }
  if (/refuse-as-quote|^refuse|^reject|^policy/i.test(word)) return { says: word, holds: got => !isAccepted(got) }
  return /^accept/i.test(word) ? { says: word, holds: isAccepted } : nothing
}

/** Refused beside something that may not be in the folder: then the condition is not met, and nothing is said. */
function conditional(says: string): Expectation {
  return { says, holds: got => (isAccepted(got) ? null : true) }
}

/** Upstream's word that a log can be read. It does not mean our floor: a log in SHA-1 form is refused whatever it says. */
export function expectationOfLog(record: Fields, isSha1: boolean): Expectation {
  const own = expectationOf(record)
  if (own.says !== null) return own
  const sentence = typeof record.expected === 'string' ? record.expected : ''
  if (/refuse|fails/i.test(sentence)) return outcomeOf('refuse')
  if (!/^parse|parse ok/.test(sentence)) return nothing
  return isSha1 ? { says: 'WEAK_BANK', holds: got => got === 'WEAK_BANK' } : outcomeOf('accept')
}

/** Members of the JSON objects that describe a case, of any kind. */
type Member =
  | 'id'
  | 'expected'
  | 'expected_code'
  // statements of TPMs, and what was asked for
  | 'attest_hex'
  | 'tpmt_signature_hex'
  | 'companion_signature_hex'
  | 'signature_raw_hex'
  | 'sig_alg'
  | 'sig_hash'
  | 'ak_tpmt_public_hex'
  | 'ak_spki_pem'
  | 'ak_cert_pem'
  | 'expected_nonce_hex'
  | 'pcrs'
  | 'policy'
  | 'stage'
  | 'previous_quote_state'
  // in `policy`
  | 'requiredBank'
  | 'requiredPcrs'
  | 'minHash'
  | 'nonceHex'
  // in `previous_quote_state`
  | 'clock'
  | 'resetCount'
  | 'restartCount'
  | 'firmwareVersion'
  | 'obfuscated'
  // logs
  | 'file'
  | 'files'
  | 'expected_pcrs'
  | 'padding'
  | 'extends'
  // certificates
  | 'chain'
  | 'trustAnchor'
  | 'verifyAt'
  // keys and credentials
  | 'modulus_hex'
  | 'e'
  | 'spki_pem'
  | 'ek_tpm2b_public_hex'
  | 'ek_spki_pem'
  | 'ak_name_hex'
  | 'secret_hex'
  | 'seed_hex'
  | 'ephemeral_private_decimal'
  | 'rng'
  | 'expected_hex'
  | 'expected_first_80_bytes_hex'
  | 'expected_idobject_plus_secret_hex'
  // creations
  | 'tpmt_public_hex'
  | 'creation_data_hex'
  | 'outside_info_hex'
  // sets and the index
  | 'cases'
  | 'quotes_and_certifies'
  | 'event_logs'
  | 'ima_logs'
  | 'ek_certs'
export type Fields = { readonly [name in Member]?: unknown }

/** A case that cannot be judged, as something it needs is not there: a sentence for the reader. */
export class Unusable extends Error {}

export function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The bytes of a hexadecimal member. */
export function bytesIn(record: Fields, name: Member): Buffer {
  const text = record[name]
  const bytes = Buffer.from(typeof text === 'string' ? text : '', 'hex') // up to what is no digit
  if (typeof text !== 'string' || 2 * bytes.length !== text.length) throw new Unusable(`${name} is not hexadecimal`)
  return bytes
}

/** A challenge. An empty one is none: it is answered like one that was made for something else. */
export function challengeIn(record: Fields, name: Member): Buffer {
  const nonce = bytesIn(record, name)
  return nonce.length > 0 ? nonce : createHash('sha256').update('a challenge that nobody has seen').digest()
}

export function textIn(record: Fields, name: Member): string {
  const text = record[name]
  if (typeof text !== 'string') throw new Unusable(`${name} is not a text`)
  return text
}

export function listIn(record: Fields, name: Member): readonly unknown[] {
  const list = record[name]
  if (!Array.isArray(list)) throw new Unusable(`${name} is not a list`)
  return list
}

/** What the case is called, for want of anything better by its place. */
export function idOf(record: Fields, place: string): string {
  return typeof record.id === 'string' ? record.id : place
}

/** More than any evidence may have: what is longer is refused for it, whatever follows. */
const MOST_BYTES = 2 ** 26

/** A file that a case is about, or as much of it as can matter. */
export function fileIn(folder: string, name: unknown): Buffer {
  if (typeof name !== 'string') throw new Unusable('the case names no file')
  const path = join(folder, name)
  try {
    return startOf(path, MOST_BYTES)
  } catch (error) {
    throw new Unusable(`${path} cannot be read: ${reasonOf(error)}`)
  }
}

export function outcome(verdict: { readonly ok: true } | { readonly ok: false; readonly code: string }): string {
  return verdict.ok ? 'OK' : verdict.code
}
