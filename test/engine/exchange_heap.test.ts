import 'reflect-metadata'
import { generateKeyPairSync, webcrypto } from 'node:crypto'
import * as x509 from '@peculiar/x509'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Issued } from '../../engine/issue/creds.ts'
import { type Grant, issuers } from '../../engine/issuers/index.ts'
import { openDeliver } from '../../engine/sealing/deliver.ts'
import { Secret } from '../../engine/secret.ts'
import { replyOf } from '../../mounts/hosts/envelope.ts'
import { answerOf } from '../../mounts/secrets/creds.ts'
import { openTestExchange, TPM_ID } from '../fakes/exchange.ts'
import { keptBy } from '../fakes/heap_snapshot.ts'
import { type Answer, type Provider, type ProviderAsked, startProvider } from '../fakes/provider.ts'
import { openSealing } from '../fakes/sealing.ts'
import { testWorld } from '../fakes/world.ts'
import { type Authority, newAuthority } from '../mounts/hosts/certificates.ts'
import { assumed, soon } from './issuers/providers.ts'

// What a reply refers to, by a snapshot of the heap: a text in it that is a slice of a longer one keeps all of that one alive, and so would a function that
// remembers a root credential. Every secret of every issuer carries a mark, and providers answer with what is good and with what they were sent.
const MARK = 'CanaRy7'
const marked = (what: string) => `${MARK}-${what}-0123456789abcdef`

type Row = {
  readonly type: keyof typeof issuers
  readonly settings?: (url: string, ca: string) => object
  readonly secrets: Readonly<Record<string, string>>
  readonly consented?: Readonly<Record<string, string>>
  readonly role?: object
  readonly tls?: true
  readonly good?: (asked: ProviderAsked) => Answer
}

const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
/** a line of the key, as a mark that a key cannot carry otherwise */
const line = pem.split('\n')[3] ?? ''

/** An end that is well within what was asked for, though the clock of the broker stands still meanwhile. */
const end = () => soon(600)
const token = (changes: object = {}): Answer => ({
  status: 200,
  body: { access_token: 'upstream-token', token_type: 'Bearer', expires_in: 600, scope: 'a', ...changes },
})
const xml = (text: string): Answer => ({ status: 200, headers: { 'content-type': 'text/xml' }, text })
const client = (grant: string, client_auth: string) => (url: string) => ({
  token_url: `${url}/token`,
  grant,
  client_id: 'c',
  client_auth,
})
const entra =
  (auth: string, more: object = {}) =>
  (url: string, ca: string) => ({
    authority: url,
    tenant_id: 't',
    client_id: 'c',
    auth,
    ca,
    ...more,
  })
const sealed = { delivery: 'sealed', destinations: 'https://api.example.com' }
const identity = { discovery: 'none', client_id: 'c' }

function rows(certificate: string): Readonly<Record<string, Row>> {
  const account = { client_email: 'a@b.iam.gserviceaccount.com', private_key_id: marked('id'), private_key: pem }
  return {
    'oauth2, client_secret_basic': {
      type: 'oauth2',
      settings: client('client_credentials', 'client_secret_basic'),
      secrets: { client_secret: marked('basic') },
      good: () => token(),
    },
    'oauth2, refresh_token': {
      type: 'oauth2',
      settings: client('refresh_token', 'client_secret_post'),
      secrets: { client_secret: marked('post'), refresh_token: marked('refresh') },
      good: () => token({ refresh_token: marked('next') }),
    },
    oauth2_consent: {
      type: 'oauth2_consent',
      settings: url => ({ ...identity, issuer: url, authorization_url: `${url}/a`, token_url: `${url}/token` }),
      secrets: { client_secret: marked('consent') },
      consented: { refresh_token: marked('person') },
      role: sealed,
      good: () => token({ refresh_token: marked('next-of-a-person') }),
    },
    'azure, secret': {
      type: 'azure',
      settings: entra('secret'),
      secrets: { client_secret: marked('entra') },
      tls: true,
      good: () => token(),
    },
    'azure, refresh_token': {
      type: 'azure',
      settings: entra('refresh_token'),
      secrets: { client_secret: marked('entra-2'), refresh_token: marked('entra-refresh') },
      tls: true,
      good: () => token({ refresh_token: marked('entra-next') }),
    },
    'azure, certificate': {
      type: 'azure',
      settings: entra('certificate', { certificate }),
      secrets: { private_key: pem },
      tls: true,
      good: () => token(),
    },
    'gcp, key': {
      type: 'gcp',
      settings: url => ({ auth: 'key', token_url: `${url}/token`, sts_url: `${url}/token`, iam_url: url }),
      secrets: { key: JSON.stringify(account) },
      role: { service_account: 'sa@b.iam.gserviceaccount.com' },
      good: ({ url }) =>
        url === '/token'
          ? token({ access_token: marked('of-the-account') })
          : { status: 200, body: { accessToken: 'ya29.upstream', expireTime: end() } },
    },
    'aws_sts, access_key': {
      type: 'aws_sts',
      settings: url => ({ region: 'eu-central-1', endpoint: url, auth: 'access_key' }),
      secrets: { access_key_id: marked('AKIA'), secret_access_key: marked('aws') },
      role: { role_arn: 'arn:aws:iam::123456789012:role/agents', permissions: { read: ['s3:GetObject arn:aws:s3:::b/*'] } },
      good: () => xml(assumed({ end: end() })),
    },
    static: { type: 'static', secrets: { api_key: marked('static') }, role: sealed },
  }
}

let authority: Authority
let table: Readonly<Record<string, Row>>
const kept: unknown[] = []
beforeAll(async () => {
  authority = await newAuthority('Providers')
  table = rows(await certificateOf())
})

const names = Object.keys(rows(''))
const grant: Partial<Grant> = { scope: ['a'], x5tS256: 'A'.repeat(43) }

/** What a provider says of what it was sent, wherever a client may look for something. */
function echoes({ body, headers }: ProviderAsked): readonly Answer[] {
  const seen = `${body} ${JSON.stringify(headers)} ${decodeURIComponent(body)} ${marked('echo')}`
  const json = { error: seen, error_description: seen, access_token: null, message: seen }
  return [
    { status: 400, body: json },
    { status: 401, body: json, headers: { 'www-authenticate': `Bearer error="${marked('header')}"` } },
    xml(`<AssumeRoleResponse>${marked('xml')}</AssumeRoleResponse>`),
    { status: 200, body: { ...json, access_token: 7 } },
    { status: 201, body: { ...json, access_token: seen } },
  ]
}

/** Issues once, and keeps what came of it and what a host answers. */
async function issue(row: Row, provider: Provider): Promise<string> {
  const sealing = await openSealing(testWorld({ start: Date.now() }))
  const { type, secrets, role = {}, consented = {} } = row
  const settings = row.settings?.(provider.url, authority.ca) ?? {}
  const deliver = openDeliver(sealing.sealer, sealing.revocations)
  await using exchange = openTestExchange({ type, settings, secrets, role, consented, deliver })
  const verdict = await exchange.issue({ grant })
  sealing.watch.stop()
  kept.push(verdict)
  if (!verdict.ok) return verdict.code
  const about = { issuedAt: Math.floor(Date.now() / 1000), scope: [], tpmId: TPM_ID } as Partial<Grant>
  const issued = { ...verdict.value, grant: about, warnings: [], beatWithinSeconds: Number.POSITIVE_INFINITY }
  const answer = answerOf(issued as unknown as Issued)
  kept.push(replyOf({ reply: answer, warnings: [] }, 'txn', 'broker'))
  return Object.keys(answer.data).some(name => ['token', 'session_token'].includes(name)) ? 'OK' : 'nothing'
}

test('a snapshot shows a secret wherever an object keeps it alive, and what it cannot look into', async () => {
  const ways: Readonly<Record<string, (secret: string) => object>> = {
    wrapped: secret => ({ data: { token: new Secret(secret) } }),
    sliced: secret => ({ error: `${'x'.repeat(2000)}${secret}${Math.random()}`.slice(10, 60) }),
    joined: secret => ({ error: `${Math.random()}${secret}`.concat(String(Math.random())) }),
    far: secret => ({ error: `${'x'.repeat(5000)}${secret}` }),
    deep: secret => ({ cause: { sent: [{ body: secret }] } }),
    mapped: secret => new Map([['a', secret]]),
  }
  const made = Object.entries(ways).map(([name, make]) => make(marked(name)))
  const { texts, opaque } = await keptBy([...made, { later: () => made, bytes: Buffer.from('a') }])
  for (const name of Object.keys(ways)) expect(texts.some(text => text.includes(marked(name)))).toBe(true)
  expect(opaque.toSorted()).toEqual(['closure later', 'object ArrayBuffer'])
})

describe('nothing that is answered', () => {
  test('every secret of every issuer is planted', () => {
    const planted = names.flatMap(name => Object.keys(table[name]?.secrets ?? {}).map(field => `${table[name]?.type} ${field}`))
    const all = Object.entries(issuers).flatMap(([type, { integration }]) =>
      Object.keys(integration?.secrets ?? {}).map(field => `${type} ${field}`),
    )
    expect([...new Set(planted)].toSorted()).toEqual(all.toSorted())
    const marks = names.flatMap(name => Object.values(table[name]?.secrets ?? {}))
    expect(marks.filter(one => !one.includes(MARK) && !one.includes(line))).toEqual([])
  })

  test.each(names)('%s', async name => {
    const row = table[name] as Row
    await using provider = await startProvider(row.tls && (await authority.issue('provider')))
    provider.answer = asked => row.good?.(asked) ?? 'reset'
    expect(await issue(row, provider)).toBe('OK')
    if (!row.good) return
    for (let which = 0; which < 5; which++) {
      provider.answer = asked => echoes(asked)[which] ?? 'reset'
      expect(await issue(row, provider)).toMatch(/^EXCHANGE_/)
    }
    expect(provider.asked.length).toBeGreaterThan(4)
  })

  test('refers to a root credential', async () => {
    expect(kept.length).toBeGreaterThan(names.length * 5)
    const { texts, opaque } = await keptBy(kept)
    // what was issued is there, so the snapshot was looked into
    expect(texts).toEqual(expect.arrayContaining(['upstream-token', 'ya29.upstream']))
    for (const secret of [MARK, line]) expect(texts.filter(text => text.includes(secret))).toEqual([])
    expect(opaque).toEqual([])
  })
})
afterAll(() => void kept.splice(0))

async function certificateOf(): Promise<string> {
  x509.cryptoProvider.set(webcrypto as never)
  const algorithm = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256', modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]) }
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  const made = { name: 'CN=application', keys: keys as never, signingAlgorithm: algorithm }
  return (await x509.X509CertificateGenerator.createSelfSigned(made)).toString('pem')
}
