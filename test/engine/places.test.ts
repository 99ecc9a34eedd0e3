import { expect, test } from 'vitest'
import type { OwnVault } from '../../engine/vault/own.ts'
import { openPlacesCheck } from '../../engine/vault/places.ts'

const kv = { type: 'kv', options: { version: '2' } }
const places = { transit: 'keys', kv: 'records' }

function vaultWith(data: object) {
  let reads = 0
  const vault: Pick<OwnVault, 'read'> = {
    read: async () => {
      reads += 1
      return { data } as Awaited<ReturnType<OwnVault['read']>>
    },
  }
  return { vault, reads: () => reads }
}

test.each([
  ['both are there', { 'keys/': { type: 'transit' }, 'records/': kv }, undefined],
  ['no keys', { 'records/': kv }, /nothing at keys\/ .*places\.transit/],
  ['something else than keys', { 'keys/': { type: 'pki' }, 'records/': kv }, /nothing at keys\//],
  ['no records', { 'keys/': { type: 'transit' } }, /nothing at records\/ .*places\.kv/],
  ['records without versions', { 'keys/': { type: 'transit' }, 'records/': { type: 'kv', options: null } }, /version 2/],
])('%s', async (_, mounts, wrong) => {
  const asked = openPlacesCheck(vaultWith(mounts).vault, places)()
  if (wrong) await expect(asked).rejects.toMatchObject({ code: 'unavailable', message: expect.stringMatching(wrong) as string })
  else await asked
})

test('a thousand who ask at once are one question, and those who ask meanwhile another', async () => {
  const { vault, reads } = vaultWith({ 'keys/': { type: 'transit' }, 'records/': kv })
  const check = openPlacesCheck(vault, places)
  await Promise.all(Array.from({ length: 1000 }, check))
  expect(reads()).toBeLessThanOrEqual(2)
})
