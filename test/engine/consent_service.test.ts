import { describe, expect, test } from 'vitest'
import type { Audit } from '../../engine/audit/index.ts'
import type { ConsentGrant, Grants } from '../../engine/consent/grants.ts'
import { openRequests, type Requests, type State, type Wish } from '../../engine/consent/requests.ts'
import { type ConsentParts, openConsent } from '../../engine/consent/service.ts'
import { BrokerError } from '../../engine/errors.ts'
import type { Mount } from '../../engine/mount_table.ts'
import { openStore } from '../../engine/vault/store.ts'
import { fakeTransit } from '../fakes/transit.ts'
import { testWorld } from '../fakes/world.ts'

// Where a person is led, what they hear, what is kept and what is on record, also when Vault fails in the middle of a callback. The rest of the journey:
// live/consent.test.ts.

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

type Between = {
  /** a state that Vault does not take */
  readonly lost?: State
  /** before a request moves there */
  readonly moving?: (to: State) => Promise<void>
  /** before the provider answers */
  readonly answering?: () => Promise<void>
  /** before it is on record that a code is redeemed */
  readonly recording?: () => Promise<void>
  readonly mounts?: readonly Mount[]
  /** of the role's integration */
  readonly type?: string
}

/** Consents at a provider that answers with this. */
function consents(settings: object, answer: object, between: Between = {}) {
  const { lost, moving, answering, recording, mounts = [mount], type = 'oauth2_consent' } = between
  const world = testWorld()
  const kept: ConsentGrant[] = []
  const recorded: unknown[] = []
  const fetched: string[] = []
  const requests = openRequests(openStore(fakeTransit(), 'assay', world.monotonic), world)
  const move: Requests['move'] = async (found, to, journey) => {
    await moving?.(to)
    if (to === lost) throw new BrokerError('unavailable', 'vault does not answer')
    return requests.move(found, to, journey)
  }
  const answered = async (url: string) => {
    fetched.push(new URL(url).pathname)
    await answering?.()
    return Response.json(answer)
  }
  const consent = openConsent({
    world,
    requests: { ...requests, move },
    grants: { put: async (_, __, grant) => void kept.push(grant), of: async () => kept.at(-1) } as Partial<Grants> as Grants,
    integrations: { source: async ({ id }: Mount) => (id === mount.id ? { integration: { type, settings } } : undefined) },
    upstreams: { of: () => ({ fetch: answered, failure: () => undefined }) },
    mounts: { ofType: () => mounts },
    audit: {
      append: async () => recording?.(),
      appendLazy: ({ fields }: { fields: Readonly<Record<string, unknown>> }) => void recorded.push(fields['result']),
    } as unknown as Audit,
    ownUrl: () => 'https://assay.example',
  } as unknown as ConsentParts)
  return { world, consent, requests, kept, recorded, fetched }
}

const asked = (requests: Requests) => requests.open(mount, { ...wish, audience: '', task: undefined } satisfies Wish)

test('a person is told of the host where they sign in, and led there, whatever host the provider is named by', async () => {
  const issuer = 'https://idp.provider.example'
  const endpoint = 'https://sign-in.example/authorize'
  const metadata = { issuer, authorization_endpoint: endpoint, token_endpoint: `${issuer}/token` }
  const { consent, requests } = consents({ ...SETTINGS, issuer, discovery: 'oauth2', authorization_url: '' }, metadata)
  const { id } = await asked(requests)
  expect(await consent.view(id)).toMatchObject({ provider: 'sign-in.example' })
  expect((await consent.decide(id, true, COOKIE, 'txn'))?.origin).toBe('https://sign-in.example')
})

const TOKENS = { access_token: 'a', token_type: 'Bearer', refresh_token: 'refresh-token-of-a-person' }

/** A person who was sent to the provider, and the address that leads back from there with this. */
async function sent(between: Between, word = 'code', settings: object = SETTINGS) {
  const all = consents(settings, TOKENS, between)
  const { id, handle } = await asked(all.requests)
  const to = await all.consent.decide(id, true, COOKIE, 'txn')
  const callback = new URL(`https://assay.example/assay/consent/callback?${word}=c&state=${to?.searchParams.get('state')}`)
  all.recorded.length = 0
  const back = (at = callback.pathname, cookie = COOKIE) =>
    all.consent.callback(new URL(at + callback.search, callback), cookie, 'txn')
  return { ...all, id, handle, to, back }
}

/** A person who comes back from the provider with this. */
async function cameBack(lost: State, word = 'code') {
  const { requests, kept, recorded, id, back } = await sent({ lost }, word)
  return { end: await back(), kept: kept.length, recorded, request: await requests.byId(id) }
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

describe('where people come back to is an address of this provider alone', () => {
  const OWN = '/assay/consent/callback/broker/forge'

  test('which it is told, and where its answer counts', async () => {
    const { to, back, fetched } = await sent({}, 'code', { ...SETTINGS, callback: 'own' })
    expect(to?.searchParams.get('redirect_uri')).toBe(`https://assay.example${OWN}`)
    expect([await back(OWN), fetched]).toEqual(['granted', ['/token']])
  })

  test.each([
    ['own', '/assay/consent/callback'],
    ['own', '/assay/consent/callback/broker/other'],
    ['shared', OWN],
  ])('so that one of callback=%s is not told what came back at %s', async (callback, at) => {
    const { back, fetched } = await sent({}, 'code', { ...SETTINGS, callback })
    expect([await back(at), fetched]).toEqual(['failed', []])
  })
})

test.each([
  ['less than was asked for', 'openid read', ['read']],
  ['more than was asked for', 'read write admin', ['read', 'write']],
  ['without a word of what it is good for', undefined, ['read', 'write']],
])('what the provider gave %s is kept for what was asked and given alone', async (_, scope, kept) => {
  const task = { org: 'acme', user: 'ada', task: 'T-1', session: 's', txn: 't', actors: ['a'], integrations: undefined }
  const asks = { ...wish, scope: ['read', 'write'], audience: '', task }
  const all = consents(SETTINGS, { ...TOKENS, scope })
  const { id } = await all.requests.open(mount, asks)
  const to = await all.consent.decide(id, true, COOKIE, 'txn')
  const callback = new URL(`https://assay.example/assay/consent/callback?code=c&state=${to?.searchParams.get('state')}`)
  all.world.pass(5_000)
  expect(await all.consent.callback(callback, COOKIE, 'txn')).toBe('granted')
  const { tpmId, plugin, action } = wish
  const now = all.world.now()
  const expiresAt = now + SETTINGS.consent_ttl * 1000
  // and for the next session of this user as well
  const purpose = { tpmId, plugin, action, scope: kept, task: { org: 'acme', user: 'ada' } }
  expect(all.kept).toEqual([{ ...purpose, subject: '', grantedAt: now, expiresAt }])
})

test('what a code brought is in no line of the log from then on', async () => {
  const { back, world } = await sent({})
  await back()
  world.log.info({ fields: [TOKENS.refresh_token] }, 'what somebody logs')
  expect(world.lines.at(-1)).not.toContain(TOKENS.refresh_token)
})

test('no code is redeemed that is not on record first', async () => {
  const recording = async () => {
    throw new BrokerError('unavailable', 'the audit log cannot be written')
  }
  const { back, fetched, kept } = await sent({ recording })
  expect([await back(), fetched, kept]).toEqual(['failed', [], []])
})

describe('a person is asked', () => {
  test('for an integration that people consent to, and for no other', async () => {
    const { consent, recorded } = consents(SETTINGS, TOKENS, { type: 'oauth2' })
    const asks = consent.ask(mount, { ...wish, audience: '', task: undefined }, 'txn')
    await expect(asks).rejects.toMatchObject({ code: 'bad_request' })
    expect(recorded).toEqual([])
  })

  test('in the mount where the agent asked, and not once that is gone', async () => {
    const other: Mount = { ...mount, id: 'other', path: 'other/' }
    const there = consents(SETTINGS, TOKENS, { mounts: [other, mount] })
    expect(await there.consent.view((await asked(there.requests)).id)).toMatchObject({ provider: 'id.example' })
    const gone = consents(SETTINGS, TOKENS, { mounts: [other] })
    const { id } = await asked(gone.requests)
    await expect(gone.consent.view(id)).rejects.toMatchObject({ code: 'not_found' })
    await expect(gone.consent.decide(id, true, COOKIE, 'txn')).rejects.toMatchObject({ code: 'not_found' })
  })

  test.each([
    ['allowed', true, 'sent'],
    ['denied', false, 'denied'],
  ])('once: what was %s is not decided on again', async (result, allow, state) => {
    const { consent, requests, recorded } = consents(SETTINGS, TOKENS)
    const { id } = await asked(requests)
    expect((await consent.decide(id, allow, COOKIE, 'txn')) !== undefined).toBe(allow)
    for (const again of [true, false])
      await expect(consent.decide(id, again, COOKIE, 'txn')).rejects.toMatchObject({ code: 'conflict' })
    expect((await requests.byId(id))?.request.state).toBe(state)
    expect(recorded).toEqual([{ value: result }])
  })
})

test('of another browser nothing is taken, and of another machine no handle is', async () => {
  const { consent, handle, requests, id, kept, back } = await sent({})
  expect(await back(undefined, 'another')).toBe('failed')
  expect([(await requests.byId(id))?.request.state, kept]).toEqual(['sent', []])
  expect(await consent.progress(mount, handle, 'sha256-bb')).toBeUndefined()
})

describe('an agent that waits for one who died while the provider was asked', () => {
  test('gets what was kept, though nobody said so', async () => {
    const { back, consent, handle } = await sent({ lost: 'granted' })
    await back()
    expect(await consent.progress(mount, handle, wish.tpmId)).toMatchObject({ state: 'granted' })
  })

  test('hears that it failed, when whoever lives would have done it', async () => {
    const { world, consent, requests, kept, id, handle } = await sent({})
    const found = await requests.byId(id)
    world.pass(2)
    if (found) await requests.move(found, 'redeeming')
    // of somebody who consented before
    kept.push({ grantedAt: world.now() - 1 } as ConsentGrant)
    const state = async () => (await consent.progress(mount, handle, wish.tpmId))?.state
    expect(await state()).toBe('redeeming')
    world.pass(120_001)
    expect(await state()).toBe('failed')
  })

  test('and not that a person granted it who denied it, though one consented before', async () => {
    const { consent, requests, kept } = consents(SETTINGS, TOKENS)
    const { id, handle } = await asked(requests)
    kept.push({ grantedAt: Date.now() } as ConsentGrant)
    await consent.decide(id, false, COOKIE, 'txn')
    const denied = await consent.progress(mount, handle, wish.tpmId)
    expect(denied?.state).toBe('denied')
    await denied?.close()
    expect(await consent.progress(mount, handle, wish.tpmId)).toBeUndefined()
  })
})

describe('of two who come back with one answer', () => {
  const conflict = (error: BrokerError) => error.code

  /** One code was redeemed, one consent is kept, and the agent that waits hears of it. */
  async function expectOne({ consent, kept, recorded, fetched, handle }: Awaited<ReturnType<typeof sent>>) {
    expect([fetched, kept.length, recorded]).toEqual([['/token'], 1, [{ value: 'granted' }]])
    expect(await consent.progress(mount, handle, wish.tpmId)).toMatchObject({ state: 'granted' })
  }

  test('the one who comes later hears what came of it, and nothing more', async () => {
    const one = await sent({})
    expect([await one.back(), await one.back()]).toEqual(['granted', 'granted'])
    await expectOne(one)
  })

  test('the one who comes while the other is at the provider is too late', async () => {
    const [arrived, goOn] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    let fetches = 0
    const answering = async () => {
      fetches += 1
      if (fetches > 1) return
      arrived.resolve()
      await goOn.promise
    }
    const one = await sent({ answering })
    const first = one.back()
    await arrived.promise
    expect(await one.back()).toBe('gone')
    goOn.resolve()
    expect(await first).toBe('granted')
    await expectOne(one)
  })

  test('at the same instant, one alone goes to the provider', async () => {
    const both = Promise.withResolvers<void>()
    let coming = 0
    const moving = async (to: State) => {
      if (to !== 'redeeming') return
      coming += 1
      if (coming === 2) both.resolve()
      await both.promise
    }
    const one = await sent({ moving })
    const ends = await Promise.all([one.back(), one.back()].map(end => end.catch(conflict)))
    expect(ends.toSorted()).toEqual(['conflict', 'granted'])
    await expectOne(one)
  })
})
