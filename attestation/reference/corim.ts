import { type KeyObject, verify } from 'node:crypto'
import { isBytes, isTagged, readCbor } from '../formats/cbor.ts'
import { type Sign1, sign1In, signedBytes } from '../formats/cose.ts'
import { type Bank, banks } from '../pcrs.ts'
import { hashes, PCRS } from '../tpm2/constants.ts'
import { accept, type Rejection, reject, type Verdict } from '../verdict.ts'

/** Reference values as others sign them: one set, as far as a Concise Reference Integrity Manifest says it in registers. */
export type Corim = {
  readonly id: string
  /** which of the keys signed it */
  readonly signer: string
  /** digests in hexadecimal, by bank and PCR */
  readonly pcrs: Readonly<Partial<Record<Bank, Readonly<Record<number, string>>>>>
  /** seconds since 1970 */
  readonly notBefore?: number
  readonly notAfter?: number
}
export type CorimKey = { readonly name: string; readonly key: KeyObject }

const tag = { TIME: 1, COSE_SIGN1: 18, UUID: 37, CORIM: 501, COMID: 506 } as const
/** Those of environments and entities are read over: a URI, an OID, a UEID and what identifies classes and instances. */
const readable = [...Object.values(tag), 32, 111, 550, 551, 560]
const limits = { bytes: 65_536, depth: 16, tags: readable }

/** Algorithms by their number and by their name in the registry (IANA, Named Information Hash Algorithm). */
const registered: ReadonlyMap<unknown, Bank> = new Map<unknown, Bank>([
  [1, 'sha256'],
  [7, 'sha384'],
  [8, 'sha512'],
  ['sha-256', 'sha256'],
  ['sha-384', 'sha384'],
  ['sha-512', 'sha512'],
])

/**
 * Reads a signed CoRIM (draft-ietf-rats-corim, COSE_Sign1 of RFC 9052 over tag 501) that holds one CoMID with one triple of reference
 * values, whose measurements are integrity registers: PCRs by their number, with digests by the algorithms of the named
 * information registry. What else a manifest can say would change what these values mean, so it is refused: other tags and
 * triples, dependent manifests, profiles, other measurements. The signature is judged before what is signed is looked at.
 * @param keys of those who may sign
 * @returns LIMIT, BAD_ENCODING, TRAILING_DATA, UNSUPPORTED_ALG, SIGNATURE or WEAK_BANK when refused
 */
export function verifyCorim(bytes: Uint8Array, keys: readonly CorimKey[]): Verdict<Corim> {
  const envelope = readEnvelope(bytes)
  if (!envelope.ok) return envelope
  const signer = signerOf(envelope.value, keys)
  if (!signer.ok) return signer
  const payload = readCbor(envelope.value.payload, limits)
  if (!payload.ok) return payload
  const manifest = isTagged(payload.value, tag.CORIM) ? mapOf(payload.value.value) : undefined
  if (manifest === undefined) return malformed('the payload is no CoRIM')
  return readManifest(manifest, signer.value)
}

type Envelope = Sign1 & { readonly algorithm: number }

const [ALGORITHM, CRITICAL, CONTENT_TYPE] = [1, 2, 3]

function readEnvelope(bytes: Uint8Array): Verdict<Envelope> {
  const read = readCbor(bytes, limits)
  if (!read.ok) return read
  const sign1 = isTagged(read.value, tag.COSE_SIGN1) ? sign1In(read.value.value) : undefined
  if (sign1 === undefined) return malformed('it is no COSE_Sign1 with its payload')
  const fields = readCbor(sign1.head, limits)
  if (!fields.ok) return fields
  const map = mapOf(fields.value)
  if (map === undefined || map.has(CRITICAL))
    return malformed('the protected head is no map, or wants something that is not known')
  if (map.get(CONTENT_TYPE) !== 'application/rim+cbor') return malformed('the content type is not application/rim+cbor')
  const algorithm = map.get(ALGORITHM)
  return typeof algorithm === 'number' ? accept({ ...sign1, algorithm }) : malformed('no algorithm is named')
}

type Algorithm = { readonly type: string; readonly curve?: string; readonly hash?: string; readonly size: number }

/** COSE algorithms, by the number that leaves the curve to the key and by the one that names it (RFC 9053, RFC 9864). */
const algorithms = new Map<number, Algorithm>([
  ...[-7, -9].map(id => [id, { type: 'ec', curve: 'prime256v1', hash: 'sha256', size: 64 }] as const),
  ...[-35, -51].map(id => [id, { type: 'ec', curve: 'secp384r1', hash: 'sha384', size: 96 }] as const),
  ...[-8, -19].map(id => [id, { type: 'ed25519', size: 64 }] as const),
])

/** The key says what may be verified with it; the message only has to agree. */
function signerOf(envelope: Envelope, keys: readonly CorimKey[]): Verdict<string> {
  const { algorithm, signature } = envelope
  const wanted = algorithms.get(algorithm)
  if (wanted === undefined) return reject('UNSUPPORTED_ALG', `COSE algorithm ${algorithm}`)
  const signed = signedBytes(envelope)
  const fitting = keys.filter(({ key }) => fits(key, wanted))
  const signer = fitting.find(
    ({ key }) =>
      signature.length === wanted.size && verify(wanted.hash ?? null, signed, { key, dsaEncoding: 'ieee-p1363' }, signature),
  )
  return signer ? accept(signer.name) : reject('SIGNATURE', `none of ${fitting.length} keys of this kind signed it`)
}

function fits(key: KeyObject, { type, curve }: Algorithm): boolean {
  return key.asymmetricKeyType === type && key.asymmetricKeyDetails?.namedCurve === curve
}

const manifest = { id: 0, tags: 1, validity: 4, entities: 5 } as const

function readManifest(map: Fields, signer: string): Verdict<Corim> {
  const strange = [...map.keys()].find(key => !(Object.values(manifest) as unknown[]).includes(key))
  if (strange !== undefined) return malformed('the CoRIM has a member that is not taken')
  const [id, tags, validity] = [idOf(map.get(manifest.id)), map.get(manifest.tags), validityOf(map.get(manifest.validity))]
  if (id === undefined) return malformed('the CoRIM has no id')
  if (validity === undefined) return malformed('the validity of the CoRIM is none')
  const [only, ...others] = Array.isArray(tags) ? (tags as unknown[]) : []
  if (others.length > 0 || !isTagged(only, tag.COMID) || !isBytes(only.value))
    return malformed('the CoRIM holds not exactly one CoMID')
  const comid = readCbor(only.value, limits)
  if (!comid.ok) return comid
  const pcrs = pcrsOf(mapOf(comid.value))
  return pcrs.ok ? accept({ id, signer, pcrs: pcrs.value, ...validity }) : pcrs
}

type Fields = ReadonlyMap<unknown, unknown>

function idOf(value: unknown): string | undefined {
  if (typeof value === 'string') return /^[ -~]{1,128}$/.test(value) ? value : undefined
  const uuid = isTagged(value, tag.UUID) ? value.value : value
  return isBytes(uuid) && uuid.length === 16 ? Buffer.from(uuid).toString('hex') : undefined
}

/** validity-map: not-before may be there, not-after is. */
function validityOf(value: unknown): Pick<Corim, 'notBefore' | 'notAfter'> | undefined {
  if (value === undefined) return {}
  const map = mapOf(value)
  const [from, until] = [secondsOf(map?.get(0)), secondsOf(map?.get(1))]
  const whole =
    map !== undefined && until !== undefined && map.size === (map.has(0) ? 2 : 1) && map.has(0) === (from !== undefined)
  return whole ? { ...(from !== undefined && { notBefore: from }), notAfter: until } : undefined
}

/** Until the year 9999. */
const LATEST = 253_402_300_799

function secondsOf(value: unknown): number | undefined {
  const seconds = isTagged(value, tag.TIME) ? value.value : value
  const fine = typeof seconds === 'number' && Number.isInteger(seconds) && seconds >= 0 && seconds <= LATEST
  return fine ? seconds : undefined
}

const comid = { language: 0, identity: 1, entities: 2, triples: 4 } as const
const REFERENCE_TRIPLES = 0

function pcrsOf(map: Fields | undefined): Verdict<Corim['pcrs']> {
  const strange = map && [...map.keys()].find(key => !(Object.values(comid) as unknown[]).includes(key))
  if (map === undefined || strange !== undefined) return malformed('the CoMID is no map, or has a member that is not known')
  const triples = mapOf(map.get(comid.triples))
  const [triple, ...others]: readonly unknown[] = listOf(triples?.get(REFERENCE_TRIPLES))
  if (triples?.size !== 1 || others.length > 0) return malformed('the CoMID has not exactly one triple, of reference values')
  const [environment, measurements, ...rest] = listOf(triple)
  // one measurement may stand alone
  const each = Array.isArray(measurements) ? (measurements as unknown[]) : [measurements]
  if (mapOf(environment) === undefined || rest.length > 0) return malformed('the triple is not one')
  return registersOf(each)
}

const [KEY, VALUES, NAME, REGISTERS] = [0, 1, 11, 14]

function registersOf(measurements: readonly unknown[]): Verdict<Corim['pcrs']> {
  const pcrs: { [bank in Bank]?: Record<number, string> } = {}
  const seen = new Set<number>()
  for (const measurement of measurements) {
    const [map, values] = [mapOf(measurement), mapOf(mapOf(measurement)?.get(VALUES))]
    const registers = mapOf(values?.get(REGISTERS))
    const alone = map?.size === 1 + Number(map?.has(KEY)) && values?.size === 1 + Number(values?.has(NAME))
    if (registers === undefined || !alone) return malformed('a measurement is not one of integrity registers')
    for (const [pcr, digests] of registers) {
      if (typeof pcr !== 'number' || !Number.isInteger(pcr) || pcr < 0 || pcr >= PCRS) return malformed('a register is no PCR')
      if (seen.has(pcr)) return malformed(`PCR ${pcr} is there twice`)
      seen.add(pcr)
      const fault = takeDigests(pcrs, pcr, listOf(digests))
      if (fault !== undefined) return fault
    }
  }
  return seen.size > 0 ? accept(pcrs) : malformed('no PCR has a value')
}

/** Digests of an algorithm that no quote of ours is over are passed over, if there are others. */
function takeDigests(
  pcrs: { [bank in Bank]?: Record<number, string> },
  pcr: number,
  digests: readonly unknown[],
): Rejection | undefined {
  let taken = 0
  for (const digest of digests) {
    const [algorithm, value, ...rest] = listOf(digest)
    if (!isBytes(value) || rest.length > 0 || !['number', 'string'].includes(typeof algorithm))
      return malformed(`a digest of PCR ${pcr} is none`)
    const bank = registered.get(algorithm)
    if (bank === undefined) continue
    if (value.length !== hashes[bank].size) return malformed(`a digest of PCR ${pcr} is not one of ${bank}`)
    const of = pcrs[bank] ?? {}
    pcrs[bank] = of
    if (Object.hasOwn(of, pcr)) return malformed(`PCR ${pcr} has two digests of ${bank}`)
    of[pcr] = Buffer.from(value).toString('hex')
    taken += 1
  }
  return taken > 0 ? undefined : reject('WEAK_BANK', `PCR ${pcr} has a digest of none of ${banks.join(', ')}`)
}

function malformed(detail: string): Rejection {
  return reject('BAD_ENCODING', detail)
}

const mapOf = (value: unknown): Fields | undefined => (value instanceof Map ? value : undefined)
const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : [])
