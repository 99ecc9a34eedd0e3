import { expect, test } from 'vitest'
import type { Audit, AuditRecord } from '../../engine/audit/index.ts'
import type { ConsentGrant, Grants } from '../../engine/consent/grants.ts'
import { openRequests, type Requests, type State, type Wish } from '../../engine/consent/requests.ts'
import { type ConsentParts, openConsent } from '../../engine/consent/service.ts'
import { BrokerError } from '../../engine/errors.ts'
import type { Mount } from '../../engine/mount_table.ts'
import { openStore } from '../../engine/vault/store.ts'
import { fakeTransit } from '../fakes/transit.ts'
import { testWorld } from '../fakes/world.ts'

// Where a person is led, and what they hear, and what is on record, when Vault fails in the middle of a callback. The rest of the journey: live/consent.test.ts.

const COOKIE = 'of the browser that left'
const mount = { id: 'mount', path: 'broker/', type: 'broker' } as Mount
const wish = { role: 'review', integration: 'forge', tpmId: 'sha256-aa', plugin: 'p', action: 'a', scope: [], ttlSeconds: 60 }

const SETTINGS = {
  issuer: 'https://id.example',
  discovery: 'none',
  authorization_url: 'https://id.example/authorize',
  token_url: 'https://id.example/token',
  client_id: 'assay',
  client_auth: 'none',
  also_scope: [],
  authorization_parameters: {},
  consent_ttl: 60,
  ca: '',
}

/** Consents at a provider that answers with this; `lost` is a state that Vault does not take. */
function consents(settings: object, answer: object, lost?: State) {
  const world = testWorld()
  const kept: ConsentGrant[] = []
  const recorded: unknown[] = []
  const requests = openRequests(openStore(fakeTransit(), 'assay', world.monotonic), world)
  const move: Requests['move'] = async (found, to, journey) => {
    if (to === lost) throw new BrokerError('unavailable', 'vault does not answer')
    return requests.move(found, to, journey)
  }
  const consent = openConsent({
    world,
    requests: { ...requests, move },
    grants: { put: async (_, __, grant) => void kept.push(grant) } as Partial<Grants> as Grants,
    integrations: { source: async () => ({ integration: { type: 'oauth2_consent', settings } }) },
    upstreams: { of: () => ({ fetch: async () => Response.json(answer), failure: () => undefined }) },
    mounts: { ofType: () => [mount] },
    audit: {
      append: async () => undefined,
      appendLazy: ({ fields }: AuditRecord) => void recorded.push(fields?.['result']),
    } as unknown as Audit,
    ownUrl: () => 'https://assay.example',
  } as unknown as ConsentParts)
  return { consent, requests, kept, recorded }
}

const asked = (requests: Requests) => requests.open(mount, { ...wish, audience: '', task: undefined } satisfies Wish)

test('a person is told of the host where they sign in, and may be led there, whatever host the provider is named by', async () => {
  const issuer = 'https://idp.provider.example'
  const endpoint = 'https://sign-in.example/authorize'
  const metadata = { issuer, authorization_endpoint: endpoint, token_endpoint: `${issuer}/token` }
  const { consent, requests } = consents({ ...SETTINGS, issuer, discovery: 'oauth2', authorization_url: '' }, metadata)
  const { id } = await asked(requests)
  expect(await consent.view(id)).toMatchObject({ provider: 'sign-in.example', providerOrigin: 'https://sign-in.example' })
  expect((await consent.decide(id, true, COOKIE, 'txn'))?.origin).toBe('https://sign-in.example')
})

/** A person who comes back from the provider with this. */
async function cameBack(lost: State, word = 'code') {
  const tokens = { access_token: 'a', token_type: 'Bearer', refresh_token: 'r' }
  const { consent, requests, kept, recorded } = consents(SETTINGS, tokens, lost)
  const { id } = await asked(requests)
  const sent = await consent.decide(id, true, COOKIE, 'txn')
  const callback = new URL(`https://assay.example/assay/consent/callback?${word}=c&state=${sent?.searchParams.get('state')}`)
  recorded.length = 0
  return { end: await consent.callback(callback, COOKIE, 'txn'), kept: kept.length, recorded, request: await requests.byId(id) }
}

const granted = { end: 'granted', kept: 1, recorded: [{ value: 'granted' }] }

test('a consent that is kept is granted', async () => {
  expect(await cameBack('failed')).toMatchObject({ ...granted, request: { request: { state: 'granted' } } })
})

test('a consent that is kept is granted all the same where the request cannot be told of it', async () => {
  expect(await cameBack('granted')).toMatchObject({ ...granted, request: { request: { state: 'redeeming' } } })
})

test('a consent that failed is on record as that, too, where the request cannot be told of it', async () => {
  const end = await cameBack('failed', 'error')
  expect(end).toMatchObject({
    end: 'failed',
    kept: 0,
    recorded: [{ value: 'failed' }],
    request: { request: { state: 'redeeming' } },
  })
})
