import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { type BoundRequest, contextOf, qualifyingData } from '../../attestation/binding.ts'

const request: BoundRequest = {
  operation: 'creds',
  mount: 'broker/',
  role: 'web',
  audience: 'https://api.example',
  akName: Buffer.of(0, 0x0b, 0xff),
  keyThumbprint: 'thumb',
  plugin: 'oauth',
  action: 'token',
  scope: ['write', 'read'],
}
const canonical =
  '["assay-request-v1","creds","broker/","web","https://api.example","000bff","thumb","oauth","token","read","write"]'
const sha256 = (...parts: (string | Uint8Array)[]) =>
  parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest()

describe('the context of a request', () => {
  test('is the SHA-256 of one JSON array', () => expect(contextOf(request)).toEqual(sha256(canonical)))
  test('does not depend on the order of the scope, and leaves it alone', () => {
    const scope = Object.freeze(['read', 'write'])
    expect(contextOf({ ...request, scope })).toEqual(contextOf(request))
    expect(request.scope).toEqual(['write', 'read'])
  })
  test.each<Partial<BoundRequest>>([
    { operation: 'login' },
    { mount: 'other/' },
    { role: 'db' },
    { audience: '' },
    { akName: Buffer.of(0, 0x0b, 0xfe) },
    { keyThumbprint: '' },
    { plugin: 'aws' },
    { action: 'sign' },
    { scope: ['read'] },
    { scope: ['read,write'] },
    { action: 'token","read', scope: ['write'] },
  ])('is another one with %o', change => expect(contextOf({ ...request, ...change }).equals(contextOf(request))).toBe(false))
})

test('the qualifying data are of the nonce and the context', () => {
  const nonce = Buffer.alloc(32, 7)
  expect(qualifyingData(nonce, request)).toEqual(sha256(nonce, sha256(canonical)))
})
