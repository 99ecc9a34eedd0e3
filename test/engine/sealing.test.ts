import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { BrokerError } from '../../engine/errors.ts'
import { rulesOf } from '../../engine/sealing/deliver.ts'
import type { Opened } from '../../engine/sealing/open.ts'
import { REAL, type Wanted } from '../fakes/sealing.ts'
import { codeOf, decoded, forged, holder, sealing } from './sealing_world.ts'

describe.each(['datakey', 'transit'] as const)('%s', mode => {
  test('what is sealed opens, for its holder, with everything that it is bound to', async () => {
    const here = await sealing(mode)
    const token = await here.seal({ agent: 'sha256-cc', epoch: [3, 4], keyThumbprint: holder.jkt })
    const opened = await here.opener(token, holder)
    if (!opened.ok) throw new Error(opened.code)
    const { fields, binding, jti, mode: found } = opened.value as Opened
    expect(fields['token']?.reveal()).toBe(REAL)
    expect(binding).toMatchObject({ tenant: 'mount', agent: 'sha256-cc', plugin: 'git', x5tS256: holder.x5tS256, epoch: [3, 4] })
    expect(binding.destinations).toEqual([
      { scheme: 'https', host: 'api.example.com', port: 443, methods: ['GET', 'POST'], path: '/repos/{owner}/**' },
    ])
    expect([jti, found]).toEqual(['jti-1', mode])
  })

  test('it reads like the real one, and holds nothing of it', async () => {
    const token = await (await sealing(mode)).seal()
    expect(decoded(token, 1)).toMatchObject({ sub: 'git', aud: 'https://api.example.com', scope: 'read', jti: 'jti-1' })
    expect(decoded(token, 1).exp).toBeGreaterThan(1e9)
    expect(
      token
        .split('.')
        .map(part => Buffer.from(part, 'base64url').toString('latin1'))
        .join(),
    ).not.toContain(REAL)
  })

  test('it opens for no other certificate, and for no other key of the same certificate authority', async () => {
    const here = await sealing(mode)
    const token = await here.seal({ keyThumbprint: holder.jkt })
    expect(await codeOf(here, token, { ...holder, x5tS256: `${'C'.repeat(42)}E` })).toBe('TOKEN_CERTIFICATE')
    expect(await codeOf(here, token, { ...holder, jkt: `${'C'.repeat(42)}E` })).toBe('TOKEN_CERTIFICATE')
  })

  test('who can sign cannot make one open that is bound to anything else', async () => {
    const here = await sealing(mode)
    const token = await here.seal()
    const claims = decoded(token, 1)
    const others: readonly object[] = [
      { tenant: 'other' },
      { agent: 'sha256-other' },
      { plugin: 'other' },
      { destinations: ['https://evil.example'] },
      { destinations: ['GET,POST https://api.example.com/**'] },
      { destinations: ['https://api.example.com/repos/{owner}/**'] },
      { destinations: [...claims.assay.destinations, 'https://evil.example'] },
      { epoch: [9, 9] },
    ]
    for (const other of others)
      expect(await codeOf(here, forged(here, token, { ...claims, assay: { ...claims.assay, ...other } }))).toBe('TOKEN_SEAL')
    expect(await codeOf(here, forged(here, token, { ...claims, exp: claims.exp + 1 }))).toBe('TOKEN_SEAL')
    expect(await codeOf(here, forged(here, token, { ...claims, jti: 'jti-2' }))).toBe('TOKEN_SEAL')
    const thief = { ...holder, x5tS256: `${'C'.repeat(42)}E` }
    expect(await codeOf(here, forged(here, token, { ...claims, cnf: { 'x5t#S256': thief.x5tS256 } }), thief)).toBe('TOKEN_SEAL')
    expect(await codeOf(here, forged(here, token, claims))).toBe('OK')
  })

  test('for every pair of tokens, a field of the one in the other opens neither', async () => {
    const here = await sealing(mode)
    const words = fc.string({ minLength: 1, maxLength: 8 })
    const facts = fc.record({
      tenant: words,
      agent: words,
      host: fc.constantFrom('a.example', 'b.example'),
      epoch: fc.tuple(fc.nat(9), fc.nat(9)),
    })
    const sealed = ({ host, ...rest }: { host: string; tenant: string; agent: string; epoch: [number, number] }) =>
      here.seal({ ...rest, destinations: [`https://${host}`] })
    await fc.assert(
      fc.asyncProperty(
        facts,
        facts,
        fc.constantFrom('tenant', 'agent', 'destinations', 'epoch', 'seal'),
        async (one, other, member) => {
          const [a, b] = await Promise.all([sealed(one), sealed(other)])
          const [mine, theirs] = [decoded(a, 1), decoded(b, 1)]
          const mixed = { ...mine, assay: { ...mine.assay, [member]: theirs.assay[member] } }
          const same = JSON.stringify(one) === JSON.stringify(other) || JSON.stringify(mixed) === JSON.stringify(mine)
          expect(await codeOf(here, forged(here, a, mixed))).toBe(same ? 'OK' : 'TOKEN_SEAL')
        },
      ),
      { numRuns: 60 },
    )
  })

  test('a ciphertext of which a bit is other opens not', async () => {
    const here = await sealing(mode)
    const token = await here.seal()
    const claims = decoded(token, 1)
    for (const [member, text] of Object.entries<string>(claims.assay.seal)) {
      const at = text.length - 6
      const other = `${text.slice(0, at)}${text[at] === 'A' ? 'B' : 'A'}${text.slice(at + 1)}`
      const seal = { ...claims.assay.seal, [member]: other }
      expect(await codeOf(here, forged(here, token, { ...claims, assay: { ...claims.assay, seal } }))).toBe('TOKEN_SEAL')
    }
  })

  test('tokens that are live outlive a rotation of both keys', async () => {
    const here = await sealing(mode)
    const before = await here.seal()
    here.vault.rotate('assay-seal')
    here.vault.rotate('assay-seal-sign')
    here.world.pass(6 * 60_000)
    const after = await here.seal()
    expect(await codeOf(here, before)).toBe('OK')
    expect(await codeOf(here, after)).toBe('OK')
    expect(decoded(after, 0).kid).not.toBe(decoded(before, 0).kid)
  })

  test('a raised least version of the sealing key ends what older ones sealed', async () => {
    const here = await sealing(mode)
    const token = await here.seal()
    here.vault.rotate('assay-seal')
    here.vault.minDecryption = 2
    expect(await codeOf(here, token)).toBe('TOKEN_SEAL')
  })

  test('a credential of which a field is empty is none', async () => {
    const here = await sealing(mode)
    expect(await codeOf(here, await here.seal({ fields: { user: 'a', token: '' } }))).toBe('TOKEN_SEAL')
  })

  test('while Vault does not answer, nothing opens and nothing is sealed', async () => {
    const here = await sealing(mode)
    const token = await here.seal()
    here.vault.fault = () => new BrokerError('unavailable', 'down')
    await expect(here.opener(token, holder)).rejects.toThrow('down')
    here.world.pass(6 * 60_000)
    await expect(here.seal()).rejects.toThrow('down')
  })
})

test('a data key seals for minutes, its tokens open after it, and two tenants never share one', async () => {
  const here = await sealing()
  const keyOf = async (wanted: Partial<Wanted> = {}) => decoded(await here.seal(wanted), 1).assay.seal.key as string
  const [first, again, foreign] = [await keyOf(), await keyOf(), await keyOf({ tenant: 'other' })]
  expect(again).toBe(first)
  expect(foreign).not.toBe(first)
  const token = await here.seal()
  here.world.pass(5 * 60_000 + 1)
  expect(await keyOf()).not.toBe(first)
  expect(await codeOf(here, token)).toBe('OK')
})

test('opening many tokens of one data key asks Vault once', async () => {
  const here = await sealing()
  const tokens = await Promise.all(Array.from({ length: 20 }, (_, at) => here.seal({ jti: `jti-${at}` })))
  expect(await Promise.all(tokens.map(token => codeOf(here, token)))).toEqual(tokens.map(() => 'OK'))
  expect(here.vault.asked.filter(path => path.includes('decrypt'))).toHaveLength(1)
})

test('a key of another type is not used to seal', async () => {
  const here = await sealing()
  const read = here.vault.read
  Object.assign(here.vault, {
    read: async (path: string) => {
      const reply = await read(path)
      return path.endsWith('/assay-seal') ? { data: { ...reply?.data, exportable: true } } : reply
    },
  })
  await expect(here.seal()).rejects.toThrow('stays in Vault')
})

test('what nobody would open is not sealed: a credential that is too long, and destinations that are too many', async () => {
  const here = await sealing()
  const longest = async () => {
    for (let size = 8000; ; size += 500) {
      const token = await here.seal({ fields: { token: 'x'.repeat(size) } }).catch((error: unknown) => error)
      if (typeof token !== 'string') return token
      expect(await codeOf(here, token)).toBe('OK')
    }
  }
  expect(await longest()).toMatchObject({ code: 'bad_request', message: expect.stringMatching(/\d+ characters, and 16384 are/) })
  const rules = (count: number) => Array.from({ length: count }, (_, at) => `GET https://a.test/${at}`)
  expect(await codeOf(here, await here.seal({ destinations: rules(64) }))).toBe('OK')
  expect(await codeOf(here, await here.seal({ destinations: rules(65) }))).toBe('TOKEN_CLAIMS')
  expect(rulesOf(rules(64))).toHaveLength(64)
  expect(() => rulesOf(rules(65))).toThrow('destinations: 65 are there, and 64 are the most')
  expect(() => rulesOf([`https://a.test/${'a'.repeat(2048)}`])).toThrow('destinations: the one at place 1 is none')
})
