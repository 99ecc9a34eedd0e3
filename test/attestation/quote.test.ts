import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { alg, attestType, type Expected, handle, qualifiedNameOf, type ReferenceSet, verifyQuote, Writer } from '#attestation'
import {
  type Attest,
  answer,
  type FakeKey,
  makeAk,
  NONCE,
  outcome,
  PCRS,
  pcrValue,
  type Selected,
  signAs,
  unwrap,
} from './attester.ts'

const key = makeAk('P-256', 'ECDSA')

describe('a good quote', () => {
  test.each([
    makeAk('P-256', 'ECDSA'),
    makeAk('P-384', 'ECDSA', 'sha384'),
    makeAk('rsa-2048', 'RSASSA'),
    makeAk('rsa-2048', 'RSAPSS'),
    makeAk('rsa-3072', 'RSASSA', 'sha384'),
    makeAk('rsa-4096', 'RSAPSS', 'sha512'),
  ])('by $scheme with $hash', by => {
    const { evidence, expected } = answer(by)
    expect(unwrap(verifyQuote(evidence, expected))).toMatchObject({
      session: 'FIRST',
      reference: 'released',
      clock: 5_000_000n,
      resetCount: 7,
      restartCount: 2,
      firmwareVersion: '2024012500120000',
      safe: true,
      pcrs: new Map([['sha256', new Map(PCRS.map(pcr => [pcr, pcrValue(pcr)]))]]),
    })
  })

  test('claims outlive the bytes that they were read from', () => {
    const { evidence, expected } = answer(key)
    const claims = unwrap(verifyQuote(evidence, expected))
    const signer = claims.qualifiedSigner.toString('hex')
    evidence.attest.fill(0)
    expect(claims.qualifiedSigner.toString('hex')).toBe(signer)
  })
})

/** The verdict on a good answer but for what is signed, sent or expected. */
type Change = {
  readonly by?: FakeKey
  readonly signed?: Partial<Attest>
  readonly expected?: Partial<Expected>
  readonly pcrs?: Readonly<Record<string, Readonly<Record<string, string>>>>
  readonly attest?: Uint8Array
  readonly signature?: Uint8Array
}

function judge({ by = key, signed = {}, expected = {}, pcrs, attest, signature }: Change): string {
  const asked = answer(by, signed)
  const sent = { ...(pcrs && { pcrs: JSON.stringify(pcrs) }), ...(attest && { attest }), ...(signature && { signature }) }
  return outcome(verifyQuote({ ...asked.evidence, ...sent }, { ...asked.expected, ...expected }))
}

const hexOf = (index: number) => pcrValue(index).toString('hex')
const tableOf = (pcrs: readonly number[]) => ({ sha256: Object.fromEntries(pcrs.map(pcr => [pcr, hexOf(pcr)])) })
const bank = (pcrs: readonly number[], hash: number = alg.SHA256): Selected => ({ bank: hash, pcrs })
const select = (...selection: Selected[]) => ({ signed: { selection } })
const references = (values: Readonly<Record<number, Buffer[]>>, name = 'set'): ReferenceSet => ({
  name,
  pcrs: new Map([['sha256', new Map(Object.entries(values).map(([pcr, allowed]) => [Number(pcr), allowed]))]]),
})
const released = references(Object.fromEntries(PCRS.map(pcr => [pcr, [pcrValue(pcr)]])), 'released')
const reset = Buffer.alloc(32)
const digest = (...values: Buffer[]) => createHash('sha256').update(Buffer.concat(values)).digest()

const cases: readonly (readonly [string, string, Change])[] = [
  // sizes, before anything is read
  ['4 KiB of TPMS_ATTEST and no more', 'LIMIT', { attest: Buffer.alloc(4097) }],
  ['2 KiB of TPMT_SIGNATURE and no more', 'LIMIT', { signature: Buffer.alloc(2049) }],
  ['16 Ki characters of PCR values and no more', 'LIMIT', { pcrs: { sha256: { 0: '0'.repeat(16384) } } }],
  // structure
  ['another magic', 'BAD_MAGIC', { signed: { magic: 0xff544348 } }],
  ...Object.entries({ certify: attestType.CERTIFY, creation: attestType.CREATION, time: 0x8019, nv: 0x8014, unknown: 0 }).map(
    ([what, type]) => [`a statement of type ${what}`, 'NOT_A_QUOTE', { signed: { type } }] as const,
  ),
  ['safe = 2', 'BAD_ENCODING', { signed: { safe: 2 } }],
  ['no bank', 'EMPTY_SELECTION', select()],
  ['17 banks', 'LIMIT', { signed: { count: 17 } }],
  ['2^32 - 1 banks', 'LIMIT', { signed: { count: 0xffffffff } }],
  ['more banks than there are', 'UNSUPPORTED_ALG', { signed: { selection: [bank([])], count: 16, pcrDigest: Buffer.alloc(0) } }],
  ['an unknown bank', 'UNSUPPORTED_ALG', select(bank(PCRS), bank([], 0x0012))],
  ['no algorithm for a bank', 'UNSUPPORTED_ALG', select(bank(PCRS, alg.NULL))],
  ['a bank twice', 'DUPLICATE_BANK', select(bank(PCRS), bank([]))],
  ['PCR 24', 'LIMIT', select({ bank: alg.SHA256, pcrs: [24], octets: 4 })],
  ['four octets for 24 PCRs', 'OK', select({ bank: alg.SHA256, pcrs: PCRS, octets: 4 })],
  ['two octets', 'OK', select({ bank: alg.SHA256, pcrs: PCRS, octets: 2 })],
  ['five octets', 'LIMIT', select({ bank: alg.SHA256, pcrs: PCRS, octets: 5 })],
  ['empty masks', 'EMPTY_SELECTION', select(bank([]), bank([], alg.SHA384))],
  ['a trailing byte', 'TRAILING_DATA', { signed: { tail: Buffer.alloc(1) } }],
  ['trailing bytes before empty masks', 'TRAILING_DATA', { signed: { selection: [bank([])], tail: Buffer.alloc(1) } }],
  ['a size in front', 'BAD_MAGIC', { attest: new Writer().sized(answer(key).evidence.attest).done() }],
  // signature
  [
    'a signature of another key',
    'SIGNATURE',
    { signature: signAs(makeAk('P-256', 'ECDSA', 'sha256', {}, 'other'), answer(key).evidence.attest) },
  ],
  ['a signature over other bytes', 'SIGNATURE', { attest: answer(key, { resetCount: 8 }).evidence.attest }],
  ['no signature', 'TRUNCATED', { signature: Buffer.alloc(0) }],
  [
    'a trailing byte of the signature',
    'TRAILING_DATA',
    { signature: Buffer.concat([answer(key).evidence.signature, Buffer.alloc(1)]) },
  ],
  // which question it answers
  ['no qualifying data', 'NONCE_MISMATCH', { signed: { extraData: Buffer.alloc(0) } }],
  ['another one', 'NONCE_MISMATCH', { signed: { extraData: Buffer.alloc(32) } }],
  ['less of it', 'NONCE_MISMATCH', { signed: { extraData: NONCE.subarray(0, 31) } }],
  ['more of it', 'NONCE_MISMATCH', { signed: { extraData: Buffer.concat([NONCE, Buffer.alloc(1)]) } }],
  ['its digits', 'NONCE_MISMATCH', { signed: { extraData: Buffer.from(NONCE.toString('hex')) } }],
  // where the key lives
  [
    'a key of another hierarchy',
    'QUALIFIED_SIGNER',
    { expected: { qualifiedSigner: qualifiedNameOf('owner', answer(key).expected.ak.name) } },
  ],
  ['the plain Name', 'QUALIFIED_SIGNER', { signed: { qualifiedSigner: answer(key).expected.ak.name } }],
  ['a handle', 'QUALIFIED_SIGNER', { signed: { qualifiedSigner: new Writer().u32(handle.OWNER).done() } }],
  // PCRs
  ['a malformed table', 'BAD_PCR_TABLE', { pcrs: { sha256: { '07': hexOf(7) } } }],
  ['a signed PCR that is not in the table', 'PCR_SELECTION_MISMATCH', { pcrs: tableOf(PCRS.slice(1)) }],
  ['a PCR in the table that is not signed', 'PCR_SELECTION_MISMATCH', { pcrs: tableOf([...PCRS, 12]) }],
  [
    'a bank in the table that is not signed',
    'PCR_SELECTION_MISMATCH',
    { pcrs: { ...tableOf(PCRS), sha1: { 0: '00'.repeat(20) } } },
  ],
  ['a SHA-1 bank alone', 'WEAK_BANK', { ...select(bank([0], alg.SHA1)), pcrs: { sha1: { 0: '00'.repeat(20) } } }],
  ['another bank than was asked for', 'WEAK_BANK', { expected: { selection: { sha384: PCRS } } }],
  ['a SHA-1 bank, asked for', 'WEAK_BANK', { expected: { selection: { sha1: [0] } as Expected['selection'] } }],
  [
    'a bank that the TPM does not have',
    'PCR_NOT_QUOTED',
    { ...select(bank([]), bank([0], alg.SHA1)), pcrs: { sha1: { 0: '00'.repeat(20) } } },
  ],
  ['a PCR less than was asked for', 'PCR_NOT_QUOTED', { expected: { selection: { sha256: [...PCRS, 12] } } }],
  ['a PCR more than was asked for', 'PCR_SELECTION_MISMATCH', { expected: { selection: { sha256: [0, 2, 4, 7] } } }],
  ['nothing was asked for', 'PCR_SELECTION_MISMATCH', { expected: { selection: {} } }],
  ['a bank more, with nothing selected', 'OK', select(bank(PCRS), bank([], alg.SHA1))],
  ['other values than those signed', 'PCR_DIGEST_MISMATCH', { pcrs: { sha256: { ...tableOf(PCRS).sha256, 7: hexOf(8) } } }],
  ['no digest', 'PCR_DIGEST_MISMATCH', { signed: { pcrDigest: Buffer.alloc(0) } }],
  // values
  ['a set that does not fit', 'PCR_POLICY', { expected: { references: [references({ 7: [pcrValue(8)] })] } }],
  ['one of two values', 'OK', { expected: { references: [references({ 7: [pcrValue(8), pcrValue(7)] })] } }],
  ['one of two sets', 'OK', { expected: { references: [references({ 7: [pcrValue(8)] }), released] } }],
  [
    'half of each set',
    'PCR_POLICY',
    { expected: { references: [references({ 4: [reset], 7: [pcrValue(7)] }), references({ 4: [pcrValue(4)], 7: [reset] })] } },
  ],
  ['a PCR with no value that it may hold', 'PCR_POLICY', { expected: { references: [references({ 7: [] })] } }],
  ['a set without PCRs', 'PCR_POLICY', { expected: { references: [references({})] } }],
  ['no set', 'PCR_POLICY', { expected: { references: [] } }],
  [
    'a reference value for a PCR that is not signed',
    'PCR_NOT_QUOTED',
    { expected: { references: [references({ 12: [pcrValue(12)] })] } },
  ],
]

describe('checks', () => {
  test.each(cases)('%s: %s', (_, expected, change) => expect(judge(change)).toBe(expected))
})

describe.each(['RSASSA', 'RSAPSS'] as const)('a signature of %s as a number', scheme => {
  const rsa = makeAk('rsa-2048', scheme)
  const { evidence, expected } = answer(rsa)
  const { public: area } = expected.ak
  const modulus = area.kind === 'rsa' ? area.modulus : Buffer.alloc(0)
  const judged = (value: Buffer) => {
    const signature = Buffer.concat([evidence.signature.subarray(0, 4), new Writer().sized(value).done()])
    return outcome(verifyQuote({ ...evidence, signature }, expected))
  }
  const own = Buffer.from(evidence.signature).subarray(6)
  const sum = (BigInt(`0x${own.toString('hex')}`) + BigInt(`0x${modulus.toString('hex')}`)).toString(16).padStart(512, '0')

  test('is below the modulus, and has only one form', () => {
    expect(judged(own)).toBe('OK')
    expect(judged(modulus)).toBe('BAD_ENCODING')
    expect(judged(Buffer.alloc(256, 0xff))).toBe('BAD_ENCODING')
    expect(judged(Buffer.from(sum.padStart(514, '0').slice(sum.length > 512 ? 0 : 2), 'hex'))).toBe('BAD_ENCODING')
    expect(judged(Buffer.alloc(256))).toBe('SIGNATURE')
  })
})

describe('values that a reset leaves', () => {
  const ones = Buffer.alloc(32, 0xff)
  const locality = Buffer.concat([Buffer.alloc(31), Buffer.of(3)])
  const holding: readonly (readonly [number, Buffer, string])[] = [
    [7, reset, 'PCR_POLICY'],
    [0, locality, 'PCR_POLICY'],
    [17, ones, 'PCR_POLICY'],
    [8, reset, 'OK'],
    [17, reset, 'OK'],
  ]
  test.each(holding)('PCR %i', (pcr, value, expected) => {
    const asked = quoting(pcr, value)
    expect(outcome(verifyQuote(asked.evidence, asked.expected))).toBe(expected)
    expect(outcome(verifyQuote(asked.evidence, { ...asked.expected, allowReset: true }))).toBe('OK')
  })

  function quoting(pcr: number, value: Buffer) {
    const signed = { selection: [bank([pcr])], pcrDigest: digest(value) }
    const { evidence, expected } = answer(key, signed)
    const pcrs = JSON.stringify({ sha256: { [pcr]: value.toString('hex') } })
    return {
      evidence: { ...evidence, pcrs },
      expected: { ...expected, selection: { sha256: [pcr] }, references: [references({ [pcr]: [value] })] },
    }
  }
})

describe('our own mistakes', () => {
  test.each([24, -1, 0.5, Number.NaN])('asking for PCR %d throws', pcr => {
    expect(() => judge({ expected: { selection: { sha256: [pcr] } } })).toThrow('there is no PCR')
  })
})

describe('order', () => {
  test('banks are hashed as they are listed', () => {
    const value = Buffer.alloc(48, 1)
    const pcrs = JSON.stringify({ sha256: tableOf(PCRS).sha256, sha384: { 3: value.toString('hex') } })
    const values = PCRS.map(pcr => pcrValue(pcr))
    const asked = { selection: { sha256: PCRS, sha384: [3] } }
    const listed = [bank(PCRS), bank([3], alg.SHA384)]
    for (const [selection, pcrDigest] of [
      [listed, digest(...values, value)],
      [listed.toReversed(), digest(value, ...values)],
    ] as const) {
      const { evidence, expected } = answer(key, { selection, pcrDigest })
      expect(outcome(verifyQuote({ ...evidence, pcrs }, { ...expected, ...asked }))).toBe('OK')
    }
  })
})
