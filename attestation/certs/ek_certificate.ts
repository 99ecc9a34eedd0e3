import type { KeyObject } from 'node:crypto'
import type { AttributeTypeAndValue } from 'pkijs'
import type { Refusal } from '../refusals.ts'
import { accept, reject, type Verdict } from '../verdict.ts'
import { type Certificate, extension, isCa, publicKeyOf, readCertificate, usage, usageIn, valueIn } from './certificate.ts'
import { DIRECTORY_NAME } from './name_forms.ts'
import { readTpmSpecification, type TpmSpecification } from './tpm_specification.ts'

/** What a TPM maker certifies of a TPM (TCG EK Credential Profile, 3.2). */
export type EkCertificate = {
  readonly certificate: Certificate
  readonly key: KeyObject
  /** `id:` and eight hexadecimal digits in capitals */
  readonly manufacturer: string
  readonly model: string
  readonly version: string
  /** tpmSpecification, where it has one: which TPM library it claims to implement */
  readonly specification?: TpmSpecification
}

export type ProfileRules = {
  /** wants what real certificates at times lack: an AKI, and the keyUsage that fits the kind of key */
  readonly strictProfile?: boolean
}

/**
 * Reads the certificate of an endorsement key and checks it against the profile, in the order of the table below. Whether it leads
 * anywhere is not looked at.
 * @returns LIMIT, TRAILING_DATA, BAD_ENCODING, UNSUPPORTED_ALG, EKU or EK_CERTIFICATE when refused
 */
export function readEkCertificate(bytes: Uint8Array, rules: ProfileRules = {}): Verdict<EkCertificate> {
  const read = readCertificate(bytes)
  if (!read.ok) return read
  const certificate = read.value
  for (const [code, fault] of checks) {
    const detail = fault(certificate, rules)
    if (detail !== undefined) return reject(code, detail)
  }
  const key = publicKeyOf(certificate)
  if (!key.ok) return key
  return accept({ certificate, key: key.value, ...identityIn(certificate), ...specificationIn(certificate) })
}

type Check = readonly [Refusal, (certificate: Certificate, rules: ProfileRules) => string | undefined]

const checks: readonly Check[] = [
  ['EK_CERTIFICATE', ({ asn1 }) => (asn1.version === 2 ? undefined : 'it is no X.509 v3 certificate')],
  [
    'EK_CERTIFICATE',
    ({ asn1 }) => (isPositive(asn1.serialNumber.valueBlock.valueHexView) ? undefined : 'its serial number is not positive'),
  ],
  ['EK_CERTIFICATE', ({ asn1 }) => (asn1.issuer.typesAndValues.length > 0 ? undefined : 'its issuer is empty')],
  ['EKU', wrongPurpose],
  ['EK_CERTIFICATE', wrongConstraints],
  ['EK_CERTIFICATE', wrongUsage],
  ['EK_CERTIFICATE', wrongSubject],
]

/** tcg-kp-EKCertificate */
const EK_PURPOSE = '2.23.133.8.1'

function wrongPurpose(certificate: Certificate): string | undefined {
  const purposes = valueIn(certificate, extension.extKeyUsage)?.keyPurposes ?? []
  return purposes.includes(EK_PURPOSE) ? undefined : `extKeyUsage is ${purposes.join(' ') || 'not there'}, wanted ${EK_PURPOSE}`
}

/** Whether it is the certificate of an endorsement key, and not of a CA that certifies such keys alone. */
export function isOfEndorsementKey(certificate: Certificate): boolean {
  return wrongPurpose(certificate) === undefined && !isCa(certificate)
}

function wrongConstraints(certificate: Certificate): string | undefined {
  const constraints = valueIn(certificate, extension.basicConstraints)
  return constraints !== undefined && !constraints.cA ? undefined : 'basicConstraints does not say that it is no CA'
}

/** An endorsement key decrypts; a certificate with the right purpose for a key that signs is another one. */
function wrongUsage(certificate: Certificate, { strictProfile = false }: ProfileRules): string | undefined {
  const bits = usageIn(certificate)
  if (strictProfile) return wrongStrictly(certificate, bits)
  if (bits === undefined) return undefined
  const fits = (bits & (usage.keyEncipherment | usage.keyAgreement)) !== 0 && (bits & usage.keyCertSign) === 0
  return fits ? undefined : 'keyUsage is not one for decrypting'
}

function wrongStrictly(certificate: Certificate, bits: number | undefined): string | undefined {
  if (valueIn(certificate, extension.authorityKeyIdentifier) === undefined) return 'it has no authorityKeyIdentifier'
  const ecc = certificate.asn1.subjectPublicKeyInfo.algorithm.algorithmId === '1.2.840.10045.2.1'
  return bits === (ecc ? usage.keyAgreement : usage.keyEncipherment)
    ? undefined
    : 'keyUsage is not exactly that of its kind of key'
}

function wrongSubject(certificate: Certificate): string | undefined {
  if (nameOfTpm(certificate) === undefined) return 'subjectAltName does not name one TPM by maker, model and version'
  const critical = certificate.extensions.get(extension.subjectAltName.oid)?.critical
  const empty = certificate.asn1.subject.typesAndValues.length === 0
  return empty && !critical ? 'the subject is empty and subjectAltName not critical' : undefined
}

/** tcg-at-tpmManufacturer, tcg-at-tpmModel, tcg-at-tpmVersion */
const attributes = ['2.23.133.2.1', '2.23.133.2.2', '2.23.133.2.3']

/** Makers put the three into one RDN or into three: pkijs lists the attributes either way. */
function nameOfTpm(certificate: Certificate): readonly [string, string, string] | undefined {
  const names = valueIn(certificate, extension.subjectAltName)?.altNames.filter(({ type }) => type === DIRECTORY_NAME) ?? []
  if (names.length !== 1) return undefined
  const listed: readonly AttributeTypeAndValue[] = names[0]?.value.typesAndValues ?? []
  const [manufacturer, model, version] = attributes.map(type => textOf(listed.filter(one => one.type === type)))
  if (manufacturer === undefined || model === undefined || version === undefined) return undefined
  return /^id:[0-9A-Fa-f]{8}$/.test(manufacturer) ? [manufacturer, model, version] : undefined
}

function textOf(found: readonly AttributeTypeAndValue[]): string | undefined {
  const text: unknown = found.length === 1 ? found[0]?.value.valueBlock.value : undefined
  return typeof text === 'string' && text.length > 0 ? text : undefined
}

function identityIn(certificate: Certificate): Pick<EkCertificate, 'manufacturer' | 'model' | 'version'> {
  const [manufacturer, model, version] = nameOfTpm(certificate) ?? ['', '', '']
  return { manufacturer: `id:${manufacturer.slice(3).toUpperCase()}`, model, version }
}

/** tcg-at-tpmSpecification */
const SPECIFICATION = '2.23.133.2.16'

function specificationIn(certificate: Certificate): Pick<EkCertificate, 'specification'> {
  const claims = valueIn(certificate, extension.subjectDirectoryAttributes)?.attributes
  const [value] = claims?.find(({ type }) => type === SPECIFICATION)?.values ?? [] // of an empty set pkijs makes none
  const specification = value && readTpmSpecification(value.toBER())
  return specification ? { specification } : {}
}

function isPositive(integer: Uint8Array): boolean {
  return (integer[0] ?? 0x80) < 0x80 && integer.some(byte => byte !== 0)
}
