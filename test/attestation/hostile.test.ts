import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  admitAk,
  admitEk,
  parsePcrTable,
  parsePublic,
  parseQuote,
  refusals,
  type Verdict,
  verifyEk,
  verifyQuote,
} from '#attestation'
import { readCertificate } from '../../attestation/certs/certificate.ts'
import { readEkCertificate } from '../../attestation/certs/ek_certificate.ts'
import { verifySignature } from '../../attestation/tpm2/signature.ts'
import { answer, makeAk, outcome, pairOf } from './attester.ts'
import { certifyEk, makeCa, NOW, named } from './certificates.ts'
import { ekAreaOf } from './endorsed.ts'

const keys = [makeAk('P-256', 'ECDSA'), makeAk('rsa-2048', 'RSASSA'), makeAk('rsa-2048', 'RSAPSS')]
const asked = keys.map(key => answer(key))
const ek = pairOf('rsa-2048', 'ek').publicKey
const root = makeCa(named('Root'))
const certificate = certifyEk(root, ek)

type Parser = readonly [
  name: string,
  parse: (bytes: Uint8Array) => Verdict<unknown> | Promise<Verdict<unknown>>,
  samples: readonly Uint8Array[],
]

/** Everything that takes bytes from the other side, with what it takes. */
const parsers: readonly Parser[] = [
  ['parsePublic', parsePublic, [...keys.map(({ area }) => area), ekAreaOf(ek)]],
  ['admitAk', bytes => admitAk(bytes), keys.map(({ area }) => area)],
  ['admitEk', admitEk, [ekAreaOf(ek), ekAreaOf(pairOf('P-384', 'ek').publicKey)]],
  ['parseQuote', parseQuote, asked.map(({ evidence }) => evidence.attest)],
  ...asked.map(
    ({ evidence, expected }): Parser => [
      `verifySignature ${expected.ak.scheme}`,
      bytes => verifySignature(bytes, evidence.attest, expected.ak),
      [evidence.signature],
    ],
  ),
  ...asked.map(
    ({ evidence, expected }): Parser => [
      `verifyQuote ${expected.ak.scheme}`,
      bytes => verifyQuote({ ...evidence, attest: bytes }, expected),
      [evidence.attest],
    ],
  ),
  [
    'parsePcrTable',
    bytes => parsePcrTable(Buffer.from(bytes).toString('latin1')),
    asked.map(({ evidence }) => Buffer.from(evidence.pcrs)),
  ],
  ['readCertificate', readCertificate, [certificate, root.certificate]],
  ['readEkCertificate', bytes => readEkCertificate(bytes), [certificate]],
  [
    'verifyEk',
    bytes =>
      verifyEk(
        { certificate: bytes, public: ekAreaOf(ek), intermediates: [bytes] },
        { anchors: [root.certificate], at: NOW, allowTestTpms: false },
      ),
    [certificate, root.certificate],
  ],
]

const codes = new Set(['OK', ...Object.keys(refusals)])
const byte = fc.nat(255)
/** Flips, inserts, repeats and cuts: at most a few of them. */
const mutation = fc.record({ at: fc.nat(2000), drop: fc.nat(4), put: fc.array(byte, { maxLength: 4 }) })

function mutate(sample: Uint8Array, changes: readonly { at: number; drop: number; put: number[] }[]): Buffer {
  return changes.reduce((bytes, { at, drop, put }) => {
    const place = bytes.length === 0 ? 0 : at % bytes.length
    return Buffer.concat([bytes.subarray(0, place), Buffer.from(put), bytes.subarray(place + drop)])
  }, Buffer.from(sample))
}

describe.each(parsers)('%s', (name, parse, samples) => {
  test('accepts what it should', async () => {
    for (const sample of samples.slice(0, 1)) expect(outcome(await parse(sample))).toBe('OK')
  })

  test('gives a verdict on any bytes', async () => {
    await fc.assert(fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async bytes => codes.has(outcome(await parse(bytes)))))
  })

  test('gives a verdict on what was changed in a few places', async () => {
    const changed = fc
      .tuple(fc.constantFrom(...samples), fc.array(mutation, { minLength: 1, maxLength: 3 }))
      .map(args => mutate(...args))
    await fc.assert(
      fc.asyncProperty(changed, async bytes => codes.has(outcome(await parse(bytes)))),
      { numRuns: 400 },
    )
  })

  test('refuses what is cut anywhere', async () => {
    const step = name === 'verifyEk' ? 16 : 1 // milliseconds each
    for (const sample of samples)
      for (let length = 0; length < sample.length; length += step)
        expect(outcome(await parse(sample.subarray(0, length)))).not.toBe('OK')
  })
})

describe('cut at every byte', () => {
  test.each(asked)('a quote is TRUNCATED', ({ evidence: { attest } }) => {
    for (let length = 0; length < attest.length; length += 1)
      expect(outcome(parseQuote(attest.subarray(0, length)))).toBe('TRUNCATED')
  })
  test.each(keys)('a public area is TRUNCATED, or no key', ({ area }) => {
    for (let length = 0; length < area.length; length += 1)
      expect(outcome(parsePublic(area.subarray(0, length)))).toBe('TRUNCATED')
  })
})

describe('any bit of what is signed', () => {
  test.each(asked)('$expected.ak.scheme', ({ evidence, expected }) => {
    for (let bit = 0; bit < evidence.attest.length * 8; bit += 1) {
      const attest = Buffer.from(evidence.attest)
      attest[bit >> 3] = (attest[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      expect(outcome(verifyQuote({ ...evidence, attest }, expected))).not.toBe('OK')
    }
  })
})

describe('certificates made to be slow', () => {
  const nested = (depth: number) => {
    let bytes = Buffer.of(5, 0)
    for (let level = 0; level < depth; level += 1)
      bytes = Buffer.concat([Buffer.of(0x30, 0x82, bytes.length >> 8, bytes.length & 0xff), bytes])
    return bytes
  }
  test.each([
    ['nested a thousand times', nested(1000)],
    ['of indefinite lengths', Buffer.alloc(8000, Buffer.of(0x30, 0x80))],
    ['of ten megabytes', Buffer.alloc(10_000_000, 0x30)],
  ])('%s', (_, bytes) => expect(['BAD_ENCODING', 'LIMIT']).toContain(outcome(readCertificate(bytes))))
})
