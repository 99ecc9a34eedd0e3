import { Integer } from 'asn1js'
import { CertificateRevocationList, type Extension, IssuingDistributionPoint } from 'pkijs'
import { accept, reasonOf, reject, type Verdict } from '../verdict.ts'
import { readAs } from './certificate.ts'
import { readEntries, serialIn } from './crl_entries.ts'
import { isSignedExactly, sequenceLength } from './der.ts'
import { URI } from './name_forms.ts'
import { issuerOfList } from './names.ts'

/** A revocation list is refused above this many bytes: the largest of the makers have some ten thousand entries. */
const LIST_LIMIT = 8 * 1024 * 1024

/** A complete list of what one CA has revoked (RFC 5280 5). */
export type RevocationList = {
  readonly asn1: CertificateRevocationList
  /** the Name, in the form by which names are compared */
  readonly issuer: Buffer
  readonly thisUpdate: Date
  /** a list without one is never current */
  readonly nextUpdate?: Date
  /** cRLNumber: what is issued later has a greater one (RFC 5280 5.2.3) */
  readonly number?: bigint
  /** serial numbers in hexadecimal without leading zeros */
  readonly serials: ReadonlySet<string>
  readonly scope: Scope
}
/** Which certificates of its issuer a list speaks of: all, but for what is said here (RFC 5280 5.2.5). */
export type Scope = {
  readonly usersOnly: boolean
  readonly casOnly: boolean
  /** the list is for certificates that name one of these places */
  readonly places?: readonly string[]
}

const DELTA_INDICATOR = '2.5.29.27'
const ISSUING_DISTRIBUTION_POINT = '2.5.29.28'
const CRL_NUMBER = '2.5.29.20'

/**
 * Reads a complete revocation list. Delta lists, indirect ones and those for some reasons alone are refused: each says less than
 * it seems to. Its signature and age are not looked at.
 * @returns LIMIT, TRAILING_DATA, BAD_ENCODING or UNKNOWN_CRITICAL_EXT when refused
 */
export function readRevocationList(bytes: Uint8Array): Verdict<RevocationList> {
  if (bytes.length > LIST_LIMIT) return reject('LIMIT', `a list of ${bytes.length} bytes, at most ${LIST_LIMIT} are read`)
  const length = sequenceLength(bytes)
  const issuer = issuerOfList(bytes)
  if (length === undefined || issuer === undefined) return reject('BAD_ENCODING', 'no DER of a revocation list')
  if (length < bytes.length) return reject('TRAILING_DATA', `${bytes.length - length} bytes after a revocation list`)
  try {
    return decode(Buffer.from(bytes), Buffer.from(issuer))
  } catch (error) {
    return reject('BAD_ENCODING', `a list cannot be read: ${reasonOf(error)}`)
  }
}

function decode(der: Buffer, issuer: Buffer): Verdict<RevocationList> {
  const entries = readEntries(der)
  if (entries === undefined) return reject('BAD_ENCODING', 'what a list has revoked cannot be read')
  const asn1 = CertificateRevocationList.fromBER(entries.rest)
  asn1.tbsView = entries.signed
  const ecdsa = asn1.signatureAlgorithm.algorithmId.startsWith('1.2.840.10045.4.')
  if (!isSignedExactly(der, ecdsa)) return reject('BAD_ENCODING', 'a list is signed in a form that is no DER')
  const extensions = asn1.crlExtensions?.extensions ?? []
  const scope = scopeOf(extensions)
  if (scope === undefined) return reject('UNKNOWN_CRITICAL_EXT', 'a list for some reasons alone, or in place of other issuers')
  const fault = notUnderstood(extensions)
  if (fault !== undefined) return reject('UNKNOWN_CRITICAL_EXT', fault)
  if (entries.critical) return reject('UNKNOWN_CRITICAL_EXT', 'an entry of a list has a critical extension')
  const [thisUpdate, nextUpdate] = [asn1.thisUpdate.value, asn1.nextUpdate?.value]
  const dates = { thisUpdate, ...(nextUpdate && { nextUpdate }) }
  return accept({ asn1, issuer, ...dates, ...numberIn(extensions), serials: entries.serials, scope })
}

function numberIn(extensions: readonly Extension[]): Pick<RevocationList, 'number'> {
  const found = extensions.find(({ extnID }) => extnID === CRL_NUMBER)
  const number = found && readAs(found, Integer)
  return number ? { number: number.toBigInt() } : {}
}

function notUnderstood(extensions: readonly Extension[]): string | undefined {
  if (extensions.some(({ extnID }) => extnID === DELTA_INDICATOR)) return 'a delta list: give the complete one'
  const unknown = extensions.find(({ critical, extnID }) => critical && extnID !== ISSUING_DISTRIBUTION_POINT)
  return unknown && `a list has the critical extension ${unknown.extnID}`
}

const EVERYTHING: Scope = { usersOnly: false, casOnly: false }

/** Undefined where the list is not what it is taken for. */
function scopeOf(extensions: readonly Extension[]): Scope | undefined {
  const found = extensions.find(({ extnID }) => extnID === ISSUING_DISTRIBUTION_POINT)
  if (found === undefined) return EVERYTHING
  const point = readAs(found, IssuingDistributionPoint)
  if (point === undefined || point.indirectCRL || point.onlyContainsAttributeCerts) return undefined
  if (point.onlySomeReasons !== undefined) return undefined
  const { onlyContainsUserCerts: usersOnly, onlyContainsCACerts: casOnly, distributionPoint } = point
  if (distributionPoint === undefined) return { usersOnly, casOnly }
  if (!Array.isArray(distributionPoint)) return undefined // relative to the issuer: no maker does that
  return { usersOnly, casOnly, places: distributionPoint.filter(({ type }) => type === URI).map(({ value }) => String(value)) }
}

/** Hexadecimal, without leading zeros. */
export function serialOf(serial: Integer): string {
  return serialIn(serial.valueBlock.valueHexView)
}
