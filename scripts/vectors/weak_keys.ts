import { createPublicKey } from 'node:crypto'
import { sharesPrime, weaknessOf } from '#attestation'
import { bytesIn, type Case, expectationOf, type Fields, idOf, textIn, Unusable } from './case.ts'

/** An RSA key that would be enrolled beside all others of its set. */
export function weakKey(record: Fields, place: string, set: readonly Fields[]): Case {
  return { id: idOf(record, place), expected: expectationOf(record), judge: () => judge(record, set) }
}

function judge(record: Fields, set: readonly Fields[]): string {
  const key = keyIn(record)
  const weakness = weaknessOf(key)
  if (weakness !== undefined) return 'WEAK_KEY'
  const others = set.filter(one => one !== record).map(one => keyIn(one).modulus)
  return sharesPrime(key.modulus, others) ? 'WEAK_KEY' : 'OK'
}

function keyIn(record: Fields): { bits: number; exponent: number; modulus: Buffer } {
  const modulus = withoutZeros(record.modulus_hex === undefined ? modulusOf(record) : bytesIn(record, 'modulus_hex'))
  const first = modulus[0]
  if (first === undefined) throw new Unusable('the modulus is zero')
  const exponent = record.e === undefined ? 65537 : Number(record.e)
  return { bits: modulus.length * 8 - Math.clz32(first) + 24, exponent, modulus }
}

function modulusOf(record: Fields): Buffer {
  const { n = '' } = createPublicKey(textIn(record, 'spki_pem')).export({ format: 'jwk' })
  return Buffer.from(n, 'base64url')
}

function withoutZeros(bytes: Buffer): Buffer {
  const first = bytes.findIndex(byte => byte !== 0)
  return first < 0 ? Buffer.alloc(0) : bytes.subarray(first)
}
