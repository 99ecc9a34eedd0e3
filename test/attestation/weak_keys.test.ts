import { checkPrimeSync, generatePrimeSync, getDiffieHellman } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { admitAk, alg, sharesPrime, weaknessOf } from '#attestation'
import { AK_ATTRIBUTES, areaOf, encodeArea, outcome, pairOf } from './attester.ts'
import { counted, present, readJson, unhex } from './vectors.ts'

type Case = {
  readonly id: string
  readonly modulus_hex: string
  readonly e: number
  readonly bits: number
  readonly expected: string
}
const { cases } = readJson<{ cases: Case[] }>('weak-keys/cases.json', { cases: [] })

describe.skipIf(!present)('weak moduli', () => {
  const count = counted('weak-keys')
  test.each(cases)('$id: $expected', ({ modulus_hex: hex, e: exponent, expected }) => {
    // a key that is weak beside another one only is good by itself
    expect(outcome(admitAk(rsaArea(unhex(hex), exponent)))).toBe(expected === 'refuse' ? 'WEAK_KEY' : 'OK')
    count()
  })

  test('two keys with a prime in common', () => {
    const [one = Buffer.alloc(0), other = Buffer.alloc(0)] = cases
      .filter(({ id }) => id.includes('shared-prime'))
      .map(({ modulus_hex: hex }) => unhex(hex))
    expect(sharesPrime(one, [other])).toBe(true)
    expect(sharesPrime(other, [one])).toBe(true)
    expect(sharesPrime(one, [one])).toBe(false)
  })
})

function rsaArea(modulus: Buffer, exponent = 65537): Buffer {
  const area = areaOf(pairOf('rsa-2048').publicKey)
  const signing = { attributes: AK_ATTRIBUTES, scheme: [alg.RSASSA, alg.SHA256] }
  return encodeArea({ ...area, ...signing, details: [modulus.length * 8], exponent, unique: [modulus] })
}

const prime = (bits: number) => generatePrimeSync(bits, { bigint: true })
const bytesOf = (value: bigint, bits = 2048) => Buffer.from(value.toString(16).padStart(bits / 4, '0'), 'hex')
const good = Buffer.from(pairOf('rsa-2048').publicKey.export({ format: 'jwk' }).n ?? '', 'base64url')
/** RFC 3526 */
const primeOf = (group: string) => getDiffieHellman(group).getPrime()
const multiple = (factor: bigint) => bytesOf(factor * prime(2030))

/** The product of a prime and the next one. */
function closePrimes(): Buffer {
  const one = prime(1024)
  let next = one + 2n
  while (!checkPrimeSync(next)) next += 2n
  return bytesOf(one * next)
}

/** The product of two primes whose arithmetic mean is so many above its square root. */
function primesApart(distance: number): Buffer {
  const one = prime(1024)
  const apart = squareRoot((2n * one * BigInt(Math.round(distance * 1000))) / 1000n)
  let other = one + 2n * apart
  other += 1n - (other & 1n)
  while (!checkPrimeSync(other)) other += 2n
  return bytesOf(one * other)
}

/** By halving the interval. */
function squareRoot(value: bigint): bigint {
  let [low, high] = [0n, 1n << 1025n]
  while (high - low > 1n) {
    const middle = (low + high) >> 1n
    if (middle * middle > value) high = middle
    else low = middle
  }
  return low
}

/** Of the processor, so that what else runs does not count. */
function microseconds(run: () => unknown): number {
  const begun = process.cpuUsage()
  run()
  const { user, system } = process.cpuUsage(begun)
  return user + system
}

describe('weaknesses', () => {
  const cases: readonly (readonly [string, RegExp | undefined, { bits?: number; exponent?: number; modulus?: Buffer }])[] = [
    ['an ordinary key', undefined, {}],
    ['too short', /^RSA-1024/, { bits: 1024 }],
    ['too short by a bit', /^RSA-2047/, { bits: 2047 }],
    ['too long by a bit', /^RSA-4097/, { bits: 4097 }],
    ['as long as may be', undefined, { bits: 4096 }],
    ['too long', /^RSA-8192/, { bits: 8192 }],
    ['exponent 3', /exponent is 3/, { exponent: 3 }],
    ['exponent 1', /exponent is 1/, { exponent: 1 }],
    ['even exponent', /exponent is 65536/, { exponent: 65536 }],
    ['even modulus', /factor /, { modulus: bytesOf((1n << 2047n) + 2n) }],
    ['factor 3', /factor 3(\d|$)/, { modulus: multiple(3n) }],
    ['factor 16381', /factor 16381$/, { modulus: multiple(16381n) }],
    ['factor 65537', /factor 65537$/, { modulus: multiple(65537n) }],
    ['close factors', /close/, { modulus: closePrimes() }],
    ['factors found in the last round', /close/, { modulus: primesApart(99.5) }],
    ['factors found in the round after it', undefined, { modulus: primesApart(100.5) }],
    ['a square', /close/, { modulus: bytesOf(prime(1024) ** 2n) }],
    ['a prime', /is a prime/, { modulus: bytesOf(prime(2048)) }],
    ['a prime of more bits', /is a prime/, { bits: 3072, modulus: primeOf('modp15') }],
    ['a prime of as many as may be', /is a prime/, { bits: 4096, modulus: primeOf('modp16') }],
  ]
  test.each(cases)('%s', (_, expected, change) => {
    const weakness = weaknessOf({ bits: 2048, exponent: 65537, modulus: good, ...change })
    if (expected) expect(weakness).toMatch(expected)
    else expect(weakness).toBeUndefined()
  })

  test.each([3072, 4096])('a prime of %i bits is told in about the time of any other number', bits => {
    const [one, other] = [primeOf(`modp${bits === 3072 ? 15 : 16}`), bytesOf(prime(bits / 2) * prime(bits / 2), bits)].map(
      modulus => Math.min(...[1, 2, 3].map(() => microseconds(() => weaknessOf({ bits, exponent: 65537, modulus })))),
    ) as [number, number]
    expect(one / other).toBeLessThan(10)
  })

  test('primes in common, among many', () => {
    const [shared, ...others] = [1, 2, 3, 4].map(() => prime(1024))
    const [a = 1n, b = 1n, c = 1n] = others
    const moduli = [a * b, b * c, c * a].map(value => bytesOf(value))
    const one = bytesOf((shared ?? 1n) * prime(1024))
    expect(sharesPrime(one, moduli)).toBe(false)
    expect(sharesPrime(one, [...moduli, bytesOf((shared ?? 1n) * a)])).toBe(true)
    expect(sharesPrime(moduli[0] ?? one, moduli.slice(1))).toBe(true)
    expect(sharesPrime(one, [])).toBe(false)
  })
})
