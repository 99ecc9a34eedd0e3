import { generateKeyPairSync, randomUUID } from 'node:crypto'
import { inspect } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { replyOf, replyOfError } from '../../mounts/hosts/envelope.ts'
import { configure, enrol, logIn, openTestBroker, type TestBroker } from '../fakes/broker.ts'
import { type Connect, startConnect } from '../fakes/connect.ts'
import { keptBy } from '../fakes/heap_snapshot.ts'
import { type JsonServer, startJsonServer, type Trouble } from '../fakes/json_server.ts'
import { type KeyVault, startKeyVault } from '../fakes/key_vault.ts'
import { fakeMachine } from '../fakes/machine.ts'
import { type Answer, type Provider, type ProviderAsked, startProvider } from '../fakes/provider.ts'
import { newAuthority } from '../mounts/hosts/certificates.ts'
import { assumed } from './issuers/providers.ts'

// A mark in every root credential, and a provider that answers in every way, also with what it was sent. The mark is looked for wherever anything is
// told, logged, counted or recorded.
const MARK = 'CanaRy7'
const marked = (what: string) => `${MARK}${what}0123456789abcdef`
const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()

const machine = fakeMachine({ label: 'enrolled' })
let broker: TestBroker
let provider: Provider
let entra: Provider
let connect: Connect
let vault: KeyVault
let manager: JsonServer
let agent: string
const told: string[] = []
/** the answers themselves, for a look at the heap */
const kept: object[] = []
beforeAll(async () => {
  broker = await openTestBroker()
  provider = await startProvider()
  const authority = await newAuthority('Providers')
  entra = await startProvider(await authority.issue('provider'))
  await startStores()
  await configure(broker, { role: { actions: 'deploy' } })
  await broker.ask('update', 'broker/policy/all', { policy: 'permit (principal, action, resource);' })
  for (const [name, store] of Object.entries(stores())) await ask('update', `broker/store/${name}`, store, broker.vault.rootToken)
  for (const [name, { type, role, ...row }] of Object.entries({ ...integrations(authority.ca), ...stored() })) {
    await ask('update', `broker/integration/${name}`, { type, ...row }, broker.vault.rootToken)
    const common = { plugins: 'kubernetes', actions: 'deploy', audiences: 'a', scopes: 'a', issuer: type, integration: name }
    await broker.ask('update', `broker/role/${name}`, { ...common, ...role })
  }
  await enrol(broker, machine)
  agent = await logIn(broker, machine)
})
afterAll(async () => {
  for (const one of [provider, entra, connect, vault, manager]) await one[Symbol.asyncDispose]()
  await broker[Symbol.asyncDispose]()
})

type Row = { readonly type: string; readonly settings: object; readonly secrets?: object; readonly role?: object }
const ITEM = 'i'.repeat(26)

/** Stores whose own credentials carry the mark too, and what they keep. */
async function startStores(): Promise<void> {
  const root = { client_secret: marked('stored') }
  connect = await startConnect(marked('connect'))
  connect.items.set(ITEM, {
    version: 1,
    fields: [{ id: 'a', label: 'client_secret', type: 'CONCEALED', value: root.client_secret }],
  })
  vault = await startKeyVault()
  vault.client.secret = marked('vault')
  vault.secrets.set('root', { version: 'v1', value: JSON.stringify(root), attributes: { enabled: true } })
  const answer = { ARN: 'arn:aws:secretsmanager:eu-central-1:1:secret:root', Name: 'root', VersionId: 'v'.repeat(36) }
  manager = await startJsonServer(() => ({
    status: 200,
    body: { ...answer, SecretString: JSON.stringify(root), VersionStages: [] },
  }))
}

function stores(): Readonly<Record<string, object>> {
  const { tenant: tenant_id, client, url } = vault
  return {
    connect: { type: 'onepassword_connect', settings: { url: connect.url }, secrets: { token: connect.token } },
    entra: {
      type: 'azure_key_vault',
      settings: { vault_url: url, authority: url, tenant_id, client_id: client.id },
      secrets: { client_secret: client.secret },
    },
    aws: {
      type: 'aws_secrets_manager',
      settings: { region: 'eu-central-1', endpoint: manager.url },
      secrets: { access_key_id: marked('AKIA-SM'), secret_access_key: marked('sm'), session_token: marked('session') },
    },
  }
}

/** Integrations whose root credential is in such a store. */
function stored(): Readonly<Record<string, Row & { readonly store: string; readonly ref: string }>> {
  const settings = { token_url: `${provider.url}/token`, grant: 'client_credentials', client_id: 'c' }
  const one = { type: 'oauth2', settings }
  return {
    'in-connect': { ...one, store: 'connect', ref: `${connect.vault}/${ITEM}` },
    'in-entra': { ...one, store: 'entra', ref: 'root' },
    'in-aws': { ...one, store: 'aws', ref: 'root' },
  }
}

function integrations(ca: string): Readonly<Record<string, Row>> {
  const tenant = { authority: entra.url, tenant_id: 't', client_id: 'c', ca }
  const token_url = `${provider.url}/token`
  const key = { client_email: 'a@b.iam.gserviceaccount.com', private_key_id: marked('id'), private_key: pem }
  const arn = { role_arn: 'arn:aws:iam::123456789012:role/agents', permissions: { deploy: ['s3:GetObject arn:aws:s3:::b/*'] } }
  const aws = { access_key_id: marked('AKIA'), secret_access_key: marked('aws') }
  return {
    basic: {
      type: 'oauth2',
      settings: { token_url, grant: 'client_credentials', client_id: 'c' },
      secrets: { client_secret: marked('basic') },
    },
    post: {
      type: 'oauth2',
      settings: { token_url, grant: 'client_credentials', client_id: 'c', client_auth: 'client_secret_post' },
      secrets: { client_secret: marked('post') },
    },
    refresh: {
      type: 'oauth2',
      settings: { token_url, grant: 'refresh_token', client_id: 'c' },
      secrets: { client_secret: marked('secret'), refresh_token: marked('refresh') },
    },
    entra: { type: 'azure', settings: { ...tenant, auth: 'secret' }, secrets: { client_secret: marked('entra') } },
    'entra-refresh': {
      type: 'azure',
      settings: { ...tenant, auth: 'refresh_token' },
      secrets: { client_secret: marked('entra'), refresh_token: marked('entra-refresh') },
    },
    aws: {
      type: 'aws_sts',
      settings: { region: 'eu-central-1', endpoint: provider.url, auth: 'access_key' },
      secrets: aws,
      role: arn,
    },
    gcp: {
      type: 'gcp',
      settings: { auth: 'key', token_url, sts_url: token_url, iam_url: provider.url },
      secrets: { key: JSON.stringify(key) },
      role: { service_account: 'sa@b.iam.gserviceaccount.com' },
    },
  }
}

/** Asks, and keeps all that a caller is told and all that an error says of itself; logs it too. */
async function ask(operation: 'read' | 'update', path: string, data: object, token: string): Promise<string> {
  try {
    const outcome = await broker.ask(operation, path, data, { token })
    kept.push(outcome, replyOf(outcome, 'txn', 'broker'))
    const reply = JSON.stringify(kept.at(-1))
    told.push(reply)
    return reply
  } catch (error) {
    broker.world.log.error({ error }, 'a request failed')
    kept.push(replyOfError(error, 'with a token'))
    const reply = JSON.stringify(kept.at(-1))
    told.push(reply, inspect(error, { depth: null, showHidden: true }))
    for (let at = error; at instanceof Error; at = at.cause)
      told.push(at.message, at.stack ?? '', inspect(Object.entries(at), { depth: null }))
    return reply
  }
}

/** What a provider says of what it was sent: in every place where a client may look for something. */
function echoed({ body, headers }: { body: string; headers: object }): readonly Answer[] {
  const seen = `${body} ${JSON.stringify(headers)} ${decodeURIComponent(body)} ${marked('echo')}`
  const json = { error: seen, error_description: seen, access_token: null, message: seen, Error: { Code: seen, Message: seen } }
  return [
    { status: 400, body: json },
    { status: 401, body: json, headers: { 'www-authenticate': `Bearer error="${marked('header')}"` } },
    {
      status: 403,
      text: `<ErrorResponse><Error><Code>${marked('code')}</Code><Message>${marked('xml')}</Message></Error></ErrorResponse>`,
      headers: { 'content-type': 'text/xml' },
    },
    { status: 200, body: json },
    { status: 200, text: seen },
    { status: 201, body: { ...json, access_token: seen } },
    { status: 200, body: { access_token: 'x', token_type: marked('type'), expires_in: marked('life'), scope: marked('scope') } },
    { status: 302, headers: { location: `http://127.0.0.1:1/${marked('location')}` } },
  ]
}

/** What providers answer when all is well, each told by where it is asked. */
function good({ url, body }: ProviderAsked): Answer {
  const end = new Date(broker.world.now() + 900_000).toISOString()
  const token = { access_token: 'upstream-token', token_type: 'Bearer', expires_in: 600, scope: 'a' }
  const next = body.includes('refresh_token') ? { refresh_token: marked(randomUUID()) } : {}
  if (url.includes('/token')) return { status: 200, body: { ...token, ...next } }
  if (url.includes('generateAccessToken')) return { status: 200, body: { accessToken: 'upstream-token', expireTime: end } }
  const arn = `arn:aws:sts::123456789012:assumed-role/agents/assay-${machine.tpmId.slice(7, 39)}`
  return { status: 200, headers: { 'content-type': 'text/xml' }, text: assumed({ arn, end }) }
}
const answerWith = (answer: Provider['answer']) => {
  provider.answer = answer
  entra.answer = answer
}
const creds = (name: string) => ask('update', `broker/creds/${name}`, { scope: 'a' }, agent)

describe('the mark is told to nobody', () => {
  const kinds = ['basic', 'post', 'refresh', 'entra', 'entra-refresh', 'aws', 'gcp']
  test.each([...kinds, 'in-connect', 'in-entra', 'in-aws'])('%s', async name => {
    answerWith(good)
    expect(await creds(name)).toMatch(/"(?:token|session_token)":"/)
    for (let which = 0; which < 8; which++) {
      answerWith(asked => echoed(asked)[which] ?? 'reset')
      expect(await creds(name)).toMatch(/EXCHANGE_(?:REFUSED|UNUSABLE)/)
    }
    answerWith(() => ({ status: 500, text: marked('500') }))
    expect(await creds(name)).toContain(`the integration ${name}`)
    await ask('read', `broker/integration/${name}`, {}, broker.vault.rootToken)
    const simulated = { role: name, tpm_id: 'x', login_role: 'builder', scope: 'a' }
    await ask('update', 'broker/simulate', simulated, broker.vault.rootToken)
  })

  test.each([
    ['in-connect', () => connect],
    ['in-entra', () => vault],
    ['in-aws', () => manager],
  ] as const)('%s, whose store repeats what it was sent', async (name, of) => {
    const troubles: readonly ((seen: string) => Trouble)[] = [
      seen => ({ status: 400, body: { message: seen, __type: seen, error: { code: seen, message: seen } } }),
      seen => ({ status: 403, body: { message: seen, __type: `AccessDenied${seen}` }, headers: { 'WWW-Authenticate': seen } }),
      seen => ({ status: 200, body: { SecretString: seen, value: seen, fields: [{ id: seen, label: seen, value: [seen] }] } }),
      seen => ({ status: 200, text: seen }),
      () => 'reset',
    ]
    for (const trouble of troubles) {
      of().trouble = ({ body, headers }) => trouble(`${body.replaceAll(/\s/g, ' ')} ${JSON.stringify(headers)} ${marked('echo')}`)
      // what was read before counts no longer
      broker.world.pass(15_001)
      expect(await creds(name)).toContain(`the root credential of the integration ${name} cannot be had`)
    }
    of().trouble = () => undefined
  })

  test('not in what was told, logged, recorded or counted', async () => {
    expect(provider.asked.some(({ body, headers }) => (body + JSON.stringify(headers)).includes(MARK))).toBe(true)
    const records = JSON.stringify(await broker.records())
    expect(records).toContain('"integration":"basic"')
    const everything = [...told, ...broker.world.lines, records, await broker.broker.metrics.text()].join('\n')
    expect(everything.includes(MARK)).toBe(false)
  })

  test('not on the heap where answers refer to it', async () => {
    const { texts, opaque } = await keptBy(kept)
    expect(texts).toContain('upstream-token')
    expect(texts.filter(text => text.includes(MARK))).toEqual([])
    expect(opaque).toEqual([])
  })

  test('the key of the service account was not told either', () => {
    const line = pem.split('\n')[3] ?? ''
    expect(line.length).toBeGreaterThan(40)
    expect([...told, ...broker.world.lines].join('\n').includes(line)).toBe(false)
  })
})
