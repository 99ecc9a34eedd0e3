import { expect, test } from 'vitest'
import { BrokerError } from '../../engine/errors.ts'
import type { OwnVault } from '../../engine/vault/own.ts'
import { openMint } from '../../proxy/tls/mint.ts'
import { newAuthority } from '../mounts/hosts/certificates.ts'

const HOURS = 3600_000

async function minting() {
  const ca = await newAuthority('intercept')
  const asked: Record<string, unknown>[] = []
  const state = { now: 1, down: false, lifeSeconds: 21_600 }
  const write = async (path: string, body: Record<string, unknown>) => {
    expect(path).toBe('pki/issue/intercept')
    asked.push(body)
    if (state.down) throw new BrokerError('unavailable', 'vault does not answer')
    const { cert, key } = await ca.issue('api.test')
    const expiration = Math.ceil(state.now / 1000) + state.lifeSeconds
    return { data: { certificate: cert, private_key: key, issuing_ca: ca.ca, expiration } }
  }
  const now = () => state.now
  return { asked, state, mint: openMint({ write } as unknown as OwnVault, 'pki', { now, monotonic: now }) }
}

test('a certificate is asked for once for a host, however many want it, and anew at three quarters of its life', async () => {
  const { asked, state, mint } = await minting()
  await Promise.all([mint.of('api.test'), mint.of('api.test'), mint.of('other.test')])
  expect(asked).toEqual([
    { common_name: 'api.test', alt_names: 'api.test', ttl: '21600s' },
    { common_name: 'other.test', alt_names: 'other.test', ttl: '21600s' },
  ])
  state.now = 4.4 * HOURS
  await mint.of('api.test')
  expect(asked).toHaveLength(2)
  state.now = 4.6 * HOURS
  await mint.of('api.test')
  expect(asked).toHaveLength(3)
})

test('one that Vault gives a shorter life than was asked for is not shown beyond that', async () => {
  const { asked, state, mint } = await minting()
  state.lifeSeconds = 60
  await mint.of('api.test')
  state.now = 44_000
  await mint.of('api.test')
  expect(asked).toHaveLength(1)
  state.now = 47_000
  await mint.of('api.test')
  expect(asked).toHaveLength(2)
})

test('what is remembered is forgotten when there may be another authority', async () => {
  const { asked, mint } = await minting()
  await mint.of('api.test')
  mint.forget()
  await mint.of('api.test')
  expect(asked).toHaveLength(2)
})

test('what could not be had is asked for again a second later, however many want it, or when there may be another authority', async () => {
  const { asked, state, mint } = await minting()
  state.down = true
  for (let turn = 0; turn < 20; turn++) await expect(mint.of('api.test')).rejects.toThrow('vault does not answer')
  expect(asked).toHaveLength(1)
  state.now += 1001
  await expect(mint.of('api.test')).rejects.toThrow('vault does not answer')
  expect(asked).toHaveLength(2)
  state.down = false
  mint.forget()
  await mint.of('api.test')
  state.now += 1001
  await mint.of('api.test')
  expect(asked).toHaveLength(3)
})

test.each([
  ['127.0.0.1', { ip_sans: '127.0.0.1' }],
  ['[::1]', { ip_sans: '::1' }],
  [`${'a'.repeat(60)}.test`, { alt_names: `${'a'.repeat(60)}.test` }],
])('%s goes where certificates have it', async (host, names) => {
  const { asked, mint } = await minting()
  await mint.of(host)
  expect(asked).toEqual([{ ...names, ttl: '21600s' }])
})
