import { existsSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { startVault, startVaultRaft, type Vault } from './vault.ts'

describe.each([
  ['a dev server', startVault, 'inmem'],
  ['a raft node', startVaultRaft, 'raft'],
] as const)('%s', (_, begin, storage) => {
  test('is there for its CLI and its API, seals and unseals, and goes without a trace', async () => {
    const vault = await begin()
    await using _end = vault
    expect((await vault.cli(['status', '-format=json'])).stdout).toContain(`"storage_type": "${storage}"`)
    expect((await vault.cli(['token', 'lookup', '-format=json'])).stdout).toContain('"root"')
    expect(await vault.api('PUT', 'sys/mounts/notes', { type: 'kv' })).toEqual({ status: 204, body: undefined })
    expect((await vault.api('GET', 'sys/mounts/notes')).body.data.type).toBe('kv')
    await vault.seal()
    expect((await vault.api('GET', 'notes/one')).status).toBe(503)
    await vault.unseal()
    expect((await vault.api('GET', 'notes/one')).status).toBe(404)
    await vault.stop()
    await expect(fetch(vault.address)).rejects.toThrow()
    expect(existsSync(`/proc/${vault.pid}`)).toBe(false)
    expect(existsSync(vault.env['HOME'] ?? '')).toBe(false)
  })
})

test('many at once do not meet', async () => {
  const vaults: Vault[] = await Promise.all([startVault(), startVault(), startVault()])
  await using all = new AsyncDisposableStack()
  for (const vault of vaults) all.use(vault)
  expect(new Set(vaults.map(({ address }) => address)).size).toBe(3)
  expect(new Set(vaults.map(({ rootToken }) => rootToken)).size).toBe(3)
  expect(await Promise.all(vaults.map(async vault => (await vault.api('GET', 'auth/token/lookup-self')).status))).toEqual([
    200, 200, 200,
  ])
})

test('a server that does not start is told with its own words, and leaves nothing', async () => {
  await expect(startVault({ args: ['-no-such-flag'] })).rejects.toThrow(/no-such-flag/)
})
