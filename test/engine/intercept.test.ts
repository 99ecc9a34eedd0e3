import { expect, test } from 'vitest'
import { BrokerError } from '../../engine/errors.ts'
import { Secret } from '../../engine/secret.ts'
import { type Vault, VaultFault, VaultRefusal } from '../../engine/vault/client.ts'
import { makeAuthority } from '../../engine/vault/intercept.ts'

/** A Vault with an authority, where asking it for a certificate ends like this; what was written there. */
function vaultWhoseAuthority(issues: () => void) {
  const written: string[] = []
  const vault: Pick<Vault, 'read' | 'write'> = {
    read: async () => ({ data: { 'pki/': {} } }),
    write: async path => {
      written.push(path)
      if (path.startsWith('pki/issue/')) issues()
      return { data: { issuer_id: 'the new one' } }
    },
  }
  return { written, make: () => makeAuthority(vault as Vault, 'pki', ['api.example.com'], new Secret('root')) }
}

test('an authority that permits the hosts stays', async () => {
  const { written, make } = vaultWhoseAuthority(() => undefined)
  await make()
  expect(written).toEqual(['pki/roles/intercept', 'pki/issue/intercept'])
})

test.each([
  ['a refusal', new VaultRefusal(400, [])],
  ['a fault', new VaultFault(500)],
])('one that does not, by %s, is replaced', async (_, error) => {
  const { written, make } = vaultWhoseAuthority(() => {
    throw error
  })
  await make()
  expect(written.slice(2)).toEqual(['pki/root/rotate/internal', 'pki/root/replace'])
})

test.each([
  ['does not answer', new BrokerError('unavailable', 'the vault server did not answer in time')],
  ['is behind something that fails', new VaultFault(502)],
])('nothing is replaced because Vault %s', async (_, error) => {
  const { written, make } = vaultWhoseAuthority(() => {
    throw error
  })
  await expect(make()).rejects.toBe(error)
  expect(written).toEqual(['pki/roles/intercept', 'pki/issue/intercept'])
})
