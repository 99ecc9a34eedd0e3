import { createHash, createPublicKey, type KeyObject, X509Certificate } from 'node:crypto'
import { BitString, fromBER, OctetString } from 'asn1js'
import {
  AltName,
  Certificate as Asn1Certificate,
  AuthorityKeyIdentifier,
  BasicConstraints,
  CertificatePolicies,
  type Extension,
  ExtKeyUsage,
  NameConstraints,
  SubjectDirectoryAttributes,
} from 'pkijs'
import { accept, type Rejection, reasonOf, reject, type Verdict } from '../verdict.ts'
import { isContextSpecific, sequenceLength, tagsIn } from './der.ts'
import { directoryNames } from './directory_names.ts'
import { namesOf } from './names.ts'

/** A certificate is refused above this many bytes, padding included. */
const CERTIFICATE_LIMIT = 8192

/** An X.509 certificate as far as node:crypto and its Names tell, which takes a fifth of the time that reading all of it does. */
export type Outline = {
  /** without what stood after it */
  readonly der: Buffer
  /** hexadecimal */
  readonly sha256: string
  readonly x509: X509Certificate
  /** the Names, in the form by which they are compared */
  readonly issuer: Buffer
  readonly subject: Buffer
}

/** The same, read by pkijs as well for what node:crypto does not show. */
export type Certificate = Outline & {
  readonly asn1: Asn1Certificate
  /** by OID in dots; none is there twice, all values are readable */
  readonly extensions: ReadonlyMap<string, Extension>
}

type Type<T> = abstract new (...parameters: never[]) => T

/** The extensions that are looked at: OID and what pkijs makes of the value (RFC 5280 4.2.1). */
export const extension = {
  subjectDirectoryAttributes: { oid: '2.5.29.9', type: SubjectDirectoryAttributes },
  subjectKeyIdentifier: { oid: '2.5.29.14', type: OctetString },
  keyUsage: { oid: '2.5.29.15', type: BitString },
  subjectAltName: { oid: '2.5.29.17', type: AltName },
  basicConstraints: { oid: '2.5.29.19', type: BasicConstraints },
  nameConstraints: { oid: '2.5.29.30', type: NameConstraints },
  certificatePolicies: { oid: '2.5.29.32', type: CertificatePolicies },
  authorityKeyIdentifier: { oid: '2.5.29.35', type: AuthorityKeyIdentifier },
  extKeyUsage: { oid: '2.5.29.37', type: ExtKeyUsage },
} as const

/** The value of an extension, when the certificate has it. */
export function valueIn<T>({ extensions }: Certificate, { oid, type }: { oid: string; type: Type<T> }): T | undefined {
  const found = extensions.get(oid)
  return found && readAs(found, type)
}

/** Bits of the first octet of KeyUsage (RFC 5280 4.2.1.3). */
export const usage = {
  digitalSignature: 0x80,
  keyEncipherment: 0x20,
  keyAgreement: 0x08,
  keyCertSign: 0x04,
  crlSign: 0x02,
} as const

/** The first octet of KeyUsage, when the certificate says what its key is for. */
export function usageIn(certificate: Certificate): number | undefined {
  const bits = valueIn(certificate, extension.keyUsage)
  return bits && (bits.valueBlock.valueHexView[0] ?? 0)
}

/** Whether a certificate says that it is that of a CA. */
export function isCa(certificate: Certificate): boolean {
  return valueIn(certificate, extension.basicConstraints)?.cA === true
}

/** The value of an extension, when it could be read: pkijs does not throw for one that it cannot read, but marks it. */
export function readAs<T>({ parsedValue }: Extension, type: Type<T>): T | undefined {
  return parsedValue instanceof type && !(parsedValue as { parsingError?: string }).parsingError ? parsedValue : undefined
}

/**
 * Reads a certificate (RFC 5280 4.1). The NV index of a TPM may be longer than the certificate in it: bytes after the DER are cut
 * off when all of them are 0x00 or all are 0xff.
 * @returns LIMIT, TRAILING_DATA or BAD_ENCODING when refused
 */
export function readCertificate(bytes: Uint8Array): Verdict<Certificate> {
  const outline = outlineOf(bytes)
  return outline.ok ? readRest(outline.value) : outline
}

/** The same for one of which the outline is known. */
export function readRest(outline: Outline): Verdict<Certificate> {
  return attempt(() => decode(outline))
}

/** As `readCertificate`, without looking at what an extension holds. */
export function outlineOf(bytes: Uint8Array): Verdict<Outline> {
  if (bytes.length > CERTIFICATE_LIMIT)
    return reject('LIMIT', `a certificate of ${bytes.length} bytes, at most ${CERTIFICATE_LIMIT} are read`)
  const length = sequenceLength(bytes)
  if (length === undefined) return reject('BAD_ENCODING', 'no DER of a certificate')
  if (!isPadding(bytes.subarray(length))) return reject('TRAILING_DATA', `${bytes.length - length} bytes after a certificate`)
  return attempt(() => {
    const der = Buffer.from(bytes.subarray(0, length))
    const names = namesOf(der)
    if (names === undefined) return reject('BAD_ENCODING', 'a certificate without Names')
    return accept({ der, sha256: createHash('sha256').update(der).digest('hex'), x509: new X509Certificate(der), ...names })
  })
}

function attempt<T>(read: () => Verdict<T>): Verdict<T> {
  try {
    return read()
  } catch (error) {
    return reject('BAD_ENCODING', `a certificate cannot be read: ${reasonOf(error)}`)
  }
}

/**
 * Whether the bytes are one certificate and nothing else, as far as OpenSSL and its Names tell: a fiftieth of the time that reading
 * takes, for those who have thousands.
 */
export function isCertificate(bytes: Uint8Array): boolean {
  if (bytes.length > CERTIFICATE_LIMIT || sequenceLength(bytes) !== bytes.length || namesOf(bytes) === undefined) return false
  try {
    return new X509Certificate(bytes).raw.length === bytes.length
  } catch {
    return false // which is what was asked
  }
}

/**
 * The public key of a certificate. One that may only be used with RSAES-OAEP, as old TPMs have it, is read as an RSA key.
 * @returns UNSUPPORTED_ALG when it is neither RSA nor on a NIST curve
 */
export function publicKeyOf({ x509, asn1 }: Certificate): Verdict<KeyObject> {
  const { algorithm, subjectPublicKey } = asn1.subjectPublicKeyInfo
  try {
    if (algorithm.algorithmId !== RSAES_OAEP) return accept(canonical(x509.publicKey))
    const key = Buffer.from(subjectPublicKey.valueBlock.valueHexView)
    return accept(canonical(createPublicKey({ key, format: 'der', type: 'pkcs1' })))
  } catch {
    return reject('UNSUPPORTED_ALG', `the key of a certificate, ${algorithm.algorithmId}, cannot be used here`)
  }
}

const RSAES_OAEP = '1.2.840.113549.1.1.7'

/** An RSA key is always written the same way; others by way of JWK, which knows neither explicit curves nor compressed points. */
function canonical(key: KeyObject): KeyObject {
  return key.asymmetricKeyType === 'rsa' ? key : createPublicKey({ key: key.export({ format: 'jwk' }), format: 'jwk' })
}

function isPadding(rest: Uint8Array): boolean {
  return rest.every(byte => byte === 0x00) || rest.every(byte => byte === 0xff)
}

function decode(outline: Outline): Verdict<Certificate> {
  if (tagsIn(outline.der).length > most.elements) return tooMuch('elements')
  const asn1 = asn1Of(outline.der)
  if (!isInTime(outline.x509, asn1)) return reject('BAD_ENCODING', 'the validity of a certificate cannot be read')
  const tags = (asn1.extensions ?? []).flatMap(one =>
    types.has(one.extnID) ? tagsIn(one.extnValue.valueBlock.valueHexView) : [],
  )
  if (tags.length > most.elements) return tooMuch('elements')
  if (tags.filter(isContextSpecific).length > most.names) return tooMuch('names')
  const extensions = new Map<string, Extension>()
  for (const one of asn1.extensions ?? []) {
    if (extensions.has(one.extnID)) return reject('BAD_ENCODING', `a certificate has the extension ${one.extnID} twice`)
    if (one.extnID === extension.subjectAltName.oid) one.parsedValue = directoryNames(one.extnValue.valueBlock.valueHexView)
    const type = types.get(one.extnID)
    if (type !== undefined && readAs(one, type) === undefined)
      return reject('BAD_ENCODING', `the extension ${one.extnID} cannot be read`)
    extensions.set(one.extnID, one)
  }
  return accept({ ...outline, asn1, extensions })
}

/** In one of the two forms that RFC 5280 has (4.1.2.5): what OpenSSL reads and pkijs does not, or otherwise, is in neither. */
function isInTime({ validFromDate, validToDate }: X509Certificate, { notBefore, notAfter }: Asn1Certificate): boolean {
  return validFromDate.getTime() === notBefore.value.getTime() && validToDate.getTime() === notAfter.value.getTime()
}

/** Certificates of makers have some 200 elements, and 120 in what is read of their extensions. Of those some 10 are names, which take pkijs a fifth of a millisecond each. */
const most = { elements: 512, names: 32 }

function tooMuch(what: keyof typeof most): Rejection {
  return reject('LIMIT', `a certificate with more than ${most[what]} ${what}`)
}

/** What pkijs makes of a certificate. What lies inside of octets and bits is read when it is asked for: to read all of it at once takes a fifth more time. */
export function asn1Of(der: Uint8Array): Asn1Certificate {
  const { offset, result } = fromBER(der, { parseEmbedded: false })
  if (offset === -1) throw new Error(result.error)
  return new Asn1Certificate({ schema: result })
}

const types = new Map<string, Type<unknown>>(Object.values(extension).map(({ oid, type }) => [oid, type]))
