import { createHash } from 'node:crypto'
import { weakRsa } from './key_faults.ts'
import { qualifiedNameOf } from './qualified_name.ts'
import { alg, attribute, type Hash } from './tpm2/constants.ts'
import { isKey, nameOf, type Public, readPublic, spkiOf } from './tpm2/public.ts'
import { accept, reject, type Verdict } from './verdict.ts'

/** The kinds of endorsement keys that are admitted. */
export const ekKinds = ['rsa-2048', 'p-256', 'p-384'] as const
export type EkKind = (typeof ekKinds)[number]

/** The key that a TPM is known by: it decrypts, and never signs. */
export type EndorsementKey = {
  readonly public: Public
  /** `sha256-<hex>` of the SHA-256 of its canonical SubjectPublicKeyInfo: the id of the TPM */
  readonly id: string
  readonly kind: EkKind
  readonly nameAlg: Hash
  /** of a primary in the endorsement hierarchy, the parent in the qualified name of its children */
  readonly qualifiedName: Buffer
}

/**
 * Admits a TPMT_PUBLIC as an endorsement key, which must be made exactly from a TCG template: any other could be used by its host
 * as it likes (TCG EK Credential Profile, templates L-1, L-2, H-1, H-2, H-3; RSA keys of other sizes are not admitted).
 * @returns LIMIT, BAD_KEY, UNSUPPORTED_ALG, TRUNCATED, TRAILING_DATA, EK_TEMPLATE or WEAK_KEY when refused
 */
export function admitEk(publicBytes: Uint8Array): Verdict<EndorsementKey> {
  const read = readPublic(publicBytes)
  if (!read.ok) return read
  const area = read.value
  const kind = templates.find(template => fits(area, template))?.kind
  if (kind === undefined) return reject('EK_TEMPLATE', `no template of the TCG has ${describe(area)}`)
  const weakness = weakRsa(area)
  if (weakness !== undefined) return reject('WEAK_KEY', weakness)
  if (!isKey(area)) return reject('BAD_KEY', 'the point is not on its curve')
  const qualifiedName = qualifiedNameOf('endorsement', nameOf(area.bytes, area.nameAlg))
  return accept({ public: area, id: tpmIdOf(spkiOf(area)), kind, nameAlg: area.nameAlg, qualifiedName })
}

/** @param spki canonical, see `spkiOf` */
export function tpmIdOf(spki: Uint8Array): string {
  return `sha256-${createHash('sha256').update(spki).digest('hex')}`
}

type Template = {
  readonly kind: EkKind
  readonly attributes: number
  readonly nameAlg: Hash
  readonly authPolicy: Buffer
  readonly aesBits: number
}

const { fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt, userWithAuth } = attribute
const lowRange = fixedTPM | fixedParent | sensitiveDataOrigin | adminWithPolicy | restricted | decrypt

/** TPMA_OBJECT and authPolicy of the templates, of the low and the high range of NV indices (TCG EK Credential Profile, B.3 and B.4). */
export const ekProfile = {
  low: lowRange,
  high: lowRange | userWithAuth,
  /** PolicySecret(TPM_RH_ENDORSEMENT), SHA-256 */
  policyA: Buffer.from('837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa', 'hex'),
  /** PolicyOR of policy A and PolicyAuthorizeNV of an index that the maker wrote, by nameAlg */
  policyB: {
    sha256: Buffer.from('ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0', 'hex'),
    sha384: Buffer.from(
      'b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12',
      'hex',
    ),
  },
} as const
const { low, high, policyA, policyB } = ekProfile

const templates: readonly Template[] = [
  { kind: 'rsa-2048', attributes: low, nameAlg: 'sha256', authPolicy: policyA, aesBits: 128 }, // L-1
  { kind: 'p-256', attributes: low, nameAlg: 'sha256', authPolicy: policyA, aesBits: 128 }, // L-2
  { kind: 'rsa-2048', attributes: high, nameAlg: 'sha256', authPolicy: policyB.sha256, aesBits: 128 }, // H-1
  { kind: 'p-256', attributes: high, nameAlg: 'sha256', authPolicy: policyB.sha256, aesBits: 128 }, // H-2
  { kind: 'p-384', attributes: high, nameAlg: 'sha384', authPolicy: policyB.sha384, aesBits: 256 }, // H-3
]

function fits(area: Public, { kind, attributes, nameAlg, authPolicy, aesBits }: Template): boolean {
  if (kindOf(area) !== kind || area.attributes !== attributes || area.nameAlg !== nameAlg) return false
  const { symmetric, scheme } = area
  const kdf = area.kind === 'ecc' ? area.kdf : null
  const cipher = symmetric?.alg === alg.AES && symmetric.mode === alg.CFB && symmetric.bits === aesBits
  return cipher && scheme === null && kdf === null && area.authPolicy.equals(authPolicy)
}

function kindOf(area: Public): string {
  return area.kind === 'ecc' ? area.curve.toLowerCase() : `rsa-${area.bits}`
}

function describe({ attributes, nameAlg, authPolicy, ...area }: Public): string {
  const flags = attributes.toString(16).padStart(8, '0')
  return `TPMA_OBJECT 0x${flags}, ${nameAlg} and authPolicy ${authPolicy.toString('hex')} on ${kindOf(area as Public)}`
}
