import { expect, onTestFinished, test, vi } from 'vitest'
import { accept, reject } from '../../attestation/index.ts'
import type { Credential, Grant } from '../../engine/issuers/issuer.ts'
import { openDeliver } from '../../engine/sealing/deliver.ts'
import { Secret } from '../../engine/secret.ts'
import { NO_CONTEXT } from '../../engine/tasks/bindings.ts'
import { openSealing, REAL } from '../fakes/sealing.ts'
import { testWorld } from '../fakes/world.ts'

const x5tS256 = `${'A'.repeat(42)}E`
const jkt = `${'B'.repeat(42)}E`

async function delivering() {
  const world = testWorld()
  const sealing = await openSealing(world)
  onTestFinished(() => sealing.watch.stop())
  const issuedAt = Math.floor(world.now() / 1000)
  const grant: Grant = {
    txn: 'txn-1',
    jti: 'jti-1',
    tpmId: 'sha256-aa',
    plugin: 'git',
    action: 'read',
    scope: ['a', 'b'],
    audience: 'https://api.example.com',
    permissions: [],
    parameters: {},
    task: NO_CONTEXT,
    keyThumbprint: jkt,
    x5tS256,
    ttlSeconds: 600,
    issuedAt,
  }
  const credential: Credential = { fields: { token: new Secret(REAL) }, expiresAt: issuedAt + 600, granted: {} }
  const { seal } = openDeliver(sealing.sealer, sealing.revocations)
  const sealed = async (more: Partial<Credential>, of: Partial<Grant> = {}) => {
    const made = await seal('mount', ['https://api.example.com'], { ...grant, ...of }, async () =>
      accept({ ...credential, ...more }),
    )
    if (!made.ok) throw new Error(made.code)
    const token = made.value.fields['token'] as Secret
    return { ...made.value, token: token.reveal(), claims: claimsIn(token.reveal()) }
  }
  return { ...sealing, grant, issuedAt, seal, sealed }
}

const claimsIn = (token: string) => JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString())
const jwtOf = (claims: object) => `e30.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.c2ln`

test('none is made for a role whose destinations are none any more', async () => {
  const { seal, grant } = await delivering()
  const make = vi.fn(async () => reject('ROLE', 'it was asked for'))
  await expect(seal('mount', ['PSOT https://api.example.com'], grant, make)).rejects.toThrow('destinations: the one at place 1')
  expect(make).not.toHaveBeenCalled()
})

test('the real credential is asked for bound to nobody, and the sealed one is bound to key and certificate', async () => {
  const { seal, grant } = await delivering()
  const asked: Grant[] = []
  const made = await seal('mount', ['https://api.example.com'], grant, async one => {
    asked.push(one)
    return accept({ fields: { token: new Secret(REAL) }, expiresAt: grant.issuedAt + 600, granted: {} })
  })
  expect(asked).toEqual([{ ...grant, keyThumbprint: '', x5tS256: '' }])
  const token = made.ok ? (made.value.fields['token'] as Secret).reveal() : ''
  expect(claimsIn(token).cnf).toEqual({ 'x5t#S256': x5tS256, jkt })
})

test('what refuses the real one refuses the sealed one', async () => {
  const { seal, grant } = await delivering()
  expect(await seal('mount', [], grant, async () => reject('PARAMETERS', 'no'))).toMatchObject({ ok: false, code: 'PARAMETERS' })
})

test.each([
  ['the real one does', 300, 600, 300],
  ['its grant does', 3600, 600, 600],
])('it ends when %s', async (_, life, ttlSeconds, ends) => {
  const { sealed, issuedAt } = await delivering()
  const { expiresAt, claims } = await sealed({ expiresAt: issuedAt + life }, { ttlSeconds })
  expect([expiresAt, claims.exp]).toEqual([issuedAt + ends, issuedAt + ends])
})

test('the agent may read what of the credential is no secret, and opens nothing of the rest', async () => {
  const { sealed, opener } = await delivering()
  const fields = { username: 'somebody', port: 5432, password: new Secret(REAL) }
  const { claims, token } = await sealed({ fields, granted: { scope: 'a' } })
  const facts = { sub: 'git', aud: 'https://api.example.com', scope: 'a b', granted: { scope: 'a' }, txn: 'txn-1' }
  expect(claims).toMatchObject({ ...facts, username: 'somebody', port: 5432 })
  expect(claims).not.toHaveProperty('password')
  const opened = await opener(token, { x5tS256, jkt })
  expect(opened.ok && Object.entries(opened.value.fields).map(([name, value]) => [name, value.reveal()])).toEqual([
    ['username', 'somebody'],
    ['port', '5432'],
    ['password', REAL],
  ])
})

test('of a real one that is a JWT the agent reads its claims, but for those that say whose it is and how long', async () => {
  const { sealed, issuedAt } = await delivering()
  const real = jwtOf({ sub: 'of the real one', scope: 'a', iat: 1, exp: 2, jti: 'x', cnf: { jkt: 'x' }, assay: {}, txn: 'x' })
  const { claims } = await sealed({ fields: { token: new Secret(real) } })
  const ours = { iat: issuedAt, exp: issuedAt + 600, jti: 'jti-1', cnf: { 'x5t#S256': x5tS256, jkt }, txn: 'txn-1' }
  expect(claims).toMatchObject({ sub: 'of the real one', scope: 'a', ...ours, assay: { tenant: 'mount', agent: 'sha256-aa' } })
})

test.each([
  ['four parts', `${jwtOf({ sub: 'x' })}.a`],
  ['two parts', jwtOf({ sub: 'x' }).split('.').slice(0, 2).join('.')],
  ['a list', jwtOf(['x'])],
  ['null', jwtOf(null as unknown as object)],
  ['what is no JSON', 'a.b.c'],
])('a real one with %s is no JWT', async (_, real) => {
  const { sealed } = await delivering()
  expect((await sealed({ fields: { token: new Secret(real) } })).claims).toMatchObject({ sub: 'git', scope: 'a b' })
})
