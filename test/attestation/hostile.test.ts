import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parsePublic, parseQuote, refusals, verifyQuote } from '#attestation'
import { readCertificate } from '../../attestation/certs/certificate.ts'
import { parse } from '../../attestation/tpm2/bytes.ts'
import { outcome } from './attester.ts'
import { asked, changed, keys, parsers } from './parsers.ts'
import { signedParsers } from './signed_parsers.ts'

const codes = new Set(['OK', ...Object.keys(refusals)])

describe.each(parsers)('$name', ({ name, parse, samples }) => {
  test('accepts what it should', async () => {
    for (const sample of samples.slice(0, 1)) expect(outcome(await parse(sample))).toBe('OK')
  })

  test('gives a verdict on any bytes', async () => {
    await fc.assert(fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async bytes => codes.has(outcome(await parse(bytes)))))
  })

  test('gives a verdict on what was changed in a few places', async () => {
    await fc.assert(
      fc.asyncProperty(changed(samples), async bytes => codes.has(outcome(await parse(bytes)))),
      { numRuns: 400 },
    )
  })

  test('refuses what is cut anywhere', async () => {
    const step = ['verifyEk', 'verifyNitroDocument'].includes(name) ? 16 : 1 // milliseconds each
    for (const sample of samples)
      for (let length = 0; length < sample.length; length += step)
        expect(outcome(await parse(sample.subarray(0, length)))).not.toBe('OK')
  })
})

describe.each(signedParsers)('behind a signature: $name', ({ parse, samples }) => {
  test('accepts what it should', async () => {
    for (const sample of samples) expect(outcome(await parse(sample))).toBe('OK')
  })
  test('gives a verdict on any bytes, and on what was changed in a few places', async () => {
    const inputs = fc.oneof(fc.uint8Array({ maxLength: 300 }), changed(samples))
    await fc.assert(
      fc.asyncProperty(inputs, async bytes => codes.has(outcome(await parse(bytes)))),
      { numRuns: 100 },
    )
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

test('what is a mistake of ours is thrown past the parser', () => {
  const mistaken = () => {
    throw new TypeError('a mistake')
  }
  expect(() => parse(Buffer.alloc(0), 1, mistaken)).toThrow('a mistake')
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
