import { describe, expect, test } from 'vitest'
import { isSignedExactly, sequenceLength } from '../../attestation/certs/der.ts'
import { der, oid, sequence } from './certificates.ts'

describe('the length of a SEQUENCE', () => {
  const hex = (bytes: string, content = 0) => Buffer.concat([Buffer.from(bytes, 'hex'), Buffer.alloc(content)])
  test.each<readonly [string, number | undefined, Buffer]>([
    ['an empty one', 2, hex('3000')],
    ['with something after it', 2, hex('300005')],
    ['the longest in one byte', 129, hex('307f', 127)],
    ['the shortest in two', 131, hex('308180', 128)],
    ['the longest in two', 258, hex('3081ff', 255)],
    ['the shortest in three', 260, hex('30820100', 256)],
    ['the shortest in four', 65_541, hex('3083010000', 65_536)],
    ['in more bytes than it needs', undefined, hex('30817f', 127)],
    ['in three where two do', undefined, hex('308200ff', 255)],
    ['in four where three do', undefined, hex('3083001000', 4096)],
    ['in five', undefined, hex('308400000001', 1)],
    ['of no end', undefined, hex('30800000')],
    ['that ends too late', undefined, hex('3002', 1)],
    ['a SET', undefined, hex('3100')],
    ['a tag alone', undefined, hex('30')],
    ['nothing', undefined, hex('')],
    ['a length that is cut', undefined, hex('3082')],
  ])('%s: %s', (_, expected, bytes) => expect(sequenceLength(bytes)).toBe(expected))
})

describe('a list whose unsigned parts have one form', () => {
  const algorithm = sequence(oid('1.2.840.10045.4.3.2'))
  const other = sequence(oid('1.2.840.10045.4.3.3'))
  const integer = (...bytes: number[]) => der(0x02, Buffer.of(...bytes))
  const body = sequence(integer(1), algorithm, sequence())
  const bits = (...content: readonly Uint8Array[]) => der(0x03, Buffer.of(0), ...content)
  const pair = sequence(integer(5), integer(7))
  const exact = (...parts: readonly Uint8Array[]) => isSignedExactly(sequence(...parts), true)

  test('is taken, with a version and without', () => {
    expect(exact(body, algorithm, bits(pair))).toBe(true)
    expect(exact(sequence(algorithm, sequence()), algorithm, bits(pair))).toBe(true)
    expect(exact(sequence(algorithm), algorithm, bits(pair))).toBe(true)
  })
  test('an RSA signature is any bytes', () => {
    expect(isSignedExactly(sequence(body, algorithm, bits(Buffer.of(1, 2, 3))), false)).toBe(true)
    expect(exact(body, algorithm, bits(Buffer.of(1, 2, 3)))).toBe(false)
  })
  test.each<readonly [string, readonly Uint8Array[]]>([
    ['another algorithm outside', [body, other, bits(pair)]],
    ['the algorithm missing inside', [sequence(integer(1)), algorithm, bits(pair)]],
    ['nothing inside', [sequence(), algorithm, bits(pair)]],
    ['something after the signature', [body, algorithm, bits(pair), Buffer.of(5, 0)]],
    ['no signature', [body, algorithm]],
    ['no algorithm', [body]],
    ['nothing', []],
    ['a signature in another type', [body, algorithm, der(0x04, Buffer.of(0), pair)]],
    ['a signature of no whole bytes', [body, algorithm, der(0x03, Buffer.of(1), pair)]],
    ['an empty signature', [body, algorithm, der(0x03)]],
    ['one number', [body, algorithm, bits(sequence(integer(5)))]],
    ['three numbers', [body, algorithm, bits(sequence(integer(5), integer(7), integer(9)))]],
    ['something after the numbers', [body, algorithm, bits(pair, Buffer.of(0))]],
    ['no SEQUENCE of numbers', [body, algorithm, bits(der(0x31, integer(5), integer(7)))]],
    ['first no number', [body, algorithm, bits(sequence(der(0x04, Buffer.of(5)), integer(7)))]],
    ['then no number', [body, algorithm, bits(sequence(integer(5), der(0x04, Buffer.of(7))))]],
  ])('is refused with %s', (_, parts) => expect(exact(...parts)).toBe(false))
  test('no bytes are no list', () => expect(isSignedExactly(Buffer.alloc(0), true)).toBe(false))
})
