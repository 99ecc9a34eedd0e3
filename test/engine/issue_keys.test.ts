import { expect, test } from 'vitest'
import { openKeys } from '../../engine/issue/keys.ts'
import type { Mount } from '../../engine/mount_table.ts'

test.each([
  ['ES256 alone', [], ['ES256']],
  ['RS256 too, where keys of the operator sign for providers that know nothing else', ['assay-rsa'], ['ES256', 'RS256']],
])('the discovery document names %s', async (_, rsa_keys, algorithms) => {
  const settings = { config: { get: async () => ({ issuer: '', rsa_keys, actions: [] }) } }
  const keys = openKeys({} as never, {} as never, settings as never, () => 'https://assay.example')
  expect(await keys.discovery({ id: 'm', path: 'broker/' } as Mount)).toMatchObject({
    issuer: 'https://assay.example/v1/broker',
    id_token_signing_alg_values_supported: algorithms,
  })
})
