import { createHash, createPublicKey, randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { alg, attestType, curves, type Hash } from '#attestation'
import { casesIn } from '../../scripts/vectors/folder.ts'
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
import {
  basicConstraints,
  certifyEk,
  directoryName,
  EK_EXTENSIONS,
  extension,
  extKeyUsage,
  type Fields,
  keyUsage,
  makeCa,
  nameConstraints,
  named,
  san,
  tpmName,
} from './certificates.ts'
import {
  boot,
  command,
  encodeEvent,
  encodeHead,
  encodeLog,
  image,
  locality,
  type Made,
  separator,
  u32,
} from './eventlog_maker.ts'

// Cases in the form of the published sets for the rows of their list of attacks that have no file there. Where the list only
// says that something is refused, so does the case.

const scratch = mkdtempSync(join(tmpdir(), 'rows-'))
afterAll(() => rmSync(scratch, { recursive: true }))
const at = new Date('2026-06-01T00:00:00Z')

type Row = {
  readonly id: string
  readonly expected: string
  readonly record: object
  readonly files?: Readonly<Record<string, Buffer>>
}

/** Writes the rows as a set and runs it. */
function runRows(title: string, rows: readonly Row[]): void {
  const folder = join(scratch, title.replaceAll(' ', '-'))
  mkdirSync(folder)
  for (const { files = {} } of rows) for (const [file, bytes] of Object.entries(files)) writeFileSync(join(folder, file), bytes)
  const cases = rows.map(({ id, expected, record }) => ({
    id,
    ...(/^[A-Z]/.test(expected) ? { expected_code: expected } : { expected }),
    ...record,
  }))
  writeFileSync(join(folder, 'cases.json'), JSON.stringify({ cases }))
  describe(title, () => {
    const found = casesIn(folder, at)
    test('every row is a case', () => expect([found.cases.length, found.unknown]).toEqual([rows.length, []]))
    test.each(found.cases)('$id: $expected.says', async ({ expected, judge }) => {
      const got = await judge()
      expect([got, expected.holds(got)]).toEqual([got, true])
    })
  })
}

const ecc = makeAk('P-256', 'ECDSA')
const p384 = makeAk('P-384', 'ECDSA', 'sha384')
const rsa = makeAk('rsa-2048', 'RSASSA')
const pss = makeAk('rsa-2048', 'RSAPSS')

type Table = Readonly<Record<string, Readonly<Record<string, string>>>>
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

const replayed = (events: readonly Made[]): Table => {
  const values = new Map<number, Buffer>()
  for (const event of events) {
    const own = values.get(event.pcr) ?? Buffer.alloc(32, event.pcr >= 17 && event.pcr <= 22 ? 0xff : 0)
    if (event.type === 0x3) own.writeUInt8(event.data.at(-1) ?? 0, 31)
    else
      values.set(
        event.pcr,
        createHash('sha256')
          .update(own)
          .update(
            createHash('sha256')
              .update(event.measured ?? event.data)
              .digest(),
          )
          .digest(),
      )
    if (event.type === 0x3) values.set(event.pcr, own)
  }
  return { sha256: Object.fromEntries([...values].map(([pcr, bytes]) => [pcr, bytes.toString('hex')])) }
}
const good = replayed(boot)
const secureBoot = boot.findIndex(({ data }) => data.includes(Buffer.from('SecureBoot', 'utf16le')))
const event = (place: number): Made => boot[place] ?? separator(0)
const log = (id: string, expected: string, bytes: Buffer, pcrs: object = good): Row => ({
  id,
  expected,
  record: { file: `${id}.bin`, pcrs },
  files: { [`${id}.bin`]: bytes },
})
const whole = encodeLog(boot)

runRows(
  'event logs',
  [
    log('E00-ok', 'OK', whole),
    log('E01-empty', 'LOG_MISSING', Buffer.alloc(0)),
    log('E03-dropped', 'LOG_MISMATCH', encodeLog(boot.toSpliced(secureBoot, 1))),
    log(
      'E05-data-changed',
      'EVENT_DATA_DIGEST',
      encodeLog(
        boot.with(secureBoot, {
          ...event(secureBoot),
          data: Buffer.concat([event(secureBoot).data.subarray(0, -1), Buffer.of(0)]),
          measured: event(secureBoot).data,
        }),
      ),
    ),
    log('E07-added', 'LOG_MISMATCH', encodeLog([...boot, command('grub_cmd:', 'boot')])),
    log('E09-count-ffffffff', 'LIMIT', Buffer.concat([encodeHead({}), u32(0), u32(1), u32(0xffffffff)])),
    log('E11-cut', 'TRUNCATED', whole.subarray(0, -7)),
    log('E14-two-localities', 'LOG_AMBIGUOUS', encodeLog([locality(0), ...boot])),
    log(
      'E16-bank-twice',
      'refuse',
      encodeLog(
        boot.with(1, {
          ...event(1),
          digests: [
            [0x000b, Buffer.alloc(32)],
            [0x000b, Buffer.alloc(32)],
          ],
        }),
      ),
    ),
    log('E18-sha1-alone', 'WEAK_BANK', encodeLog(boot, {}, ['sha1'])),
    log('E18-sha1-alone-by-header', 'WEAK_BANK', Buffer.concat([encodeHead({}, ['sha1']), ...boot.map(one => encodeEvent(one))])),
    log('E20-pcr-24', 'LIMIT', encodeLog([...boot, separator(24)])),
    log(
      'E22-tpm-1.2',
      'WEAK_BANK',
      Buffer.concat([u32(0), u32(8), Buffer.alloc(20, 1), u32(4), Buffer.from('v1.2'), Buffer.alloc(40)]),
    ),
    log('E24-unexplained', 'LOG_MISMATCH', whole, { sha256: { ...good['sha256'], 10: '11'.repeat(32) } }),
    log('E25-padding-allowed', 'OK', Buffer.concat([whole, Buffer.alloc(4096, 0xff)]), good),
    {
      id: 'E34-older-boots-beside',
      expected: 'OK',
      record: { files: ['older.bin', 'right.bin'], pcrs: good },
      files: { 'older.bin': encodeLog([...boot, image(4, 'old')]), 'right.bin': whole },
    },
  ].map(row => (row.id === 'E25-padding-allowed' ? { ...row, record: { ...row.record, padding: true } } : row)),
)

const key = (id: string, expected: string, modulus: bigint, e = 65537, more: object = {}): Row => {
  const hex = modulus.toString(16)
  return { id, expected, record: { modulus_hex: hex.padStart(hex.length + (hex.length % 2), '0'), e, ...more } }
}
const modulusOf = (label: string) => numberIn(pairOf('rsa-2048', label).privateKey.export({ format: 'jwk' }).n)
const primeOf = (label: string) => numberIn(pairOf('rsa-2048', label).privateKey.export({ format: 'jwk' }).p)
const numberIn = (text = '') => BigInt(`0x${Buffer.from(text, 'base64url').toString('hex')}`)
const small = numberIn(pairOf('rsa-1024').privateKey.export({ format: 'jwk' }).n)

runRows('weak keys', [
  key('W06-rsa1024', 'WEAK_KEY', small),
  key('W08-e-1', 'WEAK_KEY', modulusOf('one'), 1),
  key('W10-small-factor', 'WEAK_KEY', (modulusOf('one') / 7n) * 7n),
  key('W04-shared-prime', 'refuse-when-both-enrolled', primeOf('two') * primeOf('three')),
  key('W05-shared-prime', 'refuse-when-both-enrolled', primeOf('two') * primeOf('four')),
  key('W12-ok', 'OK', modulusOf('five')),
])

const root = makeCa(named('Root', 'Vectors'))
const ek = pairOf('P-256', 'ek').publicKey
const below = (changes: Partial<Fields> = {}) => makeCa(named('Inter', 'Vectors'), changes, root)

function chain(id: string, expected: string, leaf: Partial<Fields>, inter: Partial<Fields> = {}): Row {
  const between = below(inter)
  return chainOf(id, expected, [certifyEk(between, ek, leaf), between.certificate])
}
function chainOf(id: string, expected: string, certificates: readonly Buffer[]): Row {
  const names = certificates.map((_, place) => `${id}.${place}.der`)
  const record = { chain: names, trustAnchor: 'root.der', verifyAt: '2026-06-01T00:00:00Z' }
  return {
    id,
    expected,
    record,
    files: {
      'root.der': root.certificate,
      ...Object.fromEntries(names.map((name, place) => [name, certificates[place] ?? Buffer.alloc(0)])),
    },
  }
}
const [noCa = Buffer.alloc(0), usage = Buffer.alloc(0)] = EK_EXTENSIONS
const unknown = extension('1.2.3.4', true, Buffer.of(5, 0))
const caWith = (...extensions: Buffer[]) => ({ extensions })
const infineon = directoryName(tpmName(['id:49465800', 'SLB9672', 'id:0F0A']))

runRows('chains', [
  chain('X-ok', 'OK', {}),
  chain('X-ok-99991231', 'OK', { notAfter: new Date('9999-12-31T23:59:59Z') }),
  chain('X-leaf-notyet', 'CERT_EXPIRED', { notBefore: new Date('2030-01-01T00:00:00Z') }),
  chain('X-inter-ca-false', 'NOT_A_CA', {}, caWith(basicConstraints(false), keyUsage(0x06))),
  chain('X-inter-no-keycertsign', 'NOT_A_CA', {}, caWith(basicConstraints(true), keyUsage(0x80))),
  chain('X-unknown-critical-in-leaf', 'UNKNOWN_CRITICAL_EXT', { extensions: [...EK_EXTENSIONS, unknown] }),
  chain('X-eku-not-tpm', 'EKU', { extensions: [noCa, usage, extKeyUsage('1.3.6.1.5.5.7.3.1'), san()] }),
  chain(
    'X-nameconstraints',
    'NAME_CONSTRAINTS',
    {},
    caWith(basicConstraints(true), keyUsage(0x06), nameConstraints([], [infineon])),
  ),
  chainOf('X-wrong-issuer-name', 'BAD_CHAIN', [certifyEk(below(), ek, { issuer: named('Another') }), below().certificate]),
  chainOf('X-no-intermediate', 'BAD_CHAIN', [certifyEk(below(), ek)]),
  chain('X-sha1', 'WEAK_HASH', { hash: 'sha1' }),
])
