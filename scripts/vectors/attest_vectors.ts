import { createHash, type KeyObject, X509Certificate } from 'node:crypto'
import {
  type AttestationKey,
  admitAk,
  alg,
  authenticate,
  type Bank,
  type Hash,
  hashes,
  parseQuote,
  type Quote,
  type SignatureScheme,
  type Verdict,
  verifyQuote,
  Writer,
} from '#attestation'
import { akAreaOf, keyOf } from './areas.ts'
import { bytesIn, type Case, expectationOf, type Fields, idOf, outcome, Unusable } from './case.ts'
import { isBank, referencesOf, tableText } from './pcr_values.ts'

/** What a TPM signed, as others have published it: judged as a quote, whatever it is. */
export function attestVector(record: Fields, place: string): Case {
  return { id: idOf(record, place), expected: expectationOf(record), judge: () => judge(record) }
}

function judge(record: Fields): string {
  const attest = bytesIn(record, 'attest_hex')
  const ak = keyIn(record)
  if (ak === undefined) return withoutKey(record, attest)
  if (!ak.ok) return ak.code
  const quote = parseQuote(attest)
  const evidence = { attest, signature: signatureIn(record) }
  const expected = { ak: ak.value, qualifyingData: nonceIn(record, quote) }
  const signed = authenticate(evidence, expected)
  if (!signed.ok) return signed.code
  const { selection, pcrs } = { selection: askedOf(signed.value), pcrs: record.pcrs }
  if (Object.keys(selection).length === 0) return 'WEAK_BANK'
  if (pcrs === undefined) return 'OK'
  // a set has no reference values and no state from before: that the values are those that were signed is all there is to see
  const rules = { selection, references: [referencesOf(pcrs)], allowReset: true, obfuscated: true, allowUnsafeAfterReset: true }
  return outcome(verifyQuote({ ...evidence, pcrs: tableText(pcrs) }, { ...expected, ...rules }))
}

/** Where the key is not known, a signature is that of nobody. */
function withoutKey(record: Fields, attest: Buffer): string {
  const quote = parseQuote(attest)
  if (!quote.ok) return quote.code
  return signatureIn(record).subarray(2, 4).equals(SHA1) ? 'WEAK_HASH' : 'AK_NOT_ENROLLED'
}

/** TPMT_SIGNATURE.signature.any.hashAlg */
const SHA1 = new Writer().u16(alg.SHA1).done()

/** An empty challenge is none: it is answered like one that was made for something else. Without one the nonce is not under test. */
function nonceIn(record: Fields, quote: Verdict<Quote>): Buffer {
  if (record.expected_nonce_hex === undefined) return quote.ok ? quote.value.extraData : Buffer.alloc(0)
  const nonce = bytesIn(record, 'expected_nonce_hex')
  return nonce.length > 0 ? nonce : createHash('sha256').update('a challenge that nobody has seen').digest()
}

/** What was quoted is what was asked for, but for SHA-1, which nobody asks for. */
function askedOf({ selection }: Quote): Partial<Record<Bank, number[]>> {
  const asked: Partial<Record<Bank, number[]>> = {}
  for (const { bank, mask } of selection)
    if (isBank(bank) && mask !== 0) asked[bank] = Array.from({ length: 24 }, (_, pcr) => pcr).filter(pcr => (mask >> pcr) & 1)
  return asked
}

/** The public area, or one made for a key that is known by itself or from a certificate. */
function keyIn(record: Fields): Verdict<AttestationKey> | undefined {
  if (record.ak_tpmt_public_hex !== undefined) return admitAk(bytesIn(record, 'ak_tpmt_public_hex'))
  const key = bareKey(record)
  if (key === undefined) return undefined
  const [scheme, hash] = schemeIn(record)
  return admitAk(akAreaOf(key, scheme, hash))
}

function bareKey({ ak_spki_pem: spki, ak_cert_pem: certificate }: Fields): KeyObject | undefined {
  if (typeof spki === 'string') return keyOf(spki)
  if (typeof certificate !== 'string') return undefined
  try {
    return new X509Certificate(certificate).publicKey
  } catch {
    throw new Unusable('ak_cert_pem cannot be read')
  }
}

const schemes: Readonly<Record<string, SignatureScheme>> = { rsassa: 'RSASSA', rsapss: 'RSAPSS', ecdsa: 'ECDSA' }

/** What the set says of the key: a bare one has no scheme of its own. */
function schemeIn({ sig_alg: algorithm, sig_hash: hash }: Fields): [SignatureScheme, Hash] {
  const scheme = schemes[String(algorithm)]
  if (scheme === undefined || !Object.hasOwn(hashes, String(hash)))
    throw new Unusable('sig_alg and sig_hash do not name a scheme')
  return [scheme, hash as Hash]
}

/** TPMT_SIGNATURE, made of the bare signature where there is nothing else: of RSA its bytes, of ECDSA the DER of r and s. */
function signatureIn(record: Fields): Buffer {
  if (record.tpmt_signature_hex !== undefined) return bytesIn(record, 'tpmt_signature_hex')
  const [scheme, hash] = schemeIn(record)
  const raw = bytesIn(record, 'signature_raw_hex')
  const head = new Writer().u16(alg[scheme]).u16(hashes[hash].id)
  if (scheme !== 'ECDSA') return head.sized(raw).done()
  const [r, s] = integersIn(raw)
  return head.sized(r).sized(s).done()
}

function integersIn(der: Buffer): [Buffer, Buffer] {
  const r = der.subarray(4, 4 + (der[3] ?? 0))
  const s = der.subarray(6 + r.length)
  const whole = der[0] === 0x30 && der[2] === 0x02 && der[4 + r.length] === 0x02 && der[5 + r.length] === s.length
  if (!whole) throw new Unusable('signature_raw_hex is not the DER of two numbers')
  return [r, s].map(value => (value[0] === 0 ? value.subarray(1) : value)) as [Buffer, Buffer]
}
