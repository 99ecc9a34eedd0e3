import { createHash, generateKeyPairSync } from 'node:crypto'
import { encode, Tagged } from 'cborg'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type CorimKey, verifyCorim } from '#attestation'
import { outcome, unwrap } from './attester.ts'
import { comidOf, type Digests, environment, manifestOf, map, measurement, signedBy, triplesOf, validity } from './corim_maker.ts'

const p256 = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' })
const ed25519 = generateKeyPairSync('ed25519')
const other = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const keys: readonly CorimKey[] = [
  { name: 'other', key: other.publicKey },
  { name: 'acme', key: p256.publicKey },
  { name: 'acme-384', key: p384.publicKey },
  { name: 'acme-ed', key: ed25519.publicKey },
]

const digest = (content: string, hash = 'sha256') => createHash(hash).update(content).digest()
const REGISTERS: Digests = {
  0: [[1, digest('0')]],
  7: [
    [1, digest('7')],
    ['my-alg-id', Buffer.of(1)],
    [7, digest('7', 'sha384')],
  ],
}
const good = manifestOf([comidOf(triplesOf(measurement(REGISTERS)))])
const judged = (payload: unknown, envelope: Parameters<typeof signedBy>[2] = {}) =>
  outcome(verifyCorim(signedBy(p256.privateKey, payload, envelope), keys))

const of = (...given: Parameters<typeof comidOf>) => manifestOf([comidOf(...given)])
const registers = (given: Digests) => of(triplesOf(measurement(given)))
const fine = triplesOf(measurement(REGISTERS))
const withId = (id: unknown) => manifestOf([comidOf(fine)], [], id)
const valid = (...members: readonly (readonly [unknown, unknown])[]) => manifestOf([comidOf(fine)], [[4, map(...members)]])
const REGISTER = map([0, [[1, digest('0')]]])
const head = (...entries: readonly (readonly [unknown, unknown])[]) => ({ head: map(...entries) })
const rim = [3, 'application/rim+cbor'] as const

describe('a signed CoRIM', () => {
  test('says which PCRs have which digests, who signed it and for how long it counts', () => {
    const payload = manifestOf([comidOf(triplesOf(measurement(REGISTERS)))], [validity(1_700_000_000, 1_900_000_000)])
    expect(unwrap(verifyCorim(signedBy(p256.privateKey, payload), keys))).toEqual({
      id: 'acme-2026-11',
      signer: 'acme',
      pcrs: {
        sha256: { 0: digest('0').toString('hex'), 7: digest('7').toString('hex') },
        sha384: { 7: digest('7', 'sha384').toString('hex') },
      },
      notBefore: 1_700_000_000,
      notAfter: 1_900_000_000,
    })
  })

  test.each([
    ['acme-384', p384],
    ['acme-ed', ed25519],
  ] as const)('%s may sign too', (signer, { privateKey }) => {
    expect(unwrap(verifyCorim(signedBy(privateKey, good), keys))).toMatchObject({ signer })
  })

  test.each([
    [-9, p256],
    [-51, p384],
    [-19, ed25519],
  ] as const)('algorithm %i names the curve as well', (algorithm, { privateKey }) => {
    expect(outcome(verifyCorim(signedBy(privateKey, good, head([1, algorithm], rim)), keys))).toBe('OK')
  })

  const YEAR_9999 = 253_402_300_799
  test.each<readonly [string, unknown, object]>([
    ['that is signed for good', good, {}],
    ['with an id of 128 characters', withId('a'.repeat(128)), { id: 'a'.repeat(128) }],
    ['with the bytes of a UUID', withId(Buffer.alloc(16, 1)), { id: '01'.repeat(16) }],
    ['that begins to count some day', valid([1, YEAR_9999], [0, 0]), { notBefore: 0, notAfter: YEAR_9999 }],
    ['that has counted since ever', valid([1, 0]), { notAfter: 0 }],
    ['that says who made it', manifestOf([comidOf(fine)], [[5, []]]), {}],
    [
      'whose CoMID says more of itself',
      manifestOf([
        comidOf(fine, [
          [0, 'en'],
          [2, []],
        ]),
      ]),
      {},
    ],
    ['of a measurement with a key and a name', of(triplesOf(map([0, 1], [1, map([11, 'PCRs'], [14, REGISTER])]))), {}],
    [
      'of PCR 23',
      registers({ 23: [['sha-512', digest('23', 'sha512')]] }),
      { pcrs: { sha512: { 23: digest('23', 'sha512').toString('hex') } } },
    ],
  ])('%s', (_, payload, said) => {
    const corim = unwrap(verifyCorim(signedBy(p256.privateKey, payload), keys))
    expect(corim).toMatchObject(said)
    expect(Object.keys(corim).filter(name => name.startsWith('not'))).toEqual(
      Object.keys(said).filter(name => name.startsWith('not')),
    )
  })

  test('by several measurements, of one that stands alone, with an id that is a UUID', () => {
    const uuid = Buffer.alloc(16, 0xab)
    const two = triplesOf(measurement({ 0: [['sha-256', digest('0')]] }), measurement({ 4: [[8, digest('4', 'sha512')]] }))
    expect(
      unwrap(verifyCorim(signedBy(p256.privateKey, manifestOf([comidOf(two)], [], new Tagged(37, uuid))), keys)),
    ).toMatchObject({
      id: 'ab'.repeat(16),
      pcrs: { sha256: { 0: digest('0').toString('hex') }, sha512: { 4: digest('4', 'sha512').toString('hex') } },
    })
    const alone = map([0, [[environment, measurement(REGISTERS)]]])
    expect(judged(manifestOf([comidOf(alone)]))).toBe('OK')
  })
})

describe('is refused', () => {
  const signed = signedBy(p256.privateKey, good)
  test('when the signature is not of one of the keys over this manifest', () => {
    expect(outcome(verifyCorim(signed, []))).toBe('SIGNATURE')
    expect(outcome(verifyCorim(signed, [{ name: 'other', key: other.publicKey }]))).toBe('SIGNATURE')
    expect(outcome(verifyCorim(signed, [{ name: 'acme-384', key: p384.publicKey }]))).toBe('SIGNATURE')
    expect(judged(good, { signature: Buffer.alloc(64, 1) })).toBe('SIGNATURE')
    expect(judged(good, { signature: Buffer.alloc(0) })).toBe('SIGNATURE')
    const changed = Buffer.from(signed)
    changed.writeUInt8(changed.readUInt8(changed.indexOf(digest('0'))) ^ 1, changed.indexOf(digest('0')))
    expect(outcome(verifyCorim(changed, keys))).toBe('SIGNATURE')
  })

  test.each([
    ['UNSUPPORTED_ALG', head([1, -37], rim)],
    ['UNSUPPORTED_ALG', head([1, 5], rim)],
    ['SIGNATURE', head([1, -35], rim)],
    ['BAD_ENCODING', head(rim)],
    ['BAD_ENCODING', head([1, -7])],
    ['BAD_ENCODING', head([1, -7], [3, 'application/json'])],
    ['BAD_ENCODING', head([1, -7], [2, [4]], rim)],
    ['BAD_ENCODING', head([1, 'ES256'], rim)],
    ['BAD_ENCODING', { tag: 98 }],
    ['BAD_ENCODING', { tag: 501 }],
    ['SIGNATURE', head([1, -8], rim)],
  ])('%s, of an envelope that is another one, case %#', (code, envelope) => expect(judged(good, envelope)).toBe(code))

  const [fields, content, signature] = [encode(head([1, -7], rim).head), encode(good), Buffer.alloc(64, 1)]
  test.each<readonly [string, unknown]>([
    ['three parts', [fields, map(), content]],
    ['five parts', [fields, map(), content, signature, signature]],
    ['no parts', map([0, fields])],
    ['a head of text', ['head', map(), content, signature]],
    ['a head that is cut', [fields.subarray(0, -1), map(), content, signature]],
    ['a head that is no map', [encode([1, -7]), map(), content, signature]],
    ['an open head that is no map', [fields, [], content, signature]],
    ['its payload elsewhere', [fields, map(), null, signature]],
    ['a signature of text', [fields, map(), content, 'signature']],
  ])('BAD_ENCODING, of %s', (_, parts) => {
    expect(outcome(verifyCorim(Buffer.from(encode(new Tagged(18, parts))), keys))).toBe('BAD_ENCODING')
  })

  const nested = encode(Array.from({ length: 16 }).reduce<unknown>(inner => [inner], []))
  test('LIMIT, of a head that is nested', () => {
    const envelope = encode(new Tagged(18, [nested, map(), content, signature]))
    expect(outcome(verifyCorim(Buffer.from(envelope), keys))).toBe('LIMIT')
  })

  test.each([
    ['LIMIT', manifestOf([new Tagged(506, nested)])],
    ['BAD_ENCODING', of(triplesOf(measurement({ 0: [[1, digest('0')]] }), measurement({ 0: [[7, digest('0', 'sha384')]] })))],
    ['BAD_ENCODING', new Tagged(501, [])],
    ['BAD_ENCODING', new Tagged(32, map([0, 'id'], [1, [comidOf(fine)]]))],
    [
      'LIMIT',
      new Tagged(
        501,
        Array.from({ length: 16 }).reduce<unknown>(inner => [inner], []),
      ),
    ],
    ['BAD_ENCODING', new Tagged(501, map([0, 'id'], [1, 5]))],
    ['BAD_ENCODING', manifestOf([new Tagged(506, 'CoMID')])],
    ['BAD_ENCODING', manifestOf([new Tagged(506, encode([]))])],
    ['BAD_ENCODING', manifestOf([new Tagged(506, Buffer.of(0xa1))])],
    ['BAD_ENCODING', withId('')],
    ['BAD_ENCODING', withId('a'.repeat(129))],
    ['BAD_ENCODING', withId(Buffer.alloc(15, 1))],
    ['BAD_ENCODING', withId(new Tagged(37, 'a UUID'))],
    ['BAD_ENCODING', withId(new Tagged(111, Buffer.alloc(16)))],
    ['BAD_ENCODING', manifestOf([comidOf(fine)], [[4, 1_900_000_000]])],
    ['BAD_ENCODING', valid([1, 253_402_300_800])],
    ['BAD_ENCODING', valid([1, 1.5])],
    ['BAD_ENCODING', valid([1, '2030-01-01'])],
    ['BAD_ENCODING', valid([1, 5], [0, -1])],
    ['BAD_ENCODING', valid([0, 1], [2, 5])],
    ['BAD_ENCODING', valid([0, 1], [1, 5], [2, 5])],
    ['BAD_ENCODING', of(5)],
    ['BAD_ENCODING', of(map([0, 5]))],
    ['BAD_ENCODING', of(map([0, [5]]))],
    ['BAD_ENCODING', of(map([0, [['ACME Inc.', [measurement(REGISTERS)]]]]))],
    ['BAD_ENCODING', of(triplesOf(5))],
    ['BAD_ENCODING', of(triplesOf(map([1, 5])))],
    ['BAD_ENCODING', of(triplesOf(map([1, map([14, REGISTER])], [2, 5])))],
    ['BAD_ENCODING', of(triplesOf(map([1, map([14, REGISTER], [11, 'PCRs'], [1, 5])])))],
    ['BAD_ENCODING', of(triplesOf(map([1, map([14, map([-1, [[1, digest('0')]]])])])))],
    ['BAD_ENCODING', of(triplesOf(map([1, map([14, map([0.5, [[1, digest('0')]]])])])))],
    ['BAD_ENCODING', of(triplesOf(map([1, map([14, map([0, [[1, digest('0'), 1]]])])])))],
    ['BAD_ENCODING', of(triplesOf(map([1, map([14, map([0, [[1, 'digest']]])])])))],
    ['BAD_ENCODING', of(triplesOf(map([1, map([14, map([0, [[Buffer.of(1), digest('0')]]])])])))],
    ['BAD_ENCODING', of(triplesOf(map([1, map([14, map([0, [5]])])])))],
    ['WEAK_BANK', of(triplesOf(map([1, map([14, map([0, 5])])])))],
    ['WEAK_BANK', registers({ 0: [['1', digest('0')]] })],
    ['WEAK_BANK', registers({ 0: [['constructor', digest('0')]] })],
    ['WEAK_BANK', registers({ 0: [[1, digest('0')]], 1: [] })],
    ['BAD_ENCODING', map([0, 'id'], [1, [comidOf(fine)]])],
    ['BAD_ENCODING', manifestOf([])],
    ['BAD_ENCODING', manifestOf([comidOf(fine), comidOf(fine)])],
    ['BAD_ENCODING', manifestOf([new Tagged(505, encode(map()))])],
    ['BAD_ENCODING', manifestOf([comidOf(fine)], [[2, []]])],
    ['BAD_ENCODING', manifestOf([comidOf(fine)], [[3, 'https://example.com/profile']])],
    ['BAD_ENCODING', manifestOf([comidOf(fine)], [[4, map([0, 1])]])],
    ['BAD_ENCODING', manifestOf([comidOf(fine)], [[4, map([1, -1])]])],
    ['BAD_ENCODING', manifestOf([comidOf(fine)], [[4, map([1, 1], [2, 1])]])],
    ['BAD_ENCODING', manifestOf([comidOf(fine)], [], 7)],
    ['BAD_ENCODING', manifestOf([comidOf(fine)], [], 'a\nb')],
    ['BAD_ENCODING', of(fine, [[5, 'https://example.com/profile']])],
    ['BAD_ENCODING', of(map([0, [[environment, [measurement(REGISTERS)]]]], [1, []]))],
    ['BAD_ENCODING', of(map([1, [[environment, [measurement(REGISTERS)]]]]))],
    ['BAD_ENCODING', of(map([0, [0, 1].map(() => [environment, [measurement(REGISTERS)]])]))],
    ['BAD_ENCODING', of(map([0, [[environment, []]]]))],
    ['BAD_ENCODING', of(map([0, [[environment, [measurement(REGISTERS)], [1]]]]))],
    ['BAD_ENCODING', of(triplesOf(map([1, map([2, [[1, digest('0')]]])])))],
    ['BAD_ENCODING', of(triplesOf(map([1, map([1, 5], [14, map([0, [[1, digest('0')]]])])])))],
    ['BAD_ENCODING', of(triplesOf(map([1, map([14, map(['0', [[1, digest('0')]]])])])))],
    ['BAD_ENCODING', of(triplesOf(map([1, map([14, map()])])))],
    ['BAD_ENCODING', registers({ 24: [[1, digest('0')]] })],
    ['BAD_ENCODING', of(triplesOf(measurement(REGISTERS), measurement(REGISTERS)))],
    ['BAD_ENCODING', registers({ 0: [[1, Buffer.alloc(31)]] })],
    [
      'BAD_ENCODING',
      registers({
        0: [
          [1, digest('0')],
          ['sha-256', digest('1')],
        ],
      }),
    ],
    ['WEAK_BANK', registers({ 0: [['sha-1', Buffer.alloc(20)]] })],
    ['WEAK_BANK', registers({ 0: [] })],
  ])('%s, of a manifest that says something else, case %#', (code, payload) => expect(judged(payload)).toBe(code))

  test('when it is large, deep, or not all of it', () => {
    expect(outcome(verifyCorim(Buffer.alloc(65_537), keys))).toBe('LIMIT')
    expect(outcome(verifyCorim(Buffer.alloc(1000, 0x81), keys))).toBe('LIMIT')
    expect(outcome(verifyCorim(Buffer.alloc(1000, 0xd2), keys))).toBe('LIMIT')
    expect(outcome(verifyCorim(Buffer.concat([signed, Buffer.of(0)]), keys))).toBe('TRAILING_DATA')
    for (let end = 0; end < signed.length; end += 1)
      expect(outcome(verifyCorim(signed.subarray(0, end), keys))).toBe('BAD_ENCODING')
  })

  test('whatever bytes there are, by value', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), bytes => outcome(verifyCorim(bytes, keys)) !== 'OK'))
    const flip = fc.tuple(fc.nat(signed.length - 1), fc.integer({ min: 1, max: 255 }))
    const changed = ([at, by]: readonly [number, number]) => {
      const bytes = Buffer.from(signed)
      bytes.writeUInt8(bytes.readUInt8(at) ^ by, at)
      return outcome(verifyCorim(bytes, keys))
    }
    fc.assert(
      fc.property(flip, given => changed(given) !== 'OK'),
      { numRuns: 500 },
    )
  })
})
