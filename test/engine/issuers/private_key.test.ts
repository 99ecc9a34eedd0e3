import { createPrivateKey, generateKeyPairSync } from 'node:crypto'
import { expect, test } from 'vitest'
import { isModestRsaKey } from '../../../engine/issuers/private_key.ts'

const pkcs8 = { type: 'pkcs8', format: 'pem' } as const
const jwk = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' })
/** A key that nobody has to look for primes for. */
const ofBytes = (bytes: number) => {
  const n = Buffer.alloc(bytes, 0xc1).toString('base64url')
  return createPrivateKey({ key: { ...jwk, n }, format: 'jwk' })
    .export(pkcs8)
    .toString()
}

test.each([
  ['a key of 2048 bits', createPrivateKey({ key: jwk, format: 'jwk' }).export(pkcs8).toString(), true],
  ['a key of 4096 bits', ofBytes(512), true],
  ['a key of 4104 bits', ofBytes(513), false],
  ['a key of 65536 bits', ofBytes(8192), false],
  ['a key of another kind', generateKeyPairSync('ed25519').privateKey.export(pkcs8).toString(), false],
  ['no key', 'key', false],
])('%s', (_, pem, isModest) => {
  expect(isModestRsaKey(pem)).toBe(isModest)
})
