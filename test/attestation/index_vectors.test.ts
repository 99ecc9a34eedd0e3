import { createPublicKey } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import {
  type AttestationKey,
  admitAk,
  alg,
  authenticate,
  type Bank,
  type Expected,
  type Hash,
  hashes,
  parseQuote,
  qualifiedNameOf,
  type ReferenceValues,
  type SignatureScheme,
  verifyQuote,
  Writer,
} from '#attestation'
import { verifySignature } from '../../attestation/tpm2/signature.ts'
import { AK_ATTRIBUTES, areaOf, encodeArea, makeAk, outcome, unwrap } from './attester.ts'
import { counted, present, readJson, unhex } from './vectors.ts'

type Entry = {
  readonly id: string
  readonly file: string
  readonly kind: string
  readonly alg: string
  readonly bank: string
  readonly expected: string
}
type Vector = {
  readonly attest_hex: string
  readonly attest_decoded: { extraData: string; pcrSelect?: { hash: string; pcrs: number[] }[] }
  readonly tpmt_signature_hex?: string
  readonly signature_raw_hex?: string
  readonly ak_tpmt_public_hex?: string
  readonly ak_spki_pem?: string
  readonly pcrs?: Readonly<Record<string, Readonly<Record<string, string>>>>
  readonly expected_nonce_hex?: string
}

const { quotes_and_certifies: entries } = readJson<{ quotes_and_certifies: Entry[] }>('index.json', { quotes_and_certifies: [] })

describe.skipIf(!present)('statements of real TPMs', () => {
  const count = counted('quotes and certifies')
  test.each(entries)('$id: $kind, $alg, $expected', entry => {
    const vector = readJson<Vector>(entry.file, {} as Vector)
    expect(judge(entry, vector)).toEqual(expectationOf(entry))
    count()
  })
})

/** What Windows gives the attestation keys that it makes: allowed by name alone. */
const windowsPolicy = unhex('9dffcbf36c383ae699fb9868dc6dcb89d7153884be2803922c124158bfad22ae')

type Outcome = { readonly key: string; readonly structure: string; readonly signature: string; readonly quote: string }

/** The folder says accept or refuse; the codes follow from the kind of statement, its algorithm and its bank. */
function expectationOf({ id, kind, alg: algorithm, bank, expected }: Entry): Outcome {
  const weak = algorithm.endsWith('/sha1') ? 'WEAK_HASH' : 'OK'
  const key = id.endsWith('unrestricted-ak') ? 'AK_ATTRIBUTES' : weak
  if (kind !== 'quote') return { key, structure: 'NOT_A_QUOTE', signature: weak, quote: 'NOT_A_QUOTE' }
  const refused = weak === 'OK' ? (id.includes('no-nonce') ? 'NONCE_MISMATCH' : 'WEAK_BANK') : weak
  expect(bank === 'sha1' || weak !== 'OK' || id.includes('no-nonce')).toBe(expected === 'refuse')
  return { key, structure: 'OK', signature: weak, quote: expected === 'accept' ? 'OK' : refused }
}

function judge(entry: Entry, vector: Vector): Outcome {
  const ak = keyOf(entry, vector)
  const attest = unhex(vector.attest_hex)
  const signature = signatureOf(entry, vector)
  return {
    key: outcome(admitAk(ak.public.bytes, { authPolicies: [windowsPolicy] })),
    structure: outcome(parseQuote(attest)),
    signature: outcome(verifySignature(signature, attest, ak)),
    quote: quoteOutcome(entry, vector, ak, signature),
  }
}

/** Where upstream gives no PCR values, everything up to the nonce is judged. */
function quoteOutcome(entry: Entry, vector: Vector, ak: AttestationKey, signature: Buffer): string {
  const nonce = entry.id.includes('no-nonce')
    ? Buffer.alloc(32)
    : unhex(vector.expected_nonce_hex ?? vector.attest_decoded.extraData)
  const evidence = { attest: unhex(vector.attest_hex), signature, pcrs: JSON.stringify(vector.pcrs) }
  if (entry.kind !== 'quote' || vector.pcrs === undefined) return outcome(authenticate(evidence, { ak, qualifyingData: nonce }))
  const expected: Expected = { ak, qualifyingData: nonce, ...policyOf(entry, vector), allowReset: true, obfuscated: true }
  // the six of this origin carry the name of a primary in the endorsement hierarchy
  const endorsed = entry.id.startsWith('gotpmtools') && { qualifiedSigner: qualifiedNameOf('endorsement', ak.name) }
  return outcome(verifyQuote(evidence, { ...expected, ...endorsed }))
}

/** What was quoted is what was asked for, but a SHA-1 bank, which nobody asks for. */
function policyOf(
  { bank }: Entry,
  { attest_decoded: { pcrSelect = [] }, pcrs = {} }: Vector,
): Pick<Expected, 'selection' | 'references'> {
  const asked = bank === 'sha1' ? 'sha256' : (bank as Bank)
  const indices = pcrSelect.find(({ hash }) => hash === bank)?.pcrs ?? []
  const values = new Map(Object.entries(pcrs[bank] ?? {}).map(([index, hex]) => [Number(index), [unhex(hex)]]))
  const references: ReferenceValues = new Map([[asked, values]])
  return { selection: { [asked]: indices }, references: [{ name: 'upstream', pcrs: references }] }
}

/** Where only the key is known, a public area is made for it; one entry has not even the key. */
function keyOf({ alg: algorithm }: Entry, { ak_tpmt_public_hex: area, ak_spki_pem: pem }: Vector): AttestationKey {
  const [scheme, hash] = algorithm.toUpperCase().split('/') as [SignatureScheme, string]
  const name = hash.toLowerCase() as Hash
  const key = pem ? createPublicKey(pem) : createPublicKey(makeAk('rsa-2048', 'RSASSA').private)
  const bytes = area
    ? unhex(area)
    : encodeArea({ ...areaOf(key), attributes: AK_ATTRIBUTES, scheme: [alg[scheme], hashes[name].id] })
  const strong = unwrap(admitAk(encodeArea({ ...areaOf(key), attributes: AK_ATTRIBUTES, scheme: [alg[scheme], alg.SHA256] })))
  const given = admitAk(bytes)
  return given.ok ? given.value : { ...strong, hash: name, public: { ...strong.public, bytes } }
}

/** WebAuthn has the plain signature: of RSA the bytes, of ECDSA the DER of r and s. */
function signatureOf({ alg: algorithm }: Entry, { tpmt_signature_hex: whole, signature_raw_hex: raw = '' }: Vector): Buffer {
  if (whole) return unhex(whole)
  const [scheme, hash] = algorithm.toUpperCase().split('/') as [SignatureScheme, string]
  const head = new Writer().u16(alg[scheme]).u16(hashes[hash.toLowerCase() as Hash].id)
  if (scheme !== 'ECDSA') return head.sized(unhex(raw)).done()
  const der = unhex(raw)
  const middle = 4 + (der[3] ?? 0)
  return head
    .sized(der.subarray(4, middle))
    .sized(der.subarray(middle + 2))
    .done()
}
