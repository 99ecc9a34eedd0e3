import { constants, createPublicKey, publicEncrypt } from 'node:crypto'

/** What of an RSA key can be judged without the private half. */
export type RsaKey = { readonly bits: number; readonly exponent: number; readonly modulus: Uint8Array }

const BITS = { least: 2048, most: 4096 }
const EXPONENT = 65537

/**
 * Why an RSA key is known to be weak, in words, or undefined. The size is judged before any arithmetic.
 * ROCA is CVE-2017-15361; close primes are CVE-2022-26320.
 */
export function weaknessOf({ bits, exponent, modulus }: RsaKey): string | undefined {
  if (bits < BITS.least || bits > BITS.most) return `RSA-${bits}, wanted ${BITS.least} to ${BITS.most} bits`
  if (exponent !== EXPONENT) return `the exponent is ${exponent}, wanted ${EXPONENT}`
  const n = toBigInt(modulus)
  const factor = gcd(n, smallPrimesProduct % n)
  if (factor !== 1n) return `the modulus has the factor ${factor}`
  if (isRoca(modulus)) return 'the modulus has the fingerprint of a generator with predictable primes (ROCA)'
  if (hasClosePrimes(n)) return 'the primes of the modulus are close to each other'
  if (isPrime(n, bits)) return 'the modulus is a prime'
  return undefined
}

/**
 * Whether a modulus has a prime in common with another key's: then both are broken. The same modulus is the same key and not counted.
 * One multiplication per key and a single greatest common divisor, about 2 us per key.
 */
export function sharesPrime(modulus: Uint8Array, others: Iterable<Uint8Array>): boolean {
  const n = toBigInt(modulus)
  let product = 1n
  for (const other of others) {
    const rest = toBigInt(other) % n
    if (rest !== 0n) product = (product * rest) % n
  }
  return gcd(n, product) !== 1n
}

/** Up to the usual exponent, which no modulus may have as a factor either. */
const smallPrimes = primesBelow(EXPONENT + 1)
const smallPrimesProduct = productOf(smallPrimes.map(BigInt))

/** Primes p = k M + 65537^a mod M make n a power of 65537 modulo every prime factor of M, of which all sizes share these. */
const rocaPrimes = smallPrimes.filter(prime => prime > 2 && prime <= 167)
const rocaPowers = rocaPrimes.map(powersOfExponent)

function isRoca(modulus: Uint8Array): boolean {
  return rocaPrimes.every((prime, at) => rocaPowers[at]?.has(remainder(modulus, prime)))
}

function powersOfExponent(prime: number): ReadonlySet<number> {
  const powers = new Set<number>()
  for (let power = 1; !powers.has(power); power = (power * EXPONENT) % prime) powers.add(power)
  return powers
}

const FERMAT_ROUNDS = 100n

/** Fermat's factorisation for a few rounds: n = a^2 - b^2 with a just above the root of n. */
function hasClosePrimes(n: bigint): boolean {
  const root = squareRoot(n)
  const first = root * root < n ? root + 1n : root
  for (let a = first; a < first + FERMAT_ROUNDS; a += 1n) if (isSquare(a * a - n)) return true
  return false
}

function isSquare(value: bigint): boolean {
  if (!squaresModulo64.has(Number(value & 63n))) return false
  const root = squareRoot(value)
  return root * root === value
}

const squaresModulo64 = new Set(Array.from({ length: 64 }, (_, value) => (value * value) % 64))

/** The integer square root, by Newton's method from above. */
function squareRoot(value: bigint): bigint {
  if (value < 2n) return value
  let root = 1n << BigInt((value.toString(16).length * 4 + 1) >> 1)
  for (;;) {
    const next = (root + value / root) >> 1n
    if (next >= root) return root
    root = next
  }
}

/** Up to which size OpenSSL takes any exponent. */
const SMALL_MODULUS = 3072

/**
 * Fermat's test to base 2, which next to no other number passes. What OpenSSL does to be sure of a prime takes seconds, and anybody may send one.
 */
function isPrime(n: bigint, bits: number): boolean {
  return (bits <= SMALL_MODULUS ? encryptedTwo(n) : powerOfTwo(n)) === 1n
}

/** 2 to the power of n - 1 modulo n, as what an RSA key with this exponent makes of 2: a fifth of the time. */
function encryptedTwo(n: bigint): bigint {
  const [modulus, exponent] = [toBytes(n), toBytes(n - 1n)].map(bytes => bytes.toString('base64url')) as [string, string]
  const key = createPublicKey({ key: { kty: 'RSA', n: modulus, e: exponent }, format: 'jwk' })
  const two = Buffer.alloc(toBytes(n).length)
  two.writeUInt8(2, two.length - 1)
  return toBigInt(publicEncrypt({ key, padding: constants.RSA_NO_PADDING }, two))
}

/** The same, from the highest bit of the exponent. */
function powerOfTwo(n: bigint): bigint {
  let power = 1n
  for (const bit of (n - 1n).toString(2)) power = ((power * power) << BigInt(bit)) % n
  return power
}

function gcd(left: bigint, right: bigint): bigint {
  let [a, b] = [left, right]
  while (b !== 0n) [a, b] = [b, a % b]
  return a
}

function remainder(bytes: Uint8Array, divisor: number): number {
  let rest = 0
  for (const byte of bytes) rest = (rest * 256 + byte) % divisor
  return rest
}

/** In pairs, which takes a fifth of the time of one after the other. */
function productOf(factors: readonly bigint[]): bigint {
  if (factors.length < 2) return factors[0] ?? 1n
  const half = factors.length >> 1
  return productOf(factors.slice(0, half)) * productOf(factors.slice(half))
}

function primesBelow(limit: number): number[] {
  const composite = new Uint8Array(limit)
  const primes: number[] = []
  for (let number = 2; number < limit; number += 1) {
    if (composite[number] === 1) continue
    primes.push(number)
    for (let multiple = number * number; multiple < limit; multiple += number) composite[multiple] = 1
  }
  return primes
}

function toBytes(value: bigint): Buffer {
  const digits = value.toString(16)
  return Buffer.from(digits.padStart(digits.length + (digits.length % 2), '0'), 'hex')
}

function toBigInt(bytes: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(bytes).toString('hex') || '0'}`)
}
