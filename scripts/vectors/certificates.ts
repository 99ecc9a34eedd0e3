import { X509Certificate } from 'node:crypto'
import { basename } from 'node:path'
import {
  type EkRules,
  isCertificate,
  publicKeyOf,
  readCertificate,
  readEkCertificate,
  validatePath,
  verifyEk,
} from '#attestation'
import { ekAreaOf } from './areas.ts'
import { type Case, expectationOf, type Fields, fileIn, idOf, listIn, outcome, textIn, Unusable } from './case.ts'

/** A path to the anchor of the set, at a time of the set. */
export function chain(folder: string, record: Fields, place: string): Case {
  return { id: idOf(record, place), expected: expectationOf(record), judge: () => judgeChain(folder, record) }
}

/** The path by itself, then whether the first of it certifies an endorsement key. */
async function judgeChain(folder: string, record: Fields): Promise<string> {
  const [leaf, ...intermediates] = listIn(record, 'chain').map(file => fileIn(folder, file))
  if (leaf === undefined) throw new Unusable('chain is empty')
  const at = timeIn(record)
  const anchor = fileIn(folder, record.trustAnchor)
  if (!readCertificate(anchor).ok) throw new Unusable('trustAnchor is no certificate')
  const anchors = [anchor]
  const read = readCertificate(leaf)
  if (!read.ok) return read.code
  const path = await validatePath(read.value, intermediates, { anchors, at })
  return path.ok ? judgeEk(leaf, intermediates, { anchors, at, allowTestTpms: false }) : path.code
}

function timeIn(record: Fields): Date {
  const at = new Date(textIn(record, 'verifyAt'))
  if (Number.isNaN(at.getTime())) throw new Unusable('verifyAt is no date')
  return at
}

/** The roots and intermediates of makers, and the time at which certificates are judged that have none of their own. */
export type Makers = { readonly roots: readonly Buffer[]; readonly intermediates: readonly Buffer[]; readonly at: Date }

/** A certificate of a real TPM, or of something else. */
export function ekCertificate(folder: string, record: Fields, makers: Makers): Case {
  const name = typeof record.file === 'string' ? basename(record.file, '.der') : 'a certificate'
  const at = () => (record.verifyAt === undefined ? makers.at : timeIn(record))
  const judge = () => judgeAlone(fileIn(folder, record.file), { ...makers, at: at() })
  return { id: idOf(record, name), expected: expectationOf(record), judge }
}

/** A CA of a maker: whether it leads to a root. */
export function authority(id: string, der: Buffer, makers: Makers): Case {
  return { id, expected: expectationOf({}), judge: () => judgeAuthority(der, makers) }
}

async function judgeAuthority(der: Buffer, { roots, intermediates, at }: Makers): Promise<string> {
  const read = readCertificate(der)
  if (!read.ok) return read.code
  return outcome(await validatePath(read.value, issuersOf(der, intermediates), { anchors: roots, at }))
}

/** Where no roots are at hand, the certificate is judged by itself. */
async function judgeAlone(bytes: Buffer, { roots, intermediates, at }: Makers): Promise<string> {
  if (roots.length === 0) return outcome(readEkCertificate(bytes))
  return judgeEk(bytes, issuersOf(bytes, intermediates), { anchors: roots, at, allowTestTpms: false })
}

/** As it is offered at enrolment, with a public area by the TCG's template for the key in it. */
async function judgeEk(certificate: Buffer, intermediates: readonly Buffer[], rules: EkRules): Promise<string> {
  const read = readCertificate(certificate)
  if (!read.ok) return read.code
  const key = publicKeyOf(read.value)
  if (!key.ok) return key.code
  return outcome(await verifyEk({ certificate, public: ekAreaOf(key.value), intermediates }, rules))
}

/** Those above it by name, up to a root: a machine would send them along. */
function issuersOf(bytes: Buffer, intermediates: readonly Buffer[]): Buffer[] {
  const read = readCertificate(bytes)
  const issuers: Buffer[] = []
  let names = read.ok ? [read.value.x509.issuer] : []
  for (let step = 0; step < 4 && names.length > 0; step += 1) {
    const above = intermediates.filter(der => names.includes(subjectOf(der)) && !issuers.includes(der))
    issuers.push(...above)
    names = above.map(der => new X509Certificate(der).issuer)
  }
  return issuers
}

const subjects = new WeakMap<Buffer, string>()

function subjectOf(der: Buffer): string {
  const subject = subjects.get(der) ?? new X509Certificate(der).subject
  subjects.set(der, subject)
  return subject
}

/** The certificates of a bundle in PEM, but for what is none. */
export function certificatesIn(pem: string): Buffer[] {
  const found = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
  const ders = found.map(one => Buffer.from(one.split('-----')[2] ?? '', 'base64'))
  return ders.filter(isCertificate)
}
