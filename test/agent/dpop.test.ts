import { generateKeyPairSync, sign } from 'node:crypto'
import { calculateJwkThumbprint, decodeProtectedHeader, EmbeddedJWK, jwtVerify } from 'jose'
import { describe, expect, test } from 'vitest'
import { athOf, dpopProof, type P256Jwk, thumbprintOf } from '../../agent/dpop.ts'

const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const jwk = pair.publicKey.export({ format: 'jwk' }) as P256Jwk
const signer = {
  jwk,
  sign: async (data: Uint8Array) => sign('sha256', data, { key: pair.privateKey, dsaEncoding: 'ieee-p1363' }),
}
const world = { now: () => 1_700_000_000_999, random: (size: number) => Buffer.alloc(size, 9) }
const verified = async (proof: string) =>
  (await jwtVerify(proof, EmbeddedJWK, { typ: 'dpop+jwt', currentDate: new Date(1_700_000_001_000) })).payload

describe('a proof', () => {
  test('verifies under the key in its header, and says what it is for', async () => {
    const proof = await dpopProof(signer, { htm: 'POST', htu: 'https://api.example/things' }, world)
    expect(decodeProtectedHeader(proof)).toEqual({
      typ: 'dpop+jwt',
      alg: 'ES256',
      jwk: { kty: 'EC', crv: 'P-256', x: jwk.x, y: jwk.y },
    })
    expect(await verified(proof)).toEqual({
      htm: 'POST',
      htu: 'https://api.example/things',
      iat: 1_700_000_000,
      jti: Buffer.alloc(16, 9).toString('base64url'),
    })
  })

  test('names the address without query and fragment (RFC 9449 4.2)', async () => {
    const proof = await dpopProof(signer, { htm: 'GET', htu: 'https://api.example:8443/a/b?c=d#e' }, world)
    expect((await verified(proof))['htu']).toBe('https://api.example:8443/a/b')
  })

  test('carries the hash of the token and the nonce when given', async () => {
    const proof = await dpopProof(signer, { htm: 'GET', htu: 'https://api.example/', ath: athOf('token'), nonce: 'n-1' }, world)
    expect(await verified(proof)).toMatchObject({ nonce: 'n-1', ath: 'PEaenWxYddN6Q_NT1PiOYfz4EsZu7jRXRlpAsNpBU-A' })
  })
})

test('the thumbprint is that of RFC 7638', async () => {
  expect(thumbprintOf({ ...jwk, extra: 1 } as P256Jwk)).toBe(await calculateJwkThumbprint(jwk, 'sha256'))
})
