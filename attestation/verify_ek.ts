import type { EkCertificate, ProfileRules } from './certs/ek_certificate.ts'
import { isAmong, type MakerRules, makerFault } from './certs/makers.ts'
import type { Trust, ValidPath } from './certs/path.ts'
import type { Path } from './certs/path_search.ts'
import type { TpmSpecification } from './certs/tpm_specification.ts'
import { sharesPrime } from './certs/weak_keys.ts'
import { admitEk, type EkKind, type EndorsementKey } from './endorsement.ts'
import { keyObjectOf } from './tpm2/public.ts'
import { accept, reject, type Verdict } from './verdict.ts'

/** What the attester sent, as it came. */
export type EkEvidence = {
  /** DER, with the padding of its NV index or without; empty when the TPM has none */
  readonly certificate: Uint8Array
  /** TPMT_PUBLIC */
  readonly public: Uint8Array
  /** DER of the CAs between the certificate and a trust anchor */
  readonly intermediates?: readonly Uint8Array[]
}

/** Whom we trust to certify TPMs, at which time. */
export type EkRules = Omit<Trust, 'allowSha1'> &
  MakerRules &
  ProfileRules & {
    /** kinds of keys that are accepted; any when left out */
    readonly ekTypes?: readonly EkKind[]
    /** makers whose certificates may be signed over SHA-1 digests, by id */
    readonly sha1Makers?: readonly string[]
    /** RSA moduli of endorsement keys enrolled before, to find primes that two of them have in common */
    readonly enrolledModuli?: Iterable<Uint8Array>
  }

/** An endorsement key of a TPM that a maker we trust has made. */
export type VerifiedEk = Pick<EndorsementKey, 'id' | 'kind'> &
  Pick<EkCertificate, 'manufacturer' | 'model' | 'version'> & {
    readonly key: EndorsementKey
    readonly specification?: TpmSpecification
    readonly notAfter: Date
    /** hexadecimal, of the DER without padding */
    readonly certificateSha256: string
    readonly anchorSha256: string
    /** DER, from the certificate to the anchor: what is looked up again when its makers revoke */
    readonly path: readonly Buffer[]
    /** `unknown`: a CA had no current revocation list, which the policy allows */
    readonly revocation: ValidPath['revocation']
    /** up to when nothing but the clock could change this verdict */
    readonly until: Date
  }

/**
 * Judges an endorsement key and its certificate. The checks, in order: the public area, see `admitEk`; its kind; the certificate,
 * see `readEkCertificate`; whether both hold the same key; the path to a trust anchor, see `validatePath`; primes in common with
 * another TPM; the maker.
 * @returns what those return when refused, NO_EK_CERT, EK_TEMPLATE, EK_MISMATCH, WEAK_KEY or MAKER_MISMATCH
 */
export async function verifyEk(evidence: EkEvidence, rules: EkRules): Promise<Verdict<VerifiedEk>> {
  const ek = admitEk(evidence.public)
  if (!ek.ok) return ek
  if (rules.ekTypes?.includes(ek.value.kind) === false)
    return reject('EK_TEMPLATE', `an endorsement key of kind ${ek.value.kind}`)
  if (evidence.certificate.length === 0) return reject('NO_EK_CERT', 'the certificate is empty')
  const { readEkCertificate, validatePath } = await certificates()
  const read = readEkCertificate(evidence.certificate, rules)
  if (!read.ok) return read
  if (!read.value.key.equals(keyObjectOf(ek.value.public)))
    return reject('EK_MISMATCH', `the certificate is not for ${ek.value.id}`)
  const allowSha1 = isAmong(rules.sha1Makers ?? [], read.value.manufacturer)
  const path = await validatePath(read.value.certificate, evidence.intermediates ?? [], { ...rules, allowSha1 })
  if (!path.ok) return path
  // all keys of a fleet are looked at, which is not for everybody to ask for
  if (isShared(ek.value, rules)) return reject('WEAK_KEY', 'the modulus has a prime in common with that of another TPM')
  const fault = makerFault(read.value, namesOfCas(path.value.certificates), rules)
  return fault === undefined ? accept(verified(ek.value, read.value, path.value)) : reject('MAKER_MISMATCH', fault)
}

/** What reads certificates takes a tenth of a second to load, and whoever only quotes or verifies quotes never needs it. */
async function certificates() {
  const [{ readEkCertificate }, { validatePath }] = await Promise.all([
    import('./certs/ek_certificate.ts'),
    import('./certs/path.ts'),
  ])
  return { readEkCertificate, validatePath }
}

function isShared({ public: area }: EndorsementKey, { enrolledModuli = [] }: EkRules): boolean {
  return area.kind === 'rsa' && sharesPrime(area.modulus, enrolledModuli)
}

const ORGANIZATION = '2.5.4.10'
const COMMON_NAME = '2.5.4.3'

function namesOfCas(path: Path): { organizations: string[]; commonNames: string[] } {
  const attributes = path.slice(1).flatMap(({ asn1 }) => asn1.subject.typesAndValues)
  const texts = (type: string) => attributes.filter(one => one.type === type).map(({ value }) => String(value.valueBlock.value))
  return { organizations: texts(ORGANIZATION), commonNames: texts(COMMON_NAME) }
}

function verified(key: EndorsementKey, ek: EkCertificate, path: ValidPath): VerifiedEk {
  const { id, kind } = key
  const { certificate, manufacturer, model, version, specification } = ek
  const notAfter = certificate.asn1.notAfter.value
  return {
    id,
    kind,
    key,
    manufacturer,
    model,
    version,
    ...(specification && { specification }),
    notAfter,
    certificateSha256: certificate.sha256,
    anchorSha256: path.certificates.at(-1)?.sha256 ?? '',
    path: path.certificates.map(({ der }) => der),
    revocation: path.revocation,
    until: path.until,
  }
}
