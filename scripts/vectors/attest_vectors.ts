import { type KeyObject, X509Certificate } from 'node:crypto'
import {
  type AttestationKey,
  accept,
  admitAk,
  alg,
  authenticate,
  type Bank,
  type Hash,
  hashes,
  hashOf,
  parseQuote,
  type Quote,
  reject,
  type SignatureScheme,
  spkiOf,
  type Verdict,
  verifyQuote,
  Writer,
} from '#attestation'
import { akAreaOf, keyOf, plain } from './areas.ts'
import { bytesIn, type Case, challengeIn, expectationOf, type Fields, idOf, isFields, outcome, Unusable } from './case.ts'
import { WINDOWS_POLICY } from './creations.ts'
import { isBank, pcrsIn, referencesOf, tableText } from './pcr_values.ts'

/** What a TPM signed, as others have published it: judged as a quote, whatever it is. */
export function attestVector(record: Fields, place: string): Case {
  const given: Fields = Object.fromEntries(Object.entries(record).filter(([, value]) => value !== null))
  return { id: idOf(record, place), expected: expectationOf(record), judge: () => judge(given) }
}

function judge(record: Fields): string {
  const attest = bytesIn(record, 'attest_hex')
  const ak = keyIn(record)
  if (ak === undefined) return withoutKey(record, attest)
  if (!ak.ok) return ak.code
  const quote = parseQuote(attest)
  const signature = signatureIn(record)
  if (!signature.ok) return signature.code
  const evidence = { attest, signature: signature.value }
  const expected = { ak: ak.value, qualifyingData: nonceIn(record, quote) }
  const signed = authenticate(evidence, expected)
  if (!signed.ok) return signed.code
  if (!isKeyOfAll(record, ak.value)) return 'SIGNATURE'
  const { selection, pcrs } = { selection: askedOf(signed.value), pcrs: record.pcrs }
  if (Object.keys(selection).length === 0) return 'WEAK_BANK'
  if (pcrs === undefined || (isFields(pcrs) && Object.keys(pcrs).length === 0)) return 'OK'
  // a set has no reference values and no state from before: that the values are those that were signed is all there is to see
  const rules = { selection, references: [referencesOf(pcrs)], allowReset: true, obfuscated: true, allowUnsafe: true }
  return outcome(verifyQuote({ ...evidence, pcrs: tableText(pcrs) }, { ...expected, ...rules }))
}

/** Where the key is not known, a signature is that of nobody. */
function withoutKey(record: Fields, attest: Buffer): string {
  const quote = parseQuote(attest)
  if (!quote.ok) return quote.code
  const signature = signatureIn(record)
  if (!signature.ok) return signature.code
  return hashIn(signature.value) === 'sha1' ? 'WEAK_HASH' : 'AK_NOT_ENROLLED'
}

/** TPMT_SIGNATURE.signature.any.hashAlg */
function hashIn(signature: Buffer): Hash | undefined {
  return signature.length < 4 ? undefined : hashOf(signature.readUInt16BE(2))
}

/** Without a challenge the nonce is not under test. */
function nonceIn(record: Fields, quote: Verdict<Quote>): Buffer {
  if (record.expected_nonce_hex !== undefined) return challengeIn(record, 'expected_nonce_hex')
  return quote.ok ? quote.value.extraData : Buffer.alloc(0)
}

/** What was quoted is what was asked for, but for SHA-1, which nobody asks for. */
function askedOf({ selection }: Quote): Partial<Record<Bank, number[]>> {
  const asked: Partial<Record<Bank, number[]>> = {}
  for (const one of selection) if (isBank(one.bank) && one.mask !== 0) asked[one.bank] = pcrsIn(one)
  return asked
}

/** The public area, or one made for a key that is known by itself or from a certificate. */
function keyIn(record: Fields): Verdict<AttestationKey> | undefined {
  if (record.ak_tpmt_public_hex !== undefined)
    return admitAk(bytesIn(record, 'ak_tpmt_public_hex'), { authPolicies: [WINDOWS_POLICY] })
  const [key] = bareKeys(record)
  if (key === undefined) return undefined
  const scheme = schemeIn(record, key)
  return scheme.ok ? admitAk(akAreaOf(key, ...scheme.value)) : scheme
}

/** A set may name the key in several ways: then all of them are of one key, or it is not the one. */
function isKeyOfAll(record: Fields, { public: area }: AttestationKey): boolean {
  return bareKeys(record).every(key => key.export({ type: 'spki', format: 'der' }).equals(spkiOf(area)))
}

function bareKeys({ ak_spki_pem: spki, ak_cert_pem: certificate }: Fields): KeyObject[] {
  const keys = typeof spki === 'string' ? [keyOf(spki)] : []
  return typeof certificate === 'string' ? [...keys, keyOfCertificate(certificate)] : keys
}

function keyOfCertificate(pem: string): KeyObject {
  try {
    return plain(new X509Certificate(pem).publicKey)
  } catch {
    throw new Unusable('ak_cert_pem cannot be read')
  }
}

const schemes: Readonly<Record<string, SignatureScheme>> = { rsassa: 'RSASSA', rsapss: 'RSAPSS', ecdsa: 'ECDSA' }

/** What the set says of the key, as a bare one has no scheme of its own; else what is usual for its kind, with the hash of the signature. */
function schemeIn(record: Fields, key?: KeyObject): Verdict<[SignatureScheme, Hash]> {
  const usual = key?.asymmetricKeyType === 'ec' ? 'ecdsa' : 'rsassa'
  const { sig_alg: algorithm = usual, sig_hash: hash = usualHash(record) } = record
  const scheme = schemes[String(algorithm).toLowerCase()]
  const name = String(hash).toLowerCase()
  if (scheme === undefined || !Object.hasOwn(hashes, name))
    return reject('UNSUPPORTED_ALG', `${String(algorithm)} with ${String(hash)}`)
  return accept([scheme, name as Hash])
}

function usualHash({ tpmt_signature_hex: signature }: Fields): Hash | undefined {
  return typeof signature === 'string' ? hashIn(Buffer.from(signature, 'hex')) : undefined
}

/** TPMT_SIGNATURE, made of the bare signature where there is nothing else: of RSA its bytes, of ECDSA the DER of r and s. */
function signatureIn(record: Fields): Verdict<Buffer> {
  if (record.tpmt_signature_hex !== undefined) return accept(bytesIn(record, 'tpmt_signature_hex'))
  const raw = bytesIn(record, 'signature_raw_hex')
  const named = schemeIn(record, bareKeys(record)[0])
  if (!named.ok) return named
  const [scheme, hash] = named.value
  const head = new Writer().u16(alg[scheme]).u16(hashes[hash].id)
  if (scheme !== 'ECDSA') return accept(head.sized(raw).done())
  const pair = integersIn(raw)
  if (pair === undefined) return reject('BAD_ENCODING', 'the signature is not the DER of two numbers')
  return accept(head.sized(pair[0]).sized(pair[1]).done())
}

function integersIn(der: Buffer): readonly [Buffer, Buffer] | undefined {
  const r = der.subarray(4, 4 + (der[3] ?? 0))
  const s = der.subarray(6 + r.length)
  const whole = der[0] === 0x30 && der[2] === 0x02 && der[4 + r.length] === 0x02 && der[5 + r.length] === s.length
  return whole ? [withoutSign(r), withoutSign(s)] : undefined
}

function withoutSign(integer: Buffer): Buffer {
  return integer[0] === 0 ? integer.subarray(1) : integer
}
