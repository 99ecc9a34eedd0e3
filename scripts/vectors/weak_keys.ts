import { sharesPrime, weaknessOf } from '#attestation'
import { keyOf } from './areas.ts'
import { bytesIn, type Case, expectationOf, type Fields, idOf, textIn, Unusable } from './case.ts'

/** An RSA key that would be enrolled beside all others of its set. */
export function weakKey(record: Fields, place: string, set: readonly Fields[]): Case {
  return { id: idOf(record, place), expected: expectationOf(record), judge: () => judge(record, set) }
}

function judge(record: Fields, set: readonly Fields[]): string {
  const key = keyIn(record)
  const weakness = weaknessOf(key)
  if (weakness !== undefined) return 'WEAK_KEY'
  return sharesPrime(key.modulus, modulesBeside(record, set)) ? 'WEAK_KEY' : 'OK'
}

/** Those that can be read: what is wrong with another case is no matter of this one. */
function modulesBeside(record: Fields, set: readonly Fields[]): Buffer[] {
  return set.flatMap(one => {
    if (one === record) return []
    try {
      return [keyIn(one).modulus]
    } catch (error) {
      if (error instanceof Unusable) return []
      throw error
    }
  })
}

function keyIn(record: Fields): { bits: number; exponent: number; modulus: Buffer } {
  const modulus = withoutZeros(record.modulus_hex === undefined ? modulusOf(record) : numberIn(record))
  const exponent = record.e === undefined ? 65537 : Number(record.e)
  return { bits: modulus.length * 8 - Math.clz32(modulus[0] ?? 0) + 24, exponent, modulus }
}

/** Of as many digits as it has. */
function numberIn(record: Fields): Buffer {
  const digits = textIn(record, 'modulus_hex')
  return bytesIn({ modulus_hex: digits.padStart(digits.length + (digits.length % 2), '0') }, 'modulus_hex')
}

function modulusOf(record: Fields): Buffer {
  const key = keyOf(textIn(record, 'spki_pem'))
  if (key.asymmetricKeyType !== 'rsa') throw new Unusable('spki_pem is no RSA key')
  return Buffer.from(key.export({ format: 'jwk' }).n ?? '', 'base64url')
}

function withoutZeros(bytes: Buffer): Buffer {
  const first = bytes.findIndex(byte => byte !== 0)
  return first < 0 ? Buffer.alloc(0) : bytes.subarray(first)
}
