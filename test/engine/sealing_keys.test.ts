import { describe, expect, onTestFinished, test } from 'vitest'
import { BrokerError } from '../../engine/errors.ts'
import type { VaultReply } from '../../engine/vault/client.ts'
import { openSealing, toSeal, type Wanted } from '../fakes/sealing.ts'
import { testWorld } from '../fakes/world.ts'

// What the sealing and the opening side know of keys, and for how long.

const holder = { x5tS256: `${'A'.repeat(42)}E`, jkt: `${'B'.repeat(42)}E` }

async function sealing() {
  const world = testWorld()
  const parts = await openSealing(world)
  onTestFinished(() => parts.watch.stop())
  const wanted = { x5tS256: holder.x5tS256, destinations: ['https://api.example.com'], now: world.now() }
  const seal = async (more: Partial<Wanted> = {}) => (await parts.sealer(toSeal({ ...wanted, ...more }))).token.reveal()
  const open = async (token: string) => {
    const opened = await parts.opener(token, holder)
    return opened.ok ? 'OK' : opened.code
  }
  /** What Vault says of a key from now on. */
  const says = (name: string, what: (data: VaultReply['data']) => object) => {
    const { read } = parts.vault
    Object.assign(parts.vault, {
      read: async (path: string) => {
        const reply = await read(path)
        return path.endsWith(`/${name}`) ? { data: { ...reply?.data, ...what(reply?.data) } } : reply
      },
    })
  }
  const looked = () => parts.vault.asked.filter(path => path === 'transit/keys/assay-seal-sign').length
  return { ...parts, world, seal, open, says, looked }
}

const kidOf = (token: string): string => JSON.parse(Buffer.from(token.split('.')[0] ?? '', 'base64url').toString()).kid

const withKid = (token: string, kid: string) => {
  const [header = '', ...rest] = token.split('.')
  const claims = JSON.parse(Buffer.from(header, 'base64url').toString())
  return [Buffer.from(JSON.stringify({ ...claims, kid })).toString('base64url'), ...rest].join('.')
}

describe('a key that signs', () => {
  test('counts until Vault has not listed it for a minute', async () => {
    const { world, seal, open, says } = await sealing()
    const token = await seal()
    expect(await open(token)).toBe('OK')
    says('assay-seal-sign', () => ({ keys: {} }))
    world.pass(60_000)
    expect(await open(token)).toBe('OK')
    world.pass(1)
    expect(await open(token)).toBe('TOKEN_KEY')
  })

  test('is known a second after it was made', async () => {
    const { vault, world, seal, open } = await sealing()
    const before = await seal()
    expect(await open(before)).toBe('OK')
    world.pass(5_000)
    expect(await open(await seal())).toBe('OK')
    vault.rotate('assay-seal-sign')
    world.pass(5_001)
    const token = await seal()
    expect(kidOf(token)).not.toBe(kidOf(before))
    expect(await open(token)).toBe('OK')
  })

  test('that is unknown is looked for once a second, whoever asks', async () => {
    const { world, seal, open, looked } = await sealing()
    const token = await seal()
    await open(token)
    const before = looked()
    world.pass(1_000)
    const unknown = (at: number) => open(withKid(token, `unknown-${at}`))
    expect(await Promise.all([7, 8, 9].map(unknown))).toEqual(['TOKEN_KEY', 'TOKEN_KEY', 'TOKEN_KEY'])
    expect(looked()).toBe(before)
    world.pass(1)
    await Promise.all([7, 8, 9].map(unknown))
    expect(looked()).toBe(before + 1)
  })

  test('of another type opens nothing', async () => {
    const { seal, open, says } = await sealing()
    const token = await seal()
    says('assay-seal-sign', () => ({ type: 'ecdsa-p384' }))
    await expect(open(token)).rejects.toThrow('not of type ecdsa-p256')
  })
})

describe('a key that seals', () => {
  test.each([{ type: 'chacha20-poly1305' }, { derived: false }, { exportable: true }, { allow_plaintext_backup: true }])(
    'is not used where %j',
    async other => {
      const { seal, says } = await sealing()
      says('assay-seal', () => other)
      await expect(seal()).rejects.toThrow('stays in Vault')
    },
  )

  test('is asked for anew when Vault did not answer, on both sides', async () => {
    const { vault, world, seal, open } = await sealing()
    await open(await seal())
    world.pass(11 * 60_000)
    const down = (path: string) => (/datakey|decrypt/.test(path) ? new BrokerError('unavailable', 'down') : undefined)
    vault.fault = down
    await expect(seal()).rejects.toThrow('down')
    vault.fault = undefined
    const token = await seal()
    vault.fault = down
    await expect(open(token)).rejects.toThrow('down')
    vault.fault = undefined
    expect(await open(token)).toBe('OK')
  })

  test('that did not open is not remembered', async () => {
    const { vault, seal, open } = await sealing()
    const token = await seal()
    vault.minDecryption = 2
    expect(await open(token)).toBe('TOKEN_SEAL')
    vault.minDecryption = 1
    expect(await open(token)).toBe('OK')
  })
})

test('the key that seals is looked at with each that it wraps: one that can be exported by now seals no more', async () => {
  const { world, seal, says } = await sealing()
  await seal()
  says('assay-seal', () => ({ exportable: true }))
  await seal()
  world.pass(5 * 60_000 + 1)
  await expect(seal()).rejects.toThrow('is not a derived aes256-gcm96 key that stays in Vault')
})
