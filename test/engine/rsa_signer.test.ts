import { generateKeyPairSync } from 'node:crypto'
import { calculateJwkThumbprint } from 'jose'
import { expect, test } from 'vitest'
import type { OwnVault } from '../../engine/vault/own.ts'
import { openRsaSigner } from '../../engine/vault/rsa_signer.ts'
import { testWorld } from '../fakes/world.ts'

const public_key = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({ type: 'spki', format: 'pem' })

/** A key of so many versions, in a transit that is asked. */
function transit() {
  const state = { versions: 1, asked: 0, change: {} }
  const read = async () => {
    state.asked += 1
    const keys = Object.fromEntries(Array.from({ length: state.versions }, (_, at) => [at + 1, { public_key }]))
    return { data: { type: 'rsa-2048', exportable: false, allow_plaintext_backup: false, keys, ...state.change } }
  }
  return { state, own: { read } as unknown as OwnVault }
}

test('a version that was added is known within five seconds, also of a key that is never at rest', async () => {
  const world = testWorld()
  const { state, own } = transit()
  const signer = openRsaSigner(own, 'transit', world.monotonic)
  await signer.versions('assay-acme')
  state.versions = 2
  for (let seconds = 1; seconds <= 6; seconds++) {
    world.pass(1000)
    await signer.versions('assay-acme')
  }
  const versions = await signer.versions('assay-acme')
  expect(versions.map(({ version }) => version)).toEqual([1, 2])
  expect(versions[0]?.kid).toBe(await calculateJwkThumbprint(versions[0]?.jwk ?? {}))
  expect(state.asked).toBe(2)
})

test.each([
  ['may be exported', { exportable: true }, 'can be exported'],
  ['may be backed up', { allow_plaintext_backup: true }, 'can be exported'],
  ['is on a curve', { type: 'ecdsa-p256' }, 'is not an RSA key'],
  ['has no version', { keys: {} }, 'has no version'],
  ['holds no public key', { keys: { 1: { public_key: 'x' } } }, 'cannot be read'],
])('a key that %s is not used', async (_, change, why) => {
  const { state, own } = transit()
  state.change = change
  await expect(openRsaSigner(own, 'transit', testWorld().monotonic).versions('assay-acme')).rejects.toThrow(why)
})
