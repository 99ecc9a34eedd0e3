import { expect, test } from 'vitest'
import { type ConsentGrant, openGrants, type Purpose } from '../../engine/consent/grants.ts'
import { Secret } from '../../engine/secret.ts'
import type { Cipher } from '../../engine/vault/cipher.ts'
import { openStore } from '../../engine/vault/store.ts'
import { fakeTransit } from '../fakes/transit.ts'
import { testWorld } from '../fakes/world.ts'

const purpose: Purpose = {
  tpmId: 'sha256-aa',
  plugin: 'reviewer',
  action: 'review',
  scope: ['read', 'write'],
  task: { org: 'acme', user: 'ada' },
}

/** Opens what it sealed, under the key and for the place that it was sealed for. */
const cipher: Cipher = {
  create: async () => undefined,
  seal: async (key, text, place) => JSON.stringify([key, text.reveal(), place]),
  open: async (key, sealed, place) => {
    const [itsKey, text, its] = JSON.parse(sealed)
    if (itsKey !== key || its !== place) throw new Error('it was sealed for another place')
    return new Secret(text)
  },
}

type Other = Partial<Purpose> & { readonly integration?: string; readonly mountId?: string }

/** A consent for a minute. */
async function consented() {
  const world = testWorld()
  const grants = openGrants(openStore(fakeTransit(), 'assay', world.monotonic), cipher, world)
  const grant: ConsentGrant = { ...purpose, subject: 'ada', grantedAt: world.now(), expiresAt: world.now() + 60_000 }
  await grants.put('mount', 'forge', grant, new Secret('token'))
  const tokenOf = async ({ integration = 'forge', mountId = 'mount', ...change }: Other = {}) =>
    grants
      .rootOf(mountId, integration, { ...purpose, ...change })
      .read()
      .then(
        ({ fields }) => fields['refresh_token']?.reveal(),
        ({ code }) => code,
      )
  return { world, grants, tokenOf }
}

test('serves what it was given for, and less', async () => {
  const { tokenOf } = await consented()
  for (const scope of [purpose.scope, ['write', 'read'], ['read'], []]) expect(await tokenOf({ scope })).toBe('token')
})

test.each<readonly [string, Other]>([
  ['scope that nobody consented to', { scope: ['read', 'admin'] }],
  ['machine', { tpmId: 'sha256-bb' }],
  ['plugin', { plugin: 'deployer' }],
  ['action', { action: 'merge' }],
  ['organisation', { task: { org: 'umbrella', user: 'ada' } }],
  ['user', { task: { org: 'acme', user: 'eve' } }],
  ['work, without a task', { task: undefined }],
  ['integration', { integration: 'other' }],
  ['mount', { mountId: 'other' }],
])('serves no other %s', async (_, other) => {
  expect(await (await consented()).tokenOf(other)).toBe('CONSENT_REQUIRED')
})

test('ends when it was to end, and is replaced by nothing then', async () => {
  const { world, grants, tokenOf } = await consented()
  world.pass(59_999)
  const root = grants.rootOf('mount', 'forge', purpose)
  const { version } = await root.read()
  world.pass(1)
  expect(await tokenOf()).toBe('CONSENT_REQUIRED')
  await expect(root.replace({ fields: { refresh_token: new Secret('next') } }, version)).rejects.toMatchObject({
    code: 'CONSENT_REQUIRED',
  })
})

test('counts as read from Vault a moment ago, until its end', async () => {
  const { world, grants } = await consented()
  const { stale, expiresAt } = await grants.rootOf('mount', 'forge', purpose).read()
  expect([stale, expiresAt]).toEqual([false, (world.now() + 60_000) / 1000])
})

test('is used by one at a time, who has the token that the one before left', async () => {
  const { grants } = await consented()
  const seen: (string | undefined)[] = []
  const use = (next: string) => {
    const root = grants.rootOf('mount', 'forge', purpose)
    return root.alone(async ({ fields, version }) => {
      seen.push(fields['refresh_token']?.reveal())
      await root.replace({ fields: { refresh_token: new Secret(next) } }, version)
    })
  }
  await Promise.all([use('second'), use('third')])
  expect(seen).toEqual(['token', 'second'])
  const others = grants.rootOf('mount', 'forge', { ...purpose, tpmId: 'sha256-bb' })
  await expect(others.alone(async () => undefined)).rejects.toMatchObject({ code: 'CONSENT_REQUIRED' })
})

test('is told to who waits for it, and none to who waits for another', async () => {
  const { grants } = await consented()
  expect(await grants.of('mount', 'forge', purpose)).toMatchObject({ subject: 'ada' })
  expect(await grants.of('mount', 'forge', { ...purpose, action: 'merge' })).toBeUndefined()
})

test('holds the token that the provider gave last', async () => {
  const { grants, tokenOf } = await consented()
  const root = grants.rootOf('mount', 'forge', purpose)
  await root.replace({ fields: { refresh_token: new Secret('next') } }, (await root.read()).version)
  expect(await tokenOf()).toBe('next')
})

test('is shown without its token, by ids that are none of a path, until it is ended', async () => {
  const { grants, tokenOf } = await consented()
  const [id = '', ...others] = await grants.list('mount', 'forge')
  expect(others).toEqual([])
  expect(await grants.read('mount', 'forge', id)).toEqual({
    ...purpose,
    subject: 'ada',
    grantedAt: expect.any(Number),
    expiresAt: expect.any(Number),
  })
  for (const wrong of ['', '..', `${id}0`, id.slice(1), `../${id}`, id.toUpperCase().replace(/[A-F]|^./, 'G')]) {
    await expect(grants.read('mount', 'forge', wrong)).rejects.toMatchObject({ code: 'bad_request' })
    expect(() => grants.delete('mount', 'forge', wrong)).toThrow(/^wanted the id of a consent/)
  }
  await grants.delete('mount', 'forge', id)
  expect(await tokenOf()).toBe('CONSENT_REQUIRED')
})
