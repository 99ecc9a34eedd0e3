import { describe, expect, test } from 'vitest'
import { accept, type BoundRequest, reject } from '../../attestation/index.ts'
import type { Attested } from '../../engine/attest/appraise.ts'
import type { BoundKey } from '../../engine/attest/bound_key.ts'
import { type CredsRequest, identify, type WhoPorts } from '../../engine/issue/who.ts'
import type { Mount } from '../../engine/mount_table.ts'
import type { TokenFacts } from '../../engine/vault/authority.ts'
import { testWorld } from '../fakes/world.ts'

const world = testWorld()
const LOGIN = { id: 'login-1', path: 'auth/tpm-quote/', type: 'tpm-quote' } as Mount
const BROKER = { id: 'broker-1', path: 'broker/', type: 'broker' } as Mount
const TPM = { disabled: false, disabled_aks: [], revocation: '', labels: ['blue'], enrolled_at: '' }
/** enrolled so long after the login */
const enrolledAfter = (seconds: number) => ({
  ...TPM,
  enrolled_at: new Date(world.now() - 60_000 + seconds * 1000).toISOString(),
})
const NO_KEY: BoundKey = { thumbprint: '', x5tS256: '', certified: false }

const META = {
  tpm_id: 'sha256-aa',
  ak_name: '000bab',
  login_role: 'builder',
  maker: 'id:1',
  firmware_version: '7',
  key_thumbprint: 'login-key',
  x5t_s256: 'login-certificate',
  key_certified: 'true',
  attested_at: String(world.now() / 1000 - 60),
  reference: 'of-login',
}
const REQUEST = {
  role: 'deploy',
  plugin: 'kubernetes',
  action: 'deploy',
  scope: ['a', 'b'],
  audience: 'https://api.example.com',
  keyThumbprint: 'request-key',
  evidence: undefined,
}

type Wanted = {
  readonly meta?: object
  readonly path?: string
  readonly type?: string
  readonly tpm?: object | undefined
  readonly quote?: BoundKey | 'refused'
  readonly session?: 'refused'
  /** of the login role */
  readonly bind_key?: string
}

/** Who is known to ask, and what a quote had to be over. */
async function known(wanted: Wanted = {}) {
  const { meta = {}, path = 'auth/tpm-quote/login', type = 'tpm-quote', quote, session, bind_key = 'optional' } = wanted
  const bound: BoundRequest[] = []
  const fresh: boolean[] = []
  const attested = (key: BoundKey) =>
    ({ key, claims: { firmwareVersion: 8, reference: 'of-quote' }, referenceVersion: 2 }) as unknown as Attested
  const ports = {
    world,
    mounts: { find: () => ({ ...LOGIN, type }) },
    attestSettings: { tpm: { get: async () => ('tpm' in wanted ? wanted.tpm : TPM) }, role: { get: async () => ({ bind_key }) } },
    appraiser: {
      appraise: async (_mount: Mount, _role: string, over: BoundRequest) => {
        bound.push(over)
        return quote === undefined || quote === 'refused' ? reject('SIGNATURE', 'no') : accept(attested(quote))
      },
    },
    sessions: {
      appraise: async (_mount: Mount, _meta: object, isFresh: boolean) => {
        fresh.push(isFresh)
        return session ? reject('REVOKED', 'no') : accept({ attestationLeftSeconds: 30 })
      },
    },
  } as unknown as WhoPorts
  const facts = { path, meta: { ...META, ...meta }, entityId: 'entity', ttlSeconds: 900 } as unknown as TokenFacts
  const request = { ...REQUEST, ...(quote === undefined ? {} : { evidence: {} }) } as unknown as CredsRequest
  const who = await identify(ports, BROKER, facts, request)
  return { code: who.ok ? 'OK' : who.code, agent: who.ok ? who.value.agent : undefined, bound, fresh }
}

test.each<readonly [string, Wanted, string]>([
  ['an attested login', {}, 'OK'],
  ['a login of another type', { type: 'approle' }, 'NOT_ATTESTED'],
  ['a token that was made below the login', { path: 'auth/tpm-quote/login/other' }, 'NOT_ATTESTED'],
  ['a token of another path of the mount', { path: 'auth/tpm-quote/oidc/callback' }, 'NOT_ATTESTED'],
  ['a machine of which nothing is known any more', { tpm: undefined }, 'AK_NOT_ENROLLED'],
  ['a machine that is disabled', { tpm: { ...TPM, disabled: true } }, 'TPM_DISABLED'],
  ['a machine that its maker revoked', { tpm: { ...TPM, revocation: 'revoked' } }, 'REVOKED'],
  ['a key that is disabled', { tpm: { ...TPM, disabled_aks: [META.ak_name] } }, 'AK_DISABLED'],
  ['another key that is disabled', { tpm: { ...TPM, disabled_aks: ['000bff'] } }, 'OK'],
  ['a login before the machine was enrolled in this mount', { tpm: enrolledAfter(61) }, 'SESSION_ENDED'],
  ['a login at a front door whose clock is a little behind', { tpm: enrolledAfter(59) }, 'OK'],
  ['a session that has ended', { session: 'refused' }, 'REVOKED'],
  ['a quote that does not hold', { quote: 'refused' }, 'SIGNATURE'],
  ['a quote that holds, of a machine that is disabled', { quote: NO_KEY, tpm: { ...TPM, disabled: true } }, 'TPM_DISABLED'],
])('%s, %j: %s', async (_, wanted, code) => {
  expect((await known(wanted)).code).toBe(code)
})

test('without a quote it is who logged in, as old as that', async () => {
  const { agent, fresh } = await known()
  expect(agent).toMatchObject({ tpmId: 'sha256-aa', role: 'builder', entityId: 'entity', labels: ['blue'], firmwareVersion: '7' })
  expect(agent).toMatchObject({ keyThumbprint: 'login-key', x5tS256: 'login-certificate', keyCertified: true })
  expect(agent).toMatchObject({ attestationAgeSeconds: 60, attestationLeftSeconds: 30, tokenTtlSeconds: 900, fresh: false })
  expect(agent?.state.reference).toBe('of-login')
  expect(fresh).toEqual([false])
})

test('a login that a clock which is ahead wrote down has no age', async () => {
  expect((await known({ meta: { attested_at: String(world.now() / 1000 + 5) } })).agent?.attestationAgeSeconds).toBe(0)
})

describe('a quote of the request', () => {
  test('is over all that is asked for, by the key that logged in', async () => {
    const { role, plugin, action, scope, audience, keyThumbprint } = REQUEST
    const asked = { role, plugin, action, scope, audience, keyThumbprint }
    const over = { operation: 'creds', mount: 'broker/', akName: Buffer.from(META.ak_name, 'hex'), ...asked }
    expect((await known({ quote: NO_KEY })).bound).toEqual([over])
  })

  test('says what the machine is now', async () => {
    const { agent, fresh } = await known({ quote: NO_KEY })
    expect(agent).toMatchObject({ attestationAgeSeconds: 0, fresh: true, firmwareVersion: '8' })
    expect(agent?.state).toMatchObject({ reference: 'of-quote', referenceVersion: 2 })
    expect(fresh).toEqual([true])
  })

  const key = (thumbprint: string, x5tS256 = '', certified = false) => ({ thumbprint, x5tS256, certified })
  test.each([
    ['without a key: that of the login', NO_KEY, ['login-key', 'login-certificate', true]],
    ['with the same key: what the login knows of it stays', key('login-key'), ['login-key', 'login-certificate', true]],
    ['with the same key and another certificate', key('login-key', 'other'), ['login-key', 'other', true]],
    ['with another key: nothing of the former counts', key('other-key'), ['other-key', '', false]],
    ['with another key that has all of its own', key('other-key', 'other', true), ['other-key', 'other', true]],
  ])('%s', async (_, quote, bound) => {
    const { agent } = await known({ quote })
    expect([agent?.keyThumbprint, agent?.x5tS256, agent?.keyCertified]).toEqual(bound)
  })

  test.each([
    ['no other key comes in', key('other-key', 'other'), 'KEY_NOT_CERTIFIED'],
    ['but one that it certified', key('other-key', 'other', true), 'OK'],
    ['and the one of the login stays', key('login-key'), 'OK'],
    ['also where the quote names none', NO_KEY, 'OK'],
  ])('where the login role wants a key that the TPM certified, %s', async (_, quote, code) => {
    expect((await known({ quote, bind_key: 'certified' })).code).toBe(code)
  })
})
