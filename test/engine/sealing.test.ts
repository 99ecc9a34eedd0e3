import { createHmac, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, onTestFinished, test } from 'vitest'
import { BrokerError } from '../../engine/errors.ts'
import { rulesOf } from '../../engine/sealing/deliver.ts'
import type { Opened } from '../../engine/sealing/open.ts'
import { openSealing, REAL, type Sealing, toSeal, type Wanted } from '../fakes/sealing.ts'
import { type TestWorld, testWorld } from '../fakes/world.ts'

const holder = { x5tS256: `${'A'.repeat(42)}E`, jkt: `${'B'.repeat(42)}E` }
const destinations = ['GET,POST https://api.example.com/repos/{owner}/**']

type Here = Sealing & { readonly world: TestWorld; readonly seal: (wanted?: Partial<Wanted>) => Promise<string> }

async function sealing(mode: 'datakey' | 'transit' = 'datakey'): Promise<Here> {
  const world = testWorld()
  const parts = await openSealing(world, mode)
  onTestFinished(() => parts.watch.stop())
  const seal = async (wanted: Partial<Wanted> = {}) =>
    (await parts.sealer(toSeal({ x5tS256: holder.x5tS256, destinations, now: world.now(), ...wanted }))).token.reveal()
  return { ...parts, world, seal }
}

const decoded = (token: string, part: 0 | 1) => JSON.parse(Buffer.from(token.split('.')[part] ?? '', 'base64url').toString())
const encoded = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')

/** The token with another header or other claims, signed by the key that signs sealed tokens: as by a thief of half of the secrets. */
function forged({ vault }: Sealing, token: string, claims: object, header: object = decoded(token, 0)): string {
  const input = `${encoded(header)}.${encoded(claims)}`
  const signature = sign('sha256', Buffer.from(input), { key: vault.stolen('assay-seal-sign'), dsaEncoding: 'ieee-p1363' })
  return `${input}.${signature.toString('base64url')}`
}

async function codeOf({ opener }: Sealing, token: string, as = holder): Promise<string> {
  const opened = await opener(token, as)
  return opened.ok ? 'OK' : opened.code
}

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

describe('forms of tokens', () => {
  const bad: readonly (readonly [string, string, (token: string, here: Here) => string])[] = [
    ...['none', 'None', 'NONE', 'nOnE'].map(
      alg => [`alg ${alg}`, 'TOKEN_FORM', (token: string) => withHeader(token, { alg })] as const,
    ),
    [
      'alg none without a signature',
      'TOKEN_FORM',
      token => `${encoded({ ...decoded(token, 0), alg: 'none' })}.${token.split('.')[1]}.`,
    ],
    ['HS256 with the public key', 'TOKEN_FORM', (token, here) => hmac(token, publicPem(here))],
    ['RS256', 'TOKEN_FORM', token => withHeader(token, { alg: 'RS256' })],
    ['ES384', 'TOKEN_FORM', token => withHeader(token, { alg: 'ES384' })],
    ['another typ', 'TOKEN_FORM', token => withHeader(token, { typ: 'at+jwt' })],
    ['an embedded key', 'TOKEN_FORM', token => withHeader(token, { jwk: {} })],
    ['jku', 'TOKEN_FORM', token => withHeader(token, { jku: 'https://evil.example/jwks' })],
    ['x5u', 'TOKEN_FORM', token => withHeader(token, { x5u: 'https://evil.example/' })],
    ['crit', 'TOKEN_FORM', token => withHeader(token, { crit: ['x'] })],
    ['zip', 'TOKEN_FORM', token => withHeader(token, { zip: 'DEF' })],
    ['a kid that is a path', 'TOKEN_KEY', token => withHeader(token, { kid: '../../dev/null' })],
    ['a kid that is SQL', 'TOKEN_KEY', token => withHeader(token, { kid: "' OR 1=1 --" })],
    ['a kid of another key', 'TOKEN_KEY', token => withHeader(token, { kid: 'assay-issue-1-v1' })],
    ['a name and a number', 'TOKEN_KEY', token => withHeader(token, { kid: 'assay-seal-sign-v1' })],
    ['a kid that is no text', 'TOKEN_FORM', token => withHeader(token, { kid: { a: 1 } })],
    ['r and s that are zero', 'TOKEN_SIGNATURE', token => `${token.split('.').slice(0, 2).join('.')}.${'A'.repeat(86)}`],
    [
      'other claims',
      'TOKEN_SIGNATURE',
      token => [token.split('.')[0], encoded({ ...decoded(token, 1), exp: 2 ** 40 }), token.split('.')[2]].join('.'),
    ],
    [
      'another signature of the same key',
      'TOKEN_SIGNATURE',
      (token, here) => `${token.split('.').slice(0, 2).join('.')}.${forged(here, token, {}).split('.')[2]}`,
    ],
    ['white space', 'TOKEN_FORM', token => `${token} `],
    ['padding', 'TOKEN_FORM', token => `${token}==`],
    ['spare bits', 'TOKEN_FORM', token => `${token.slice(0, -1)}${String.fromCharCode(token.charCodeAt(token.length - 1) + 1)}`],
    ['four parts', 'TOKEN_FORM', token => `${token}.a`],
    ['a JWE', 'TOKEN_FORM', token => `${token}.a.b`],
    ['a million dots', 'TOKEN_FORM', () => '.'.repeat(1_000_000)],
    [
      'a length that nobody seals',
      'TOKEN_FORM',
      token => [token.split('.')[0], 'A'.repeat(2 ** 14), token.split('.')[2]].join('.'),
    ],
    ['nothing', 'TOKEN_FORM', () => ''],
    ['a header that is no object', 'TOKEN_FORM', token => [encoded(null), ...token.split('.').slice(1)].join('.')],
    ...['9999999999', true, Number.POSITIVE_INFINITY, [], null, -1, 0, 1.5].map(
      exp =>
        [
          `exp ${JSON.stringify(exp)}`,
          'TOKEN_CLAIMS',
          (token: string, here: Here) => forged(here, token, { ...decoded(token, 1), exp }),
        ] as const,
    ),
    ['no exp', 'TOKEN_CLAIMS', (token, here) => forged(here, token, { ...decoded(token, 1), exp: undefined })],
    ['no cnf', 'TOKEN_CLAIMS', (token, here) => forged(here, token, { ...decoded(token, 1), cnf: undefined })],
    [
      'a cnf of another kind',
      'TOKEN_CLAIMS',
      (token, here) => forged(here, token, { ...decoded(token, 1), cnf: { jkt: holder.jkt } }),
    ],
    ...[{ 'x5t#S256': 'short' }, { 'x5t#S256': holder.x5tS256, jkt: 'short' }, { 'x5t#S256': holder.x5tS256, x: 'y' }].map(
      cnf =>
        [
          `the cnf ${JSON.stringify(cnf)}`,
          'TOKEN_CLAIMS',
          (token: string, here: Here) => forged(here, token, { ...decoded(token, 1), cnf }),
        ] as const,
    ),
    ...[
      (jwe: string) => `${encoded({ alg: 'dir', enc: 'A128GCM' })}${jwe.slice(jwe.indexOf('.'))}`,
      (jwe: string) => jwe.replace('..', '.AAAA.'),
      (jwe: string) => `${jwe}.AAAA`,
    ].map(
      (other, at) =>
        [
          `a JWE in it with another spelling, ${at}`,
          'TOKEN_SEAL',
          (token: string, here: Here) => {
            const claims = decoded(token, 1)
            const seal = { ...claims.assay.seal, jwe: other(claims.assay.seal.jwe) }
            return forged(here, token, { ...claims, assay: { ...claims.assay, seal } })
          },
        ] as const,
    ),
    [
      'no destination',
      'TOKEN_CLAIMS',
      (token, here) => forged(here, token, { ...decoded(token, 1), assay: { ...decoded(token, 1).assay, destinations: [] } }),
    ],
  ]
  test.each(bad)('%s: %s', async (_, code, make) => {
    const here = await sealing()
    const token = await here.seal()
    expect(await codeOf(here, make(token, here))).toBe(code)
    expect(await codeOf(here, token)).toBe('OK')
  })

  test('no text of any kind opens or throws', async () => {
    const here = await sealing()
    await here.seal()
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          fc.string(),
          fc.array(fc.base64String(), { maxLength: 6 }).map(parts => parts.join('.')),
        ),
        async text => {
          expect(await codeOf(here, text)).toBe('TOKEN_FORM')
        },
      ),
    )
  })
})

function withHeader(token: string, more: object): string {
  return [encoded({ ...decoded(token, 0), ...more }), ...token.split('.').slice(1)].join('.')
}

function publicPem({ vault }: Sealing): string {
  const key: KeyObject = vault.stolen('assay-seal-sign')
  return key.export({ format: 'pem', type: 'pkcs8' }).toString()
}

function hmac(token: string, secret: string): string {
  const input = `${encoded({ ...decoded(token, 0), alg: 'HS256' })}.${token.split('.')[1]}`
  return `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`
}

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

test('a stranger who signs is nobody', async () => {
  const here = await sealing()
  const token = await here.seal()
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const input = token.split('.').slice(0, 2).join('.')
  const signature = sign('sha256', Buffer.from(input), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')
  expect(await codeOf(here, `${input}.${signature}`)).toBe('TOKEN_SIGNATURE')
})
