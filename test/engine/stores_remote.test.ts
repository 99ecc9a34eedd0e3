import { describe, expect, test } from 'vitest'
import { parseFields } from '../../engine/fields.ts'
import { stores } from '../../engine/stores/index.ts'
import type { SecretStore } from '../../engine/stores/store.ts'
import { fault, opened } from './remote_stores.ts'

test('a server that is not there is down', async () => {
  // nobody listens on the first port, and nobody is given it
  const reads = opened('onepassword_connect', { url: 'http://127.0.0.1:1' }, { token: 'canary' })
  expect(await fault(reads.fresh(`${'v'.repeat(26)}/${'i'.repeat(26)}`))).toEqual({
    kind: 'down',
    reason: 'it cannot be reached',
  })
  await reads.close()
})

describe('where a store may be', () => {
  const url = (value: string) => parseFields((stores['onepassword_connect'] as SecretStore).settings, { url: value })
  test.each([
    'http://connect.example',
    'http://169.254.169.254',
    'http://10.0.0.1',
    'ftp://connect.example',
    'connect.example',
    'https://user:password@connect.example',
    'https://connect.example/?x=1',
    'https://connect.example/#x',
    'http://127.0.0.1.evil.example',
  ])('not %s', value => expect(() => url(value)).toThrow('wanted an https URL'))
  test.each([
    'https://connect.example',
    'https://connect.example:8443/base',
    'http://127.0.0.1:8080',
    'http://localhost',
    'http://[::1]:8080',
  ])('%s', value => expect(url(value).values).toMatchObject({ url: value }))

  const METADATA = 'https://169.254.169.254'
  const tenant_id = '00000000-0000-4000-8000-000000000000'
  test.each([
    ['onepassword_connect', { url: METADATA }, { token: 'canary' }, `${'v'.repeat(26)}/${'i'.repeat(26)}`],
    ['azure_key_vault', { vault_url: METADATA, tenant_id, client_id: tenant_id }, { client_secret: 'canary' }, 'root'],
    [
      'aws_secrets_manager',
      { region: 'eu-central-1', endpoint: METADATA },
      { access_key_id: 'canary', secret_access_key: 'canary' },
      'root',
    ],
  ])(
    'nor at an address where clouds tell machines their credentials, also over TLS: %s',
    async (kind, settings, secrets, ref) => {
      const reads = opened(kind, settings, secrets as Record<string, string>)
      expect(await fault(reads.fresh(ref))).toEqual({
        kind: 'down',
        reason: 'it has the address of a metadata service, which is never asked',
      })
      await reads.close()
    },
  )
})
