import { createHash, createPublicKey, randomBytes } from 'node:crypto'
import { alg, attestType, curves, type Hash } from '#attestation'
import {
  type Area,
  type Attest,
  answer,
  areaOf,
  encodeArea,
  type FakeKey,
  makeAk,
  NONCE,
  PCRS,
  pairOf,
  pcrValue,
  signAs,
} from './attester.ts'
import { type Row, runRows, type Table } from './conformance_rows.ts'

const ecc = makeAk('P-256', 'ECDSA')
const p384 = makeAk('P-384', 'ECDSA', 'sha384')
const rsa = makeAk('rsa-2048', 'RSASSA')
const pss = makeAk('rsa-2048', 'RSAPSS')

const tableOf = (pcrs: readonly number[], bank: Hash = 'sha256'): Table => ({
  [bank]: Object.fromEntries(pcrs.map(pcr => [pcr, pcrValue(pcr, bank).toString('hex')])),
})
const policy = {
  requiredBank: 'sha256',
  requiredPcrs: PCRS,
  minHash: 'sha256',
  expected: tableOf(PCRS),
  nonceHex: NONCE.toString('hex'),
}

type Changes = {
  readonly key?: FakeKey
  readonly attest?: Partial<Attest>
  /** in place of the encoded structure, signed */
  readonly bytes?: (attest: Buffer) => Buffer
  readonly signature?: (signature: Buffer, attest: Buffer) => Buffer
  readonly pcrs?: object | string
  readonly more?: object
}

function quote(
  id: string,
  expected: string,
  { key = ecc, attest = {}, bytes, signature, pcrs = tableOf(PCRS), more }: Changes = {},
): Row {
  const { evidence } = answer(key, attest)
  const signed = bytes ? bytes(Buffer.from(evidence.attest)) : Buffer.from(evidence.attest)
  const made = bytes ? signAs(key, signed) : Buffer.from(evidence.signature)
  const record = {
    attest_hex: signed.toString('hex'),
    tpmt_signature_hex: (signature ? signature(made, signed) : made).toString('hex'),
    ak_tpmt_public_hex: key.area.toString('hex'),
    pcrs,
    policy,
    ...more,
  }
  return { id, expected, record }
}

const digestOf = (pcrs: readonly number[], bank: Hash = 'sha256', hash: Hash = 'sha256') =>
  createHash(hash)
    .update(Buffer.concat(pcrs.map(pcr => pcrValue(pcr, bank))))
    .digest()
const extra = (extraData: Buffer) => ({ attest: { extraData } })
const resized = (place: number, value: number) => (attest: Buffer) => {
  attest.writeUInt16BE(value, place)
  return attest
}
const over = (pcrs: readonly number[]): Partial<Attest> => ({
  selection: [{ bank: alg.SHA256, pcrs }],
  pcrDigest: digestOf(pcrs),
})
const both: Partial<Attest> = {
  selection: [alg.SHA384, alg.SHA256].map(bank => ({ bank, pcrs: PCRS })),
  pcrDigest: createHash('sha256')
    .update(Buffer.concat([...PCRS.map(pcr => pcrValue(pcr, 'sha384')), ...PCRS.map(pcr => pcrValue(pcr))]))
    .digest(),
}

runRows('freshness and structure', [
  quote('A02-ok-rsassa', 'OK', { key: rsa }),
  quote('A04-ok-p384', 'OK', { key: p384 }),
  quote('A06-ok-banks-reversed', 'OK', { attest: both, pcrs: { ...tableOf(PCRS), ...tableOf(PCRS, 'sha384') } }),
  quote('N02-nonce-empty', 'NONCE_MISMATCH', extra(Buffer.alloc(0))),
  quote('N04-nonce-extended', 'NONCE_MISMATCH', extra(Buffer.concat([NONCE, Buffer.of(0)]))),
  quote('N06-nonce-hex-text', 'NONCE_MISMATCH', extra(Buffer.from(NONCE.toString('hex')))),
  quote('N08-nonce-reversed', 'NONCE_MISMATCH', extra(Buffer.from(NONCE).reverse())),
  quote('N18-digest-of-a-key', 'NONCE_MISMATCH', extra(createHash('sha256').update(ecc.area).digest())),
  quote('S02-magic-off-by-one', 'BAD_MAGIC', { attest: { magic: 0xff544348 } }),
  ...[attestType.CREATION, 0x8019, 0x8016, 0x8000, 0].map(type =>
    quote(`S03-type-${type.toString(16)}`, 'NOT_A_QUOTE', { attest: { type } }),
  ),
  quote('S05-sized', 'refuse', { bytes: attest => Buffer.concat([Buffer.of(0, attest.length), attest]) }),
  quote('S07-signer-size-ffff', 'TRUNCATED', { bytes: resized(6, 0xffff) }),
  quote('S09-no-bank', 'EMPTY_SELECTION', { attest: { selection: [] } }),
  quote('S11-17-banks', 'LIMIT', { attest: { count: 17 } }),
  quote('S13-sizeofSelect-255', 'refuse', { attest: { selection: [{ bank: alg.SHA256, pcrs: PCRS, octets: 255 }] } }),
  quote('S15-bank-twice', 'DUPLICATE_BANK', { attest: { selection: [0, 2].map(pcr => ({ bank: alg.SHA256, pcrs: [pcr] })) } }),
  quote('S17-bank-null', 'UNSUPPORTED_ALG', { attest: { selection: [{ bank: alg.NULL, pcrs: PCRS }] } }),
  quote('S19-digest-empty', 'refuse', { attest: { pcrDigest: Buffer.alloc(0) } }),
  quote('S21-safe-2', 'BAD_ENCODING', { attest: { safe: 2 } }),
  quote('D01-attest-64KiB', 'LIMIT', { bytes: attest => Buffer.concat([attest, Buffer.alloc(65_536)]) }),
])

const value = (pcr: number) => pcrValue(pcr).toString('hex')
const tableWith = (members: string) => `{"sha256":{${members}}}`
const others = PCRS.filter(pcr => pcr !== 7).map(pcr => `"${pcr}":"${value(pcr)}"`)
const allowing = (expected: Table) => ({ more: { policy: { ...policy, expected } } })
const weakBank = { selection: [{ bank: alg.SHA1, pcrs: PCRS }], pcrDigest: digestOf(PCRS, 'sha1') }

runRows('values of PCRs', [
  quote('P02-resettable-as-others', 'refuse', { attest: over([16, 17, 18, 19, 20]) }),
  quote('P04-unsigned-extra', 'refuse', { pcrs: tableOf([...PCRS, 14]) }),
  quote('P06-one-differs', 'PCR_POLICY', allowing({ sha256: { ...tableOf(PCRS)['sha256'], 7: value(8) } })),
  quote('P08-sha1-alone', 'WEAK_BANK', { attest: weakBank, pcrs: tableOf(PCRS, 'sha1') }),
  quote('P41-sha384-wanted', 'refuse', {
    more: { policy: { ...policy, requiredBank: 'sha384', expected: tableOf(PCRS, 'sha384') } },
  }),
  quote('P10-member-07', 'BAD_PCR_TABLE', { pcrs: tableWith([...others, `"07":"${value(7)}"`].join()) }),
  quote('P12-member-with-space', 'BAD_PCR_TABLE', { pcrs: tableWith([...others, `" 7":"${value(7)}"`].join()) }),
  quote('P14-not-hex', 'BAD_PCR_TABLE', { pcrs: tableWith([...others, `"7":"${'g'.repeat(64)}"`].join()) }),
  quote('P16-proto', 'BAD_PCR_TABLE', { pcrs: tableWith([...others, `"7":"${value(7)}"`, '"__proto__":{}'].join()) }),
  quote('P43-mixed-case', 'OK', { pcrs: tableWith([...others, `"7":"${value(7).toUpperCase()}"`].join()) }),
  quote('P47-no-dynamic-launch', 'PCR_POLICY', {
    attest: {
      selection: [{ bank: alg.SHA256, pcrs: [17] }],
      pcrDigest: createHash('sha256').update(Buffer.alloc(32, 0xff)).digest(),
    },
    pcrs: { sha256: { 17: 'ff'.repeat(32) } },
    more: { policy: { ...policy, requiredPcrs: [17], expected: { sha256: { 17: 'ff'.repeat(32) } } } },
  }),
])

const order = curves['P-256'].order
const changed = (r: (value: Buffer) => Buffer, s: (value: Buffer) => Buffer) => (signature: Buffer) => {
  const [first, second] = [signature.subarray(6, 38), signature.subarray(40)]
  const sized = (number: Buffer) => Buffer.concat([Buffer.of(0, number.length), number])
  return Buffer.concat([signature.subarray(0, 4), sized(r(first)), sized(s(second))])
}
const same = (number: Buffer) => number
const zero = () => Buffer.alloc(32)
const tagged = (key: FakeKey, fields: Parameters<typeof signAs>[2]) => (_: Buffer, attest: Buffer) => signAs(key, attest, fields)
const bigger = (key: FakeKey) => (signature: Buffer) => {
  const n = BigInt(
    `0x${areaOf(createPublicKey(key.private)).unique[0] ? Buffer.from(areaOf(createPublicKey(key.private)).unique[0] ?? []).toString('hex') : '0'}`,
  )
  const sum = (BigInt(`0x${signature.subarray(6).toString('hex')}`) + n).toString(16)
  const number = Buffer.from(sum.padStart(514, '0'), 'hex') // 257 bytes
  return Buffer.concat([signature.subarray(0, 4), Buffer.of(1, 1), number])
}

runRows('signatures', [
  quote('C01-sha1', 'WEAK_HASH', { signature: tagged(ecc, { hash: alg.SHA1 }) }),
  quote('C03-other-hash', 'SCHEME_MISMATCH', { signature: (_, attest) => signAs({ ...ecc, hash: 'sha384' }, attest) }),
  quote('C05-ecdsa-tag-on-rsa', 'SCHEME_MISMATCH', { key: rsa, signature: (_, attest) => signAs(ecc, attest) }),
  quote('C07-pss-as-rsassa', 'refuse', { key: rsa, signature: (_, attest) => signAs(pss, attest, { tag: alg.RSASSA }) }),
  quote('C09-hmac', 'UNSUPPORTED_ALG', { signature: tagged(ecc, { tag: alg.HMAC }) }),
  quote('C10-sm2', 'UNSUPPORTED_ALG', { signature: tagged(ecc, { tag: 0x001b }) }),
  quote('C11-r-zero', 'SIGNATURE', { signature: changed(zero, same) }),
  quote('C13-r-order', 'SIGNATURE', { signature: changed(() => order, same) }),
  quote('C15-swapped', 'SIGNATURE', {
    signature: signature => Buffer.concat([signature.subarray(0, 4), signature.subarray(38), signature.subarray(4, 38)]),
  }),
  quote('C17-trailing', 'refuse', { signature: signature => Buffer.concat([signature, Buffer.of(0)]) }),
  quote('C19-33-bytes', 'BAD_ENCODING', { signature: changed(number => Buffer.concat([Buffer.of(0), number]), same) }),
  quote('C21-plus-modulus', 'BAD_ENCODING', { key: rsa, signature: bigger(rsa) }),
  quote('C23-not-enrolled', 'AK_NOT_ENROLLED', { more: { enrolled_ak_tpmt_public_hex: rsa.area.toString('hex') } }),
  quote('C23-enrolled', 'OK', { more: { enrolled_ak_tpmt_public_hex: [rsa.area.toString('hex'), ecc.area.toString('hex')] } }),
  quote('C23-alone-of-its-kind', 'AK_NOT_ENROLLED', { key: makeAk('P-256', 'ECDSA', 'sha256', {}, 'stranger') }),
  quote('C24-floor-above', 'WEAK_HASH', { more: { policy: { ...policy, minHash: 'sha384' } } }),
])

const area = (changes: Partial<Area>, key: 'P-256' | 'rsa-2048' | 'rsa-1024' = 'P-256') =>
  makeAk(key, key === 'P-256' ? 'ECDSA' : 'RSASSA', 'sha256', changes).area
const enrol = (id: string, expected: string, bytes: Buffer): Row => {
  const { record } = quote(id, expected)
  return { id, expected, record: { ...record, stage: 'enrolment', ak_tpmt_public_hex: bytes.toString('hex') } }
}

runRows('keys that are to be enrolled', [
  enrol('K00-ok', 'OK', area({})),
  enrol('K02-not-fixedTPM', 'AK_ATTRIBUTES', area({ attributes: 0x00050470 })),
  enrol('K04-not-sensitiveDataOrigin', 'AK_ATTRIBUTES', area({ attributes: 0x00050452 })),
  enrol('K06-no-sign', 'AK_ATTRIBUTES', area({ attributes: 0x00010472 })),
  enrol('K08-reserved-bit', 'AK_ATTRIBUTES', area({ attributes: 0x80050472 })),
  enrol('K10-e-3', 'WEAK_KEY', area({ exponent: 3 }, 'rsa-2048')),
  enrol('K12-scheme-sha1', 'refuse', area({ scheme: [alg.ECDSA, alg.SHA1] })),
  enrol('K14-bn-curve', 'BAD_KEY', area({ details: [0x0010, alg.NULL] })),
  enrol('K16-infinity', 'BAD_KEY', area({ unique: [Buffer.alloc(32), Buffer.alloc(32)] })),
  enrol('K16-x-above-p', 'BAD_KEY', area({ unique: [Buffer.alloc(32, 0xff), Buffer.alloc(32, 1)] })),
  enrol('K18-sized', 'refuse', Buffer.concat([Buffer.of(0, area({}).length), area({})])),
  enrol('K19-symcipher', 'BAD_KEY', Buffer.concat([Buffer.of(0, 0x25), area({}).subarray(2)])),
  enrol(
    'K20-rsa-16384',
    'refuse',
    encodeArea({ ...areaOf(pairOf('rsa-2048').publicKey), details: [16_384], unique: [randomBytes(1500)] }),
  ),
])

const before = { clock: 4_000_000, resetCount: 7, restartCount: 2, firmwareVersion: '2024012500120000' }
const after = (id: string, expected: string, attest: Partial<Attest>, state: object = {}) =>
  quote(id, expected, { attest, more: { previous_quote_state: { ...before, ...state } } })

runRows('clocks', [
  after('T00-forward', 'OK', {}),
  after('T01-same-clock', 'CLOCK_REPLAY', { clock: 4_000_000n }),
  after('T03-older-boot', 'refuse', { resetCount: 6 }),
  after('T05-rebooted', 'REBOOTED', { resetCount: 8, restartCount: 0, clock: 1n }),
  after('T07-unsafe', 'CLOCK_NOT_SAFE', { safe: 0 }),
  after('T09-obfuscated-lower', 'REBOOTED', { resetCount: 6 }, { obfuscated: true }),
])
