import { createHash, createPublicKey } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { admitAk, alg, attribute, curves, jwkOf, keyObjectOf, nameOf, parsePublic, qualifiedNameOf, spkiOf } from '#attestation'
import { AK_ATTRIBUTES, type Area, areaOf, encodeArea, makeAk, outcome, pairOf, unwrap } from './attester.ts'
import { ekAreaOf } from './endorsed.ts'

const rsa = pairOf('rsa-2048').publicKey
const p256 = pairOf('P-256').publicKey
const p384 = pairOf('P-384').publicKey
const [x = Buffer.alloc(0), y = Buffer.alloc(0)] = areaOf(p256).unique
const zeros = (size: number) => Buffer.alloc(size)

describe('public areas', () => {
  test.each([rsa, p256, p384])('are the key that they hold', key => {
    const area = unwrap(parsePublic(encodeArea(areaOf(key))))
    expect(keyObjectOf(area).equals(key)).toBe(true)
    expect(jwkOf(area)).toEqual(key.export({ format: 'jwk' }))
    expect(spkiOf(area)).toEqual(key.export({ type: 'spki', format: 'der' }))
  })

  test('have one SubjectPublicKeyInfo, however the key was written before', () => {
    const compressed = createPublicKey({
      key: compress(p256.export({ type: 'spki', format: 'der' })),
      format: 'der',
      type: 'spki',
    })
    expect(spkiOf(unwrap(parsePublic(encodeArea(areaOf(compressed)))))).toEqual(p256.export({ type: 'spki', format: 'der' }))
  })

  test('keep what the TPM says of the key', () => {
    const area = unwrap(parsePublic(ekAreaOf(p384)))
    expect(area).toMatchObject({
      kind: 'ecc',
      curve: 'P-384',
      nameAlg: 'sha384',
      attributes: 0x000300f2,
      scheme: null,
      kdf: null,
    })
    expect(area.symmetric).toEqual({ alg: alg.AES, bits: 256, mode: alg.CFB })
    const signing = unwrap(parsePublic(makeAk('rsa-2048', 'RSAPSS', 'sha384').area))
    expect(signing).toMatchObject({ kind: 'rsa', bits: 2048, exponent: 65537, scheme: { alg: alg.RSAPSS, hash: 'sha384' } })
  })

  test('have a Name that hashes every byte, under their own nameAlg', () => {
    const bytes = encodeArea({ ...areaOf(p256), nameAlg: alg.SHA384 })
    expect(nameOf(bytes)).toEqual(Buffer.concat([Buffer.of(0x00, 0x0c), createHash('sha384').update(bytes).digest()]))
    expect(nameOf(bytes, 'sha256').length).toBe(34)
    expect(() => nameOf(Buffer.of(1, 2, 3))).toThrow('a parsed public area')
  })

  test('are copied: who changes the bytes later changes nothing', () => {
    const bytes = makeAk('P-256', 'ECDSA').area
    const given = Buffer.from(bytes)
    const area = unwrap(parsePublic(given))
    given.fill(0)
    expect(area.bytes).toEqual(bytes)
    expect(keyObjectOf(area).equals(p256)).toBe(true)
  })
})

/** Bit 0 of the tag of the point says whether y is odd (SEC 1, 2.3.3). */
function compress(spki: Buffer): Buffer {
  const point = spki.subarray(-65)
  const short = Buffer.concat([Buffer.of(2 + ((point[64] ?? 0) & 1)), point.subarray(1, 33)])
  const head = Buffer.from(spki.subarray(0, -65))
  head[1] = (head[1] ?? 0) - 32
  head[head.length - 2] = (head[head.length - 2] ?? 0) - 32
  return Buffer.concat([head, short])
}

const rsaCases: readonly (readonly [string, string, Partial<Area>])[] = [
  ['as it is', 'OK', {}],
  ['exponent 65537 written out', 'OK', { exponent: 65537 }],
  ['a modulus shorter than declared', 'BAD_KEY', { details: [4096] }],
  [
    'a modulus with a leading zero',
    'BAD_KEY',
    { unique: [Buffer.concat([zeros(1), (areaOf(rsa).unique[0] ?? zeros(1)).subarray(1)])] },
  ],
  [
    'a modulus with no bit to spare',
    'OK',
    { unique: [Buffer.concat([Buffer.of(0x80), (areaOf(rsa).unique[0] ?? zeros(1)).subarray(1)])] },
  ],
  ['an empty modulus', 'BAD_KEY', { details: [0], unique: [zeros(0)] }],
  ['RSA-16384, before any arithmetic', 'LIMIT', { details: [16384], unique: [Buffer.alloc(1900, 0xff)] }],
  ['more bytes than read', 'LIMIT', { unique: [Buffer.alloc(2048, 0xff)] }],
  ['KEYEDHASH', 'BAD_KEY', { type: alg.KEYEDHASH }],
  ['SYMCIPHER', 'BAD_KEY', { type: alg.SYMCIPHER }],
  ['an unknown nameAlg', 'UNSUPPORTED_ALG', { nameAlg: 0x0012 }],
  ['no nameAlg', 'UNSUPPORTED_ALG', { nameAlg: alg.NULL }],
  ['an unknown cipher', 'UNSUPPORTED_ALG', { symmetric: [0x0013, 128, alg.CFB] }],
  ['a scheme of another kind of key', 'UNSUPPORTED_ALG', { scheme: [alg.ECDSA, alg.SHA256] }],
  ['an unknown hash in the scheme', 'UNSUPPORTED_ALG', { scheme: [alg.RSASSA, 0x0012] }],
  ['RSAES, which has no hash', 'OK', { scheme: [alg.RSAES] }],
]
/** The point of P-256 with x = 0: y is a square root of b (SEC 2, 2.4.2). */
const yOfZero = Buffer.from('66485c780e2f83d72433bd5d84a06bb6541c2af31dae871728bf856a174f93f4', 'hex')
const eccCases: readonly (readonly [string, string, Partial<Area>])[] = [
  ['as it is', 'OK', {}],
  ['BN-256', 'BAD_KEY', { details: [0x0010, alg.NULL] }],
  ['a point off the curve', 'BAD_KEY', { unique: [x, x] }],
  ['x not below p', 'BAD_KEY', { unique: [Buffer.alloc(32, 0xff), y] }],
  ['infinity', 'BAD_KEY', { unique: [zeros(32), zeros(32)] }],
  ['no coordinates', 'BAD_KEY', { unique: [zeros(0), zeros(0)] }],
  ['x = 0', 'OK', { unique: [zeros(32), yOfZero] }],
  ['x = 0, left out', 'BAD_KEY', { unique: [zeros(0), yOfZero] }],
  ['a coordinate too long', 'BAD_KEY', { unique: [Buffer.concat([zeros(1), x]), y] }],
  ['a coordinate too few', 'TRUNCATED', { unique: [x] }],
  ['a coordinate too many', 'TRAILING_DATA', { unique: [x, y, zeros(1)] }],
  ['a key derivation', 'OK', { details: [curves['P-256'].id, alg.KDF1_SP800_56A, alg.SHA256] }],
  ['ECDAA', 'UNSUPPORTED_ALG', { scheme: [0x001a, alg.SHA256, 0] }],
]

describe('malformed public areas', () => {
  test.each(rsaCases)('RSA, %s: %s', (_, expected, changes) => {
    expect(outcome(parsePublic(encodeArea({ ...areaOf(rsa), ...changes })))).toBe(expected)
  })
  test.each(eccCases)('ECC, %s: %s', (_, expected, changes) => {
    expect(outcome(parsePublic(encodeArea({ ...areaOf(p256), ...changes })))).toBe(expected)
  })

  test('coordinates without their leading zeros are those with them', () => {
    const short = shortCoordinate()
    const area = unwrap(parsePublic(encodeArea({ ...areaOf(short.key), unique: short.unique })))
    expect(jwkOf(area)).toEqual(short.key.export({ format: 'jwk' }))
    expect(spkiOf(area)).toEqual(short.key.export({ type: 'spki', format: 'der' }))
  })

  test('TPM2B_PUBLIC is not TPMT_PUBLIC', () => {
    const bytes = makeAk('P-256', 'ECDSA').area
    expect(outcome(parsePublic(Buffer.concat([Buffer.of(0, bytes.length), bytes])))).toBe('BAD_KEY')
  })
})

/** A key whose x begins with a zero byte, of which one in 256 does. */
function shortCoordinate() {
  for (let attempt = 0; ; attempt += 1) {
    const key = pairOf('P-256', `short ${attempt}`).publicKey
    const [first = zeros(1), second = zeros(1)] = areaOf(key).unique
    if (first[0] === 0) return { key, unique: [first.subarray(1), second] }
  }
}

const ak = (changes: Partial<Area>) => makeAk('P-256', 'ECDSA', 'sha256', changes).area
const { restricted, sign, fixedTPM, fixedParent, sensitiveDataOrigin, decrypt, stClear, encryptedDuplication } = attribute
const akCases: readonly (readonly [string, string, Buffer])[] = [
  ['ECDSA on P-256', 'OK', ak({})],
  ['ECDSA on P-384 with SHA-384', 'OK', makeAk('P-384', 'ECDSA', 'sha384').area],
  ['RSASSA', 'OK', makeAk('rsa-2048', 'RSASSA').area],
  ['RSAPSS', 'OK', makeAk('rsa-2048', 'RSAPSS', 'sha512').area],
  ...[restricted, sign, fixedTPM, fixedParent, sensitiveDataOrigin].map(
    bit => [`without 0x${bit.toString(16)}`, 'AK_ATTRIBUTES', ak({ attributes: AK_ATTRIBUTES & ~bit })] as const,
  ),
  ...[decrypt, stClear, encryptedDuplication, 0x1, 0x8, 0x100, 0x80000, 0x80000000].map(
    bit => [`with 0x${bit.toString(16)}`, 'AK_ATTRIBUTES', ak({ attributes: (AK_ATTRIBUTES | bit) >>> 0 })] as const,
  ),
  [
    'with neither userWithAuth nor noDA',
    'OK',
    ak({ attributes: restricted | sign | fixedTPM | fixedParent | sensitiveDataOrigin }),
  ],
  ['no scheme', 'AK_ATTRIBUTES', ak({ scheme: [alg.NULL] })],
  ['a scheme that agrees on keys', 'AK_ATTRIBUTES', ak({ scheme: [alg.ECDH, alg.SHA256] })],
  ['a scheme that decrypts', 'AK_ATTRIBUTES', makeAk('rsa-2048', 'RSASSA', 'sha256', { scheme: [alg.RSAES] }).area],
  ['a cipher', 'AK_ATTRIBUTES', ak({ symmetric: [alg.AES, 128, alg.CFB] })],
  ['a policy that is not known', 'AK_ATTRIBUTES', ak({ authPolicy: zeros(32) })],
  ['SHA-1 in the scheme', 'WEAK_HASH', ak({ scheme: [alg.ECDSA, alg.SHA1] })],
  ['SHA-1 for the Name', 'WEAK_KEY', ak({ nameAlg: alg.SHA1 })],
  ['RSA-1024', 'WEAK_KEY', makeAk('rsa-1024', 'RSASSA').area],
  ['exponent 3', 'WEAK_KEY', makeAk('rsa-2048', 'RSASSA', 'sha256', { exponent: 3 }).area],
  ['a point off the curve', 'BAD_KEY', ak({ unique: [x, x] })],
  ['a trailing byte', 'TRAILING_DATA', Buffer.concat([ak({}), zeros(1)])],
  ['an endorsement key', 'AK_ATTRIBUTES', ekAreaOf(p256)],
]

describe('attestation keys', () => {
  test.each(akCases)('%s: %s', (_, expected, bytes) => expect(outcome(admitAk(bytes))).toBe(expected))

  test('a policy that is allowed by its digest', () => {
    const authPolicies = [Buffer.alloc(32, 1), zeros(32)]
    expect(outcome(admitAk(ak({ authPolicy: zeros(32) }), { authPolicies }))).toBe('OK')
    expect(outcome(admitAk(ak({ authPolicy: zeros(31) }), { authPolicies }))).toBe('AK_ATTRIBUTES')
  })

  test('attributes that are wrong are said in eight digits', () =>
    expect(admitAk(ak({ attributes: 0x72 }))).toHaveProperty('detail', 'TPMA_OBJECT is 0x00000072, wanted 0x50032'))

  test('every byte counts for the Name', () => {
    const bytes = makeAk('P-256', 'ECDSA').area
    expect(unwrap(admitAk(bytes)).name).toEqual(nameOf(bytes))
  })
})

describe('qualified names', () => {
  const { name } = unwrap(admitAk(makeAk('P-256', 'ECDSA').area))
  const hash = (...parts: Buffer[]) =>
    Buffer.concat([Buffer.of(0, 0x0b), createHash('sha256').update(Buffer.concat(parts)).digest()])
  const ek = ekAreaOf(p256)

  test('say in which hierarchy and under which key a key lives', () => {
    expect(qualifiedNameOf('owner', name)).toEqual(hash(Buffer.from('40000001', 'hex'), name))
    expect(qualifiedNameOf('endorsement', name)).toEqual(hash(Buffer.from('4000000b', 'hex'), name))
    expect(qualifiedNameOf('ek', name, ek)).toEqual(hash(hash(Buffer.from('4000000b', 'hex'), nameOf(ek)), name))
  })

  test('are computed with the nameAlg of each key', () => {
    const strong = ekAreaOf(p384)
    const parent = Buffer.concat([
      Buffer.of(0, 0x0c),
      createHash('sha384').update(Buffer.from('4000000b', 'hex')).update(nameOf(strong)).digest(),
    ])
    expect(qualifiedNameOf('ek', name, strong)).toEqual(hash(parent, name))
  })

  test('need what they are made of', () => {
    expect(() => qualifiedNameOf('ek', name)).toThrow('needs the public area of the EK')
    expect(() => qualifiedNameOf('owner', name.subarray(1))).toThrow('not a Name')
    expect(() => qualifiedNameOf('owner', name.subarray(0, -1))).toThrow('not a Name')
  })
})
