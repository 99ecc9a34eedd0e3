import { verify } from 'node:crypto'
import { type Certificate, isCa, publicKeyOf, readCertificate, usage, usageIn } from '../certs/certificate.ts'
import { validatePath } from '../certs/path.ts'
import type { PcrTable } from '../pcr_table.ts'
import { matchReferences } from '../pcrs.ts'
import { sameBytes } from '../same_bytes.ts'
import { accept, type Rejection, reject, type Verdict } from '../verdict.ts'
import { isBytes, readCbor } from './cbor.ts'
import { type Sign1, sign1In, signedBytes } from './cose.ts'
import type { DocumentClaims, ExpectedDocument, Format } from './format.ts'

/** AWS Nitro Enclaves: documents of the Nitro hypervisor on what runs in an enclave. */
export const awsNitro: Format = {
  name: 'aws-nitro',
  title: 'attestation documents of AWS Nitro Enclaves',
  document: verifyNitroDocument,
}

/** The largest document is of about 5 KB; maps and arrays are nested two deep in its payload. */
const limits = { bytes: 16_384, depth: 4 }
const ES384 = -35
const ALGORITHM = 1
const SIGNATURE_BYTES = 96

/**
 * Judges an attestation document (AWS Nitro Enclaves, Verifying the root of trust; RFC 9052, COSE_Sign1). The checks, in order:
 * the envelope and its algorithm; the form of the payload; which kind of machine it is of; the path from its certificate to a
 * pinned root; the signature; whether it answers this challenge; its age; whether others may look into the enclave; its PCRs.
 * @returns LIMIT, BAD_ENCODING, TRAILING_DATA, UNSUPPORTED_ALG, KIND, SIGNATURE, NONCE_MISMATCH, STALE_DOCUMENT or DEBUG when refused, and
 *   what `validatePath` and `matchReferences` return
 */
export async function verifyNitroDocument(document: Uint8Array, expected: ExpectedDocument): Promise<Verdict<DocumentClaims>> {
  const envelope = readEnvelope(document)
  if (!envelope.ok) return envelope
  const payload = readPayload(envelope.value.payload)
  if (!payload.ok) return payload
  const { certificate, bundle, pcrs, nonce, timestamp } = payload.value
  const path = await validatePath(certificate, bundle, expected)
  if (!path.ok) return path
  const fault =
    wrongSigner(certificate) ??
    wrongSignature(envelope.value, certificate) ??
    wrongBinding(nonce, expected) ??
    wrongAge(timestamp, expected) ??
    openToOthers(pcrs, expected)
  if (fault !== undefined) return fault
  const table: PcrTable = new Map([['sha384', pcrs]])
  const references = matchReferences(table, { references: expected.references, allowReset: true })
  return references.ok ? accept(claimsOf(payload.value, table, references.value)) : references
}

/** The algorithm is protected and ES384, and nothing else is in either head. */
function readEnvelope(document: Uint8Array): Verdict<Sign1> {
  const read = readCbor(document, limits)
  if (!read.ok) return read
  const envelope = sign1In(read.value)
  if (envelope === undefined) return reject('BAD_ENCODING', 'it is no COSE_Sign1')
  const protectedHead = readCbor(envelope.head, limits)
  if (!protectedHead.ok) return protectedHead
  if (!(protectedHead.value instanceof Map)) return reject('BAD_ENCODING', 'the protected head is no map')
  if (envelope.open.size > 0) return reject('UNSUPPORTED_ALG', 'something is in the unprotected head')
  if (protectedHead.value.size !== 1 || protectedHead.value.get(ALGORITHM) !== ES384)
    return reject('UNSUPPORTED_ALG', 'the protected head is not that of ES384')
  return accept(envelope)
}

type Payload = {
  readonly moduleId: string
  readonly timestamp: number
  readonly pcrs: ReadonlyMap<number, Buffer>
  readonly certificate: Certificate
  readonly bundle: readonly Uint8Array[]
  readonly nonce: Uint8Array | undefined
  readonly publicKey: Uint8Array | undefined
  readonly userData: Uint8Array | undefined
}

const members = ['module_id', 'digest', 'timestamp', 'pcrs', 'certificate', 'cabundle', 'public_key', 'user_data', 'nonce']
const SHA384_BYTES = 48
/** the last moment that a Date knows */
const LATEST_MS = 8.64e15
const most = { pcrs: 32, certificates: 8, bytes: 1024 }

function readPayload(bytes: Uint8Array): Verdict<Payload> {
  const read = readCbor(bytes, limits)
  if (!read.ok) return read
  if (!(read.value instanceof Map)) return reject('BAD_ENCODING', 'the payload is no map')
  const at = read.value as ReadonlyMap<unknown, unknown>
  if (at.has('nitrotpm_pcrs')) return reject('KIND', 'the document is of a NitroTPM, not of an enclave')
  const unknown = [...at.keys()].find(name => typeof name !== 'string' || !members.includes(name))
  if (unknown !== undefined)
    return reject(
      'BAD_ENCODING',
      `the payload has a member ${typeof unknown === 'string' ? unknown.slice(0, 32) : 'whose name is no text'}`,
    )
  const [moduleId, timestamp] = [at.get('module_id'), at.get('timestamp')]
  if (typeof moduleId !== 'string' || !/^[A-Za-z0-9-]{1,128}$/.test(moduleId))
    return reject('BAD_ENCODING', 'module_id is not one')
  if (at.get('digest') !== 'SHA384') return reject('UNSUPPORTED_ALG', 'the digest is not SHA384')
  if (typeof timestamp !== 'number' || !Number.isSafeInteger(timestamp) || timestamp <= 0 || timestamp > LATEST_MS)
    return reject('BAD_ENCODING', 'timestamp is not one')
  return readRest(at, { moduleId, timestamp })
}

function readRest(at: ReadonlyMap<unknown, unknown>, head: Pick<Payload, 'moduleId' | 'timestamp'>): Verdict<Payload> {
  const pcrs = pcrsIn(at.get('pcrs'))
  if (pcrs === undefined) return reject('BAD_ENCODING', 'pcrs are not SHA-384 digests by index')
  const bundle = at.get('cabundle')
  if (!isBundle(bundle)) return reject('BAD_ENCODING', 'cabundle is no list of certificates')
  const [publicKey, userData, nonce] = ['public_key', 'user_data', 'nonce'].map(name => at.get(name) ?? undefined)
  if (![publicKey, userData, nonce].every(isOptional)) return reject('BAD_ENCODING', 'what the enclave gave is not bytes')
  const leaf = at.get('certificate')
  const certificate = isBytes(leaf) ? readCertificate(leaf) : reject('BAD_ENCODING', 'certificate is not bytes')
  if (!certificate.ok) return certificate
  const given = { publicKey, userData, nonce } as Pick<Payload, 'publicKey' | 'userData' | 'nonce'>
  return accept({ ...head, ...given, pcrs, bundle, certificate: certificate.value })
}

function pcrsIn(value: unknown): ReadonlyMap<number, Buffer> | undefined {
  if (!(value instanceof Map) || value.size === 0) return undefined
  const pcrs = new Map<number, Buffer>()
  for (const [index, digest] of value as ReadonlyMap<unknown, unknown>) {
    const fine = typeof index === 'number' && Number.isInteger(index) && index >= 0 && index < most.pcrs
    if (!fine || !isBytes(digest) || digest.length !== SHA384_BYTES) return undefined
    pcrs.set(index, Buffer.from(digest))
  }
  return pcrs
}

const isOptional = (value: unknown) => value === undefined || (isBytes(value) && value.length <= most.bytes)
const isBundle = (value: unknown): value is Uint8Array[] =>
  Array.isArray(value) && value.length > 0 && value.length <= most.certificates && value.every(isBytes)

/** The certificate is made for signing, and is that of no CA. */
function wrongSigner(certificate: Certificate): Rejection | undefined {
  const signs = ((usageIn(certificate) ?? 0) & usage.digitalSignature) !== 0
  return signs && !isCa(certificate) ? undefined : reject('BAD_CHAIN', 'the certificate is not one for signing')
}

/** With r and s side by side. */
function wrongSignature(envelope: Sign1, certificate: Certificate): Rejection | undefined {
  const { signature } = envelope
  const key = publicKeyOf(certificate)
  if (!key.ok) return key
  if (key.value.asymmetricKeyDetails?.namedCurve !== 'secp384r1') return reject('UNSUPPORTED_ALG', 'the key is not on P-384')
  if (signature.length !== SIGNATURE_BYTES) return reject('BAD_ENCODING', `a signature of ${signature.length} bytes`)
  const fine = verify('sha384', signedBytes(envelope), { key: key.value, dsaEncoding: 'ieee-p1363' }, signature)
  return fine ? undefined : reject('SIGNATURE', 'the signature is not of the certificate over this document')
}

function wrongBinding(nonce: Uint8Array | undefined, { binding }: ExpectedDocument): Rejection | undefined {
  if (nonce === undefined) return reject('NONCE_MISMATCH', 'the document carries no nonce')
  return sameBytes(nonce, binding) ? undefined : reject('NONCE_MISMATCH', 'the nonce is not the expected digest')
}

/** Clocks of both sides may differ by a little. */
const SKEW_MS = 60_000

function wrongAge(timestamp: number, { at, maxAgeSeconds }: ExpectedDocument): Rejection | undefined {
  const ageMs = at.getTime() - timestamp
  return ageMs > maxAgeSeconds * 1000 + SKEW_MS || ageMs < -SKEW_MS
    ? reject('STALE_DOCUMENT', `made at ${new Date(timestamp).toISOString()}, read at ${at.toISOString()}`)
    : undefined
}

/** PCR 0 to 2 are the image: in debug mode, where the console can be read, they are zero. */
function openToOthers(pcrs: ReadonlyMap<number, Buffer>, { allowDebug }: ExpectedDocument): Rejection | undefined {
  const hidden = emptyOf(pcrs)
  if (hidden === undefined || allowDebug) return undefined
  return reject('DEBUG', `PCR ${hidden} says nothing of what runs: the enclave is in debug mode`)
}

const emptyOf = (pcrs: ReadonlyMap<number, Buffer>) =>
  [0, 1, 2].find(index => pcrs.get(index)?.every(byte => byte === 0) !== false)

function claimsOf(
  { moduleId, timestamp, publicKey, userData, pcrs: values }: Payload,
  pcrs: PcrTable,
  references: readonly string[],
): DocumentClaims {
  return {
    machine: moduleId.toLowerCase(),
    madeAt: new Date(timestamp),
    pcrs,
    debug: emptyOf(values) !== undefined,
    references,
    ...(publicKey && { publicKey: Buffer.from(publicKey) }),
    ...(userData && { userData: Buffer.from(userData) }),
  }
}
