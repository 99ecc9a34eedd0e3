import { type EkRules, type Verdict, verifyEk } from '#attestation'
import { publicKeyOf, readCertificate } from '../../attestation/certs/certificate.ts'
import { readRevocationList } from '../../attestation/certs/crl.ts'
import { readEkCertificate } from '../../attestation/certs/ek_certificate.ts'
import { validatePath } from '../../attestation/certs/path.ts'
import { areaOf, type Kind, pairOf, unwrap } from './attester.ts'
import {
  basicConstraints,
  brainpool,
  certifyEk,
  directoryName,
  EK_EXTENSIONS,
  extension,
  type Fields,
  INFINEON,
  keyUsage,
  makeCa,
  makeList,
  NOW,
  nameConstraints,
  named,
  tpmName,
} from './certificates.ts'
import { ekAreaOf } from './endorsed.ts'
import type { Provocations } from './provocations.ts'

const zero = Buffer.alloc(1)
const plus = (bytes: Uint8Array) => Buffer.concat([bytes, zero])

const ek = pairOf('rsa-2048', 'ek').publicKey
const ekArea = ekAreaOf(ek)
const root = makeCa(named('Root'))
const certificate = certifyEk(root, ek)
const nullExtension = (id: string, critical: boolean) => extension(id, critical, Buffer.of(5, 0))

const certificates: Provocations['refusals'] = {
  LIMIT: () => readCertificate(Buffer.alloc(8193)),
  TRAILING_DATA: () => readCertificate(Buffer.concat([certificate, Buffer.of(1)])),
  BAD_ENCODING: () => readCertificate(certifyEk(root, ek, { extensions: [nullExtension('2.5.29.19', true)] })),
}

const strange = certifyEk(root, ek, { spki: brainpool() })

const publicKeys: Provocations['refusals'] = {
  UNSUPPORTED_ALG: () => publicKeyOf(unwrap(readCertificate(strange))),
}

const ekCertificates: Provocations['refusals'] = {
  LIMIT: () => readEkCertificate(Buffer.alloc(8193)),
  TRAILING_DATA: () => readEkCertificate(Buffer.concat([certificate, Buffer.of(1)])),
  BAD_ENCODING: () => readEkCertificate(zero),
  UNSUPPORTED_ALG: () => readEkCertificate(strange),
  EKU: () => readEkCertificate(root.certificate),
  EK_CERTIFICATE: () => readEkCertificate(certifyEk(root, ek, { serial: zero })),
}

/** A path with these differences in its certificate, its intermediate and what is sent of it. */
async function path(
  leaf: Partial<Fields>,
  middle: Partial<Fields> & { kind?: Kind } = {},
  sent?: readonly Buffer[],
): Promise<Verdict<unknown>> {
  const between = makeCa(named('Intermediate'), middle, root)
  const first = unwrap(readCertificate(certifyEk(between, ek, leaf)))
  return validatePath(first, sent ?? [between.certificate], { anchors: [root.certificate], at: NOW })
}

const constraints = [basicConstraints(true), keyUsage(0x04), nameConstraints([], [directoryName(tpmName(INFINEON))])]
const over = new Date('2021-01-01T00:00:00Z')

/** The root allows no CA below the intermediate's. */
async function tooLong(): Promise<Verdict<unknown>> {
  const short = makeCa(named('Short'), { extensions: [basicConstraints(true, 0), keyUsage(0x04)] })
  const between = makeCa(named('Intermediate'), {}, short)
  const first = unwrap(readCertificate(certifyEk(between, ek)))
  return validatePath(first, [between.certificate], { anchors: [short.certificate], at: NOW })
}

const paths: Provocations['refusals'] = {
  LIMIT: () => path({}, {}, Array<Buffer>(9).fill(root.certificate)),
  BAD_ENCODING: () => path({}, {}, [zero]),
  TRAILING_DATA: () => path({}, {}, [Buffer.concat([root.certificate, Buffer.of(1)])]),
  BAD_CHAIN: () => path({}, {}, []),
  UNSUPPORTED_ALG: () => path({ hash: 'sha224' }),
  WEAK_HASH: () => path({ hash: 'sha1' }),
  WEAK_KEY: () => path({}, { kind: 'rsa-1024' }),
  CERT_EXPIRED: () => path({ notAfter: over }),
  UNKNOWN_CRITICAL_EXT: () => path({ extensions: [...EK_EXTENSIONS, nullExtension('1.2.3', true)] }),
  NOT_A_CA: () => path({}, { extensions: [] }),
  PATH_LEN: tooLong,
  NAME_CONSTRAINTS: () => path({}, { extensions: constraints }),
  REVOKED: () => listed([makeList(root, { revoked: [{ serial: Buffer.of(1) }] })]),
  NO_CRL: () => listed([]),
}

/** The root has revoked the certificate, or says nothing of it. */
async function listed(lists: readonly Buffer[]): Promise<Verdict<unknown>> {
  const first = unwrap(readCertificate(certificate))
  return validatePath(first, [], { anchors: [root.certificate], at: NOW, revocation: 'hard', lists })
}

const list = makeList(root)

const lists: Provocations['refusals'] = {
  LIMIT: () => readRevocationList(Buffer.alloc(8 * 1024 * 1024 + 1)),
  TRAILING_DATA: () => readRevocationList(plus(list)),
  BAD_ENCODING: () => readRevocationList(zero),
  UNKNOWN_CRITICAL_EXT: () => readRevocationList(makeList(root, { extensions: [nullExtension('1.2.3', true)] })),
}

const trust = { anchors: [root.certificate], at: NOW, allowTestTpms: false }
const verify = (bytes: Buffer, changes: Partial<EkRules> = {}) =>
  verifyEk({ certificate: bytes, public: ekArea }, { ...trust, ...changes })
const modulus = areaOf(ek).unique[0] ?? zero

const endorsements: Provocations['refusals'] = {
  NO_EK_CERT: () => verify(Buffer.alloc(0)),
  EK_TEMPLATE: () => verify(certificate, { ekTypes: [] }),
  EK_MISMATCH: () => verify(certifyEk(root, pairOf('P-256').publicKey)),
  WEAK_KEY: () => verify(certificate, { enrolledModuli: [Buffer.concat([modulus, zero]), primeOf('ek')] }),
  MAKER_MISMATCH: () => verify(certificate, { allowedMakers: ['id:414D4400'] }),
}

function primeOf(label: string): Buffer {
  return Buffer.from(pairOf('rsa-2048', label).privateKey.export({ format: 'jwk' }).p ?? '', 'base64url')
}

export const ofCertificates: Readonly<Record<string, Provocations>> = {
  readCertificate: { file: 'certs/certificate.ts', refusals: certificates },
  publicKeyOf: { file: 'certs/certificate.ts', refusals: publicKeys },
  readEkCertificate: { file: 'certs/ek_certificate.ts', refusals: ekCertificates },
  readRevocationList: { file: 'certs/crl.ts', refusals: lists },
  validatePath: { file: 'certs/path.ts', refusals: paths },
  verifyEk: { file: 'verify_ek.ts', refusals: endorsements },
}
