import { createPublicKey, randomBytes, verify } from 'node:crypto'
import { calculateJwkThumbprint } from 'jose'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Secret } from '../../engine/secret.ts'
import { openVault, type Vault } from '../../engine/vault/client.ts'
import { openOwn } from '../../engine/vault/own.ts'
import { type KeyVersion, openSigner, type Signer } from '../../engine/vault/transit.ts'
import { lasting } from '../fakes/session.ts'
import { type FakeVault, startFakeVault } from '../fakes/vault.ts'
import { type TestWorld, testWorld } from '../fakes/world.ts'
import { PATIENCE_MS } from '../harness/patience.ts'

const unavailable = expect.objectContaining({ name: 'BrokerError', code: 'unavailable' })
const KEY = 'assay-issue-1'

let fake: FakeVault
let vault: Vault
let world: TestWorld
let signer: Signer
beforeEach(async () => {
  fake = await startFakeVault()
  vault = openVault({ address: fake.address, deadlineMs: PATIENCE_MS })
  world = testWorld()
  signer = newSigner()
  await signer.create(KEY)
})
afterEach(async () => {
  await vault.close()
  await fake[Symbol.asyncDispose]()
})

function newSigner(): Signer {
  const token = new Secret(fake.rootToken)
  const session = lasting(token)
  return openSigner(openOwn(vault, session, world.log), 'transit', world.monotonic)
}
const asked = (path: string) => fake.asked.filter(one => one.path.startsWith(`transit/${path}`) && one.method !== 'DELETE')

function signed(version: KeyVersion, input: Buffer, signature: Buffer): boolean {
  const key = { key: createPublicKey(version.publicPem), dsaEncoding: 'ieee-p1363' } as const
  return verify('sha256', input, key, signature)
}

describe('a signature', () => {
  test('is by the version that was asked for, of what was asked', async () => {
    const { latest } = await signer.key(KEY)
    const input = randomBytes(100)
    const kid = await calculateJwkThumbprint(latest.jwk)
    expect(latest).toMatchObject({ version: 1, kid, jwk: { kty: 'EC', crv: 'P-256' } })
    expect(signed(latest, input, await signer.sign(KEY, 1, input))).toBe(true)
  })

  test('of many who ask together: few calls, and each gets its own', async () => {
    const { latest } = await signer.key(KEY)
    const inputs = Array.from({ length: 600 }, () => randomBytes(32))
    const signatures = await Promise.all(inputs.map(input => signer.sign(KEY, 1, input)))
    expect(inputs.every((input, index) => signed(latest, input, signatures[index] ?? Buffer.alloc(64)))).toBe(true)
    expect(asked('sign/').map(one => (one.body['batch_input'] as unknown[]).length)).toEqual([256, 256, 88])
  })

  test('of two versions goes in two calls', async () => {
    const { versions } = await signer.rotate(KEY)
    const input = randomBytes(32)
    const signatures = await Promise.all([1, 2].map(version => signer.sign(KEY, version, input)))
    expect(versions.map((version, index) => signed(version, input, signatures[index] ?? Buffer.alloc(64)))).toEqual([true, true])
  })

  const good = `vault:v1:${Buffer.alloc(64).toString('base64url')}`
  const bad: readonly (readonly [string, unknown])[] = [
    ['by another version', [{ signature: good }, { signature: good.replace('v1', 'v2') }]],
    ['in part an error', [{ signature: good }, { error: 'unable to decode input' }]],
    ['too few', [{ signature: good }]],
    ['too many', [{ signature: good }, { signature: good }, { signature: good }]],
    ['of another length', [{ signature: good }, { signature: `vault:v1:${Buffer.alloc(63).toString('base64url')}` }]],
    ['in DER', [{ signature: good }, { signature: `vault:v1:${Buffer.alloc(70).toString('base64')}` }]],
    ['of another scheme', [{ signature: good }, { signature: good.replace('vault', 'bao') }]],
    ['no text', [{ signature: good }, { signature: 7 }]],
    ['nothing', [{ signature: good }, null]],
    ['no list', {}],
  ]
  test.each(bad)('that comes back %s is none, for all who asked together', async (_, batch_results) => {
    fake.fault = () => ({ status: 200, body: { data: { batch_results } } })
    const both = await Promise.allSettled([signer.sign(KEY, 1, randomBytes(9)), signer.sign(KEY, 1, randomBytes(9))])
    expect(both).toEqual([
      { status: 'rejected', reason: unavailable },
      { status: 'rejected', reason: unavailable },
    ])
  })

  test('that Vault refuses is unavailable, and the key is looked at anew', async () => {
    await signer.key(KEY)
    fake.fault = ({ path }) =>
      path.startsWith('transit/sign')
        ? { status: 400, body: { errors: ['requested version is less than the minimum'] } }
        : undefined
    await expect(signer.sign(KEY, 1, randomBytes(9))).rejects.toEqual(unavailable)
    await signer.key(KEY)
    expect(asked(`keys/${KEY}`).filter(one => one.method === 'GET')).toHaveLength(2)
  })
})

describe('a key', () => {
  test('is read once in five seconds, by all who ask', async () => {
    await Promise.all(Array.from({ length: 50 }, () => signer.key(KEY)))
    const reads = () => asked('keys/').filter(one => one.method === 'GET').length
    const once = reads()
    expect(once).toBeLessThanOrEqual(2)
    world.pass(4999)
    await signer.key(KEY)
    expect(reads()).toBe(once)
    world.pass(2)
    await signer.key(KEY)
    expect(reads()).toBe(once + 1)
  })

  const versions = { 1: { public_key: '', creation_time: '' } }
  const whole = { type: 'ecdsa-p256', exportable: false, allow_plaintext_backup: false, latest_version: 1, keys: versions }
  const unusable: readonly (readonly [string, object, string])[] = [
    ['of another type', { type: 'ed25519' }, 'not of type ecdsa-p256'],
    ['that can be exported', { exportable: true }, 'can be exported'],
    ['that can be backed up', { allow_plaintext_backup: true }, 'can be exported'],
    ['of which that is not known', { exportable: undefined }, 'can be exported'],
    ['without versions', { keys: {} }, 'has no latest version'],
    ['whose latest version is not there', { latest_version: 2 }, 'has no latest version'],
  ]
  test.each(unusable)('%s is not used', async (_, change, sentence) => {
    const { latest } = await signer.key(KEY)
    const keys = { 1: { public_key: latest.publicPem, creation_time: 'now' } }
    fake.fault = () => ({ status: 200, body: { data: { ...whole, keys, ...change } } })
    world.pass(5001)
    await expect(signer.key(KEY)).rejects.toThrow(sentence)
    await expect(signer.rotate(KEY)).rejects.toEqual(unavailable)
  })

  test('that cannot be read as one on P-256 is not used', async () => {
    for (const public_key of ['', 'no PEM', ED25519]) {
      fake.fault = () => ({ status: 200, body: { data: { ...whole, keys: { 1: { public_key, creation_time: '' } } } } })
      await expect(signer.key(KEY)).rejects.toEqual(unavailable)
    }
  })

  test('that is not there is unavailable, also once it is destroyed', async () => {
    await expect(signer.key('assay-none')).rejects.toThrow('does not exist')
    await signer.key(KEY)
    await signer.destroy(KEY)
    await expect(signer.key(KEY)).rejects.toThrow('does not exist')
  })
})

describe('a rotation', () => {
  test('is known at once, here', async () => {
    await signer.key(KEY)
    expect((await signer.rotate(KEY)).latest.version).toBe(2)
    expect((await signer.key(KEY)).versions.map(one => one.version)).toEqual([1, 2])
  })

  test('is not forgotten over a read that began before it', async () => {
    const gate = Promise.withResolvers<void>()
    const met = Promise.withResolvers<void>()
    fake.fault = () => {
      fake.fault = () => undefined
      met.resolve()
      return { after: gate.promise }
    }
    const before = signer.key(KEY)
    await met.promise
    const rotated = signer.rotate(KEY)
    gate.resolve()
    expect((await before).latest.version).toBe(1)
    expect((await rotated).latest.version).toBe(2)
    expect((await signer.key(KEY)).latest.version).toBe(2)
  })

  test('twenty, while others sign: every signature is by the version that it names, and that version is published', async () => {
    const sign = async () => {
      const { name, latest } = await signer.key(KEY)
      const input = randomBytes(32)
      return { latest, input, signature: await signer.sign(name, latest.version, input) }
    }
    const rotations = Promise.all(Array.from({ length: 20 }, () => signer.rotate(KEY)))
    const issued = await Promise.all(Array.from({ length: 200 }, () => Promise.resolve().then(sign)))
    await rotations
    const later = await sign()
    const { versions } = await signer.key(KEY)
    expect(versions).toHaveLength(21)
    expect(later.latest.version).toBe(21)
    for (const { latest, input, signature } of [...issued, later]) {
      expect(versions).toContainEqual(latest)
      expect(signed(latest, input, signature)).toBe(true)
    }
  })
})

const ED25519 =
  '-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n'
