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

  const head = (...entries: readonly (readonly [unknown, unknown])[]) => ({ head: map(...entries) })
  const rim = [3, 'application/rim+cbor'] as const
  test.each([
    ['UNSUPPORTED_ALG', head([1, -37], rim)],
    ['UNSUPPORTED_ALG', head([1, 5], rim)],
    ['SIGNATURE', head([1, -35], rim)],
    ['BAD_ENCODING', head(rim)],
    ['BAD_ENCODING', head([1, -7])],
    ['BAD_ENCODING', head([1, -7], [3, 'application/json'])],
    ['BAD_ENCODING', head([1, -7], [2, [4]], rim)],
    ['BAD_ENCODING', { tag: 98 }],
  ])('%s, of an envelope that is another one, case %#', (code, envelope) => expect(judged(good, envelope)).toBe(code))

  const of = (...given: Parameters<typeof comidOf>) => manifestOf([comidOf(...given)])
  const registers = (given: Digests) => of(triplesOf(measurement(given)))
  const fine = triplesOf(measurement(REGISTERS))
  test.each([
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
