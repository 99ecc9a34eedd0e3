import {
  admitAk,
  admitEk,
  alg,
  type ExpectedDocument,
  nameOf,
  parsePcrTable,
  parsePublic,
  parseQuote,
  qualifiedNameOf,
  type Refusal,
  type Verdict,
  verifyCertifiedKey,
  verifyQuote,
} from '#attestation'
import { appraiseClock } from '../../attestation/clock.ts'
import { verifyNitroDocument } from '../../attestation/formats/aws_nitro.ts'
import { readCbor } from '../../attestation/formats/cbor.ts'
import { appraisePcrs, matchReferences } from '../../attestation/pcrs.ts'
import { parseCertification } from '../../attestation/tpm2/attest.ts'
import { verifySignature } from '../../attestation/tpm2/signature.ts'
import { type Attest, answer, areaOf, encodeArea, makeAk, NONCE, PCRS, pairOf, pcrValue, signAs, unwrap } from './attester.ts'
import { ofCertificates } from './certificate_provocations.ts'
import { NOW } from './certificates.ts'
import { type Certified, certification, certifier, ekPublic, keyArea } from './certified.ts'
import { ekAreaOf } from './endorsed.ts'
import { ofLogs } from './eventlog_provocations.ts'
import { BINDING, type Document, nitroDocument, root as nitroRoot } from './nitro_maker.ts'

/** One way into every refusal that a verifier names in its docstring; `file` is where that stands. */
export type Provocations = {
  readonly file: string
  readonly refusals: Partial<Record<Refusal, () => Verdict<unknown> | Promise<Verdict<unknown>>>>
}

const ak = makeAk('P-256', 'ECDSA')
const good = answer(ak)
const { signature, attest } = good.evidence
const zero = Buffer.alloc(1)
const plus = (bytes: Uint8Array) => Buffer.concat([bytes, zero])
const key = good.expected.ak

const rsaArea = encodeArea(areaOf(pairOf('rsa-2048').publicKey))
const offCurve = { unique: [Buffer.alloc(32, 1), Buffer.alloc(32, 1)] }
const bn = { ...areaOf(pairOf('P-256').publicKey), details: [0x0010, alg.NULL] }

const publicAreas: Provocations['refusals'] = {
  LIMIT: () => parsePublic(Buffer.alloc(2049)),
  BAD_KEY: () => parsePublic(encodeArea(bn)),
  UNSUPPORTED_ALG: () => parsePublic(makeAk('P-256', 'ECDSA', 'sha256', { scheme: [0x001a, alg.SHA256] }).area),
  TRUNCATED: () => parsePublic(rsaArea.subarray(0, -1)),
  TRAILING_DATA: () => parsePublic(plus(rsaArea)),
}

const akWith = (changes: Parameters<typeof makeAk>[3]) => admitAk(makeAk('P-256', 'ECDSA', 'sha256', changes).area)

const attestationKeys: Provocations['refusals'] = {
  LIMIT: () => admitAk(Buffer.alloc(2049)),
  BAD_KEY: () => akWith(offCurve),
  UNSUPPORTED_ALG: () => akWith({ scheme: [0x001a, alg.SHA256] }),
  TRUNCATED: () => admitAk(ak.area.subarray(0, -1)),
  TRAILING_DATA: () => admitAk(plus(ak.area)),
  AK_ATTRIBUTES: () => akWith({ attributes: 0 }),
  WEAK_HASH: () => akWith({ scheme: [alg.ECDSA, alg.SHA1] }),
  WEAK_KEY: () => akWith({ nameAlg: alg.SHA1 }),
}

const signed = (changes: Partial<Attest>) => parseQuote(answer(ak, changes).evidence.attest)

const quotes: Provocations['refusals'] = {
  LIMIT: () => signed({ count: 17 }),
  BAD_MAGIC: () => signed({ magic: 0 }),
  NOT_A_QUOTE: () => signed({ type: 0x8017 }),
  TRUNCATED: () => parseQuote(attest.subarray(0, -1)),
  BAD_ENCODING: () => signed({ safe: 2 }),
  EMPTY_SELECTION: () => signed({ selection: [] }),
  UNSUPPORTED_ALG: () => signed({ selection: [{ bank: alg.NULL, pcrs: [] }] }),
  DUPLICATE_BANK: () => signed({ selection: [0, 1].map(pcr => ({ bank: alg.SHA256, pcrs: [pcr] })) }),
  TRAILING_DATA: () => signed({ tail: zero }),
}

const longR = Buffer.concat([signature.subarray(0, 4), Buffer.of(0, 33, 0), signature.subarray(6)])

const signatures: Provocations['refusals'] = {
  LIMIT: () => verifySignature(Buffer.alloc(2049), attest, key),
  TRUNCATED: () => verifySignature(signature.subarray(0, -1), attest, key),
  TRAILING_DATA: () => verifySignature(plus(signature), attest, key),
  UNSUPPORTED_ALG: () => verifySignature(signAs(ak, attest, { tag: alg.HMAC }), attest, key),
  WEAK_HASH: () => verifySignature(signAs(ak, attest, { hash: alg.SHA1 }), attest, key),
  SCHEME_MISMATCH: () => verifySignature(signAs(ak, attest, { tag: alg.RSASSA }), attest, key),
  SIGNATURE: () => verifySignature(signature, plus(attest), key),
  BAD_ENCODING: () => verifySignature(longR, attest, key),
}

const quote = unwrap(parseQuote(attest))
const table = unwrap(parsePcrTable(good.evidence.pcrs))
const tableOf = (pcrs: readonly number[]) => new Map([['sha256' as const, new Map(pcrs.map(pcr => [pcr, pcrValue(pcr)]))]])

const pcrs: Provocations['refusals'] = {
  PCR_SELECTION_MISMATCH: () => appraisePcrs(quote, tableOf([]), good.expected),
  WEAK_BANK: () => appraisePcrs(quote, table, { ...good.expected, selection: { sha384: PCRS } }),
  PCR_NOT_QUOTED: () => appraisePcrs(quote, table, { ...good.expected, selection: { sha256: [...PCRS, 12] } }),
  PCR_DIGEST_MISMATCH: () => appraisePcrs({ ...quote, pcrDigest: zero }, table, good.expected),
  PCR_POLICY: () => appraisePcrs(quote, table, { ...good.expected, references: [] }),
}

const { clock: previous } = quote
const at = (changes: object, safe = true) =>
  appraiseClock({ clock: { ...previous, ...changes }, safe }, { previous, obfuscated: false })

const clocks: Provocations['refusals'] = {
  FIRMWARE_CHANGED: () => at({ firmwareVersion: '' }),
  CLOCK_NOT_SAFE: () => at({}, false),
  OLD_BOOT: () => at({ resetCount: 0 }),
  CLOCK_REPLAY: () => at({}),
}

const ek = pairOf('rsa-2048', 'ek').publicKey
const ekArea = ekAreaOf(ek)

const endorsementKeys: Provocations['refusals'] = {
  LIMIT: () => admitEk(Buffer.alloc(2049)),
  BAD_KEY: () => admitEk(ekAreaOf(pairOf('P-256').publicKey, offCurve)),
  UNSUPPORTED_ALG: () => admitEk(ekAreaOf(ek, { scheme: [0x001a, alg.SHA256] })),
  TRUNCATED: () => admitEk(ekArea.subarray(0, -1)),
  TRAILING_DATA: () => admitEk(plus(ekArea)),
  EK_TEMPLATE: () => admitEk(ak.area),
  WEAK_KEY: () => admitEk(ekAreaOf(ek, { exponent: 3 })),
}

const answers: Provocations['refusals'] = {
  NONCE_MISMATCH: () => verifyQuote(good.evidence, { ...good.expected, qualifyingData: zero }),
  QUALIFIED_SIGNER: () => verifyQuote(good.evidence, { ...good.expected, qualifiedSigner: zero }),
}

const judged = async (document: Document, changes: Partial<ExpectedDocument> = {}) =>
  verifyNitroDocument(nitroDocument(document), {
    binding: BINDING,
    at: NOW,
    anchors: [nitroRoot.certificate],
    references: [],
    maxAgeSeconds: 60,
    allowDebug: false,
    ...changes,
  })
const ofMembers = (members: Record<string, unknown>) => judged({ members })

const documents: Provocations['refusals'] = {
  LIMIT: () => judged({ whole: () => Buffer.alloc(16_385) }),
  BAD_ENCODING: () => judged({ whole: () => zero }),
  TRAILING_DATA: () => judged({ whole: plus }),
  UNSUPPORTED_ALG: () => judged({ head: new Map() }),
  KIND: () => ofMembers({ nitrotpm_pcrs: new Map() }),
  SIGNATURE: () => judged({ signature: () => Buffer.alloc(96) }),
  NONCE_MISMATCH: () => ofMembers({ nonce: zero }),
  STALE_DOCUMENT: () => ofMembers({ timestamp: 1 }),
  DEBUG: () => ofMembers({ pcrs: new Map([[0, Buffer.alloc(48)]]) }),
}

const cbor: Provocations['refusals'] = {
  LIMIT: () => readCbor(Buffer.alloc(2), { bytes: 1, depth: 1 }),
  BAD_ENCODING: () => readCbor(Buffer.of(0xff), { bytes: 9, depth: 1 }),
  TRAILING_DATA: () => readCbor(Buffer.of(0, 0), { bytes: 9, depth: 1 }),
}

const sets: Provocations['refusals'] = {
  PCR_NOT_QUOTED: () =>
    matchReferences(new Map(), {
      references: [{ name: 'x', pcrs: new Map([['sha256', new Map([[0, [zero]]])]]) }],
      allowReset: false,
    }),
  PCR_POLICY: () => matchReferences(new Map(), { references: [], allowReset: false }),
}

const tables: Provocations['refusals'] = {
  LIMIT: () => parsePcrTable(' '.repeat(16385)),
  BAD_PCR_TABLE: () => parsePcrTable('{'),
}

const keyToBind = certification(keyArea())
const certified = (changes: Partial<Certified>, area = keyArea()) =>
  verifyCertifiedKey(certification(area, changes), {
    ak: unwrap(admitAk(certifier.area)),
    qualifyingData: NONCE,
    qualifiedSigner: qualifiedNameOf('endorsement', nameOf(certifier.area)),
    ekPublic,
  })

const certifications: Provocations['refusals'] = {
  LIMIT: () => parseCertification(Buffer.alloc(4097)),
  BAD_MAGIC: () => certified({ magic: 0 }),
  NOT_A_CERTIFICATION: () => certified({ type: 0x8018 }),
  TRUNCATED: () => parseCertification(keyToBind.attest.subarray(0, -1)),
  BAD_ENCODING: () => certified({ safe: 2 }),
  TRAILING_DATA: () => certified({ tail: zero }),
}

const keysToBind: Provocations['refusals'] = {
  NONCE_MISMATCH: () => certified({ extraData: zero }),
  QUALIFIED_SIGNER: () => certified({ qualifiedSigner: zero }),
  KEY_ATTRIBUTES: () => certified({}, keyArea({ attributes: 0 })),
  WEAK_KEY: () => certified({}, keyArea({ nameAlg: alg.SHA1 })),
  KEY_NAME: () => certified({ name: zero }),
  KEY_PARENT: () => certified({ qualifiedName: zero }),
}

/** By the name of the verifier. */
export const provocations: Readonly<Record<string, Provocations>> = {
  parsePublic: { file: 'tpm2/public.ts', refusals: publicAreas },
  admitAk: { file: 'attestation_key.ts', refusals: attestationKeys },
  parseQuote: { file: 'tpm2/attest.ts', refusals: quotes },
  parseCertification: { file: 'tpm2/attest.ts', refusals: certifications },
  verifySignature: { file: 'tpm2/signature.ts', refusals: signatures },
  parsePcrTable: { file: 'pcr_table.ts', refusals: tables },
  appraisePcrs: { file: 'pcrs.ts', refusals: pcrs },
  appraiseClock: { file: 'clock.ts', refusals: clocks },
  verifyQuote: { file: 'quote.ts', refusals: answers },
  verifyCertifiedKey: { file: 'certified_key.ts', refusals: keysToBind },
  matchReferences: { file: 'pcrs.ts', refusals: sets },
  readCbor: { file: 'formats/cbor.ts', refusals: cbor },
  verifyNitroDocument: { file: 'formats/aws_nitro.ts', refusals: documents },
  admitEk: { file: 'endorsement.ts', refusals: endorsementKeys },
  ...ofCertificates,
  ...ofLogs,
}
