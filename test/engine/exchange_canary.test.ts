import { generateKeyPairSync } from 'node:crypto'
import { inspect } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { replyOf, replyOfError } from '../../mounts/hosts/envelope.ts'
import { configure, enrol, logIn, openTestBroker, type TestBroker } from '../fakes/broker.ts'
import { fakeMachine } from '../fakes/machine.ts'
import { type Answer, type Provider, startProvider } from '../fakes/provider.ts'

// A mark in every root credential, and a provider that answers in every way, also with what it was sent. The mark is looked for wherever anything is
// told, logged, counted or recorded.
const MARK = 'CanaRy7'
const marked = (what: string) => `${MARK}${what}0123456789abcdef`
const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()

let broker: TestBroker
let provider: Provider
let agent: string
const told: string[] = []
beforeAll(async () => {
  broker = await openTestBroker({ deadlineMs: 5000 })
  provider = await startProvider()
  await configure(broker, { role: { actions: 'deploy' } })
  await broker.ask('update', 'broker/policy/all', { policy: 'permit (principal, action, resource);' })
  for (const [name, { type, settings, secrets, role }] of Object.entries(integrations())) {
    await ask('update', `broker/integration/${name}`, { type, settings, secrets }, broker.vault.rootToken)
    const common = { plugins: 'kubernetes', actions: 'deploy', audiences: 'a', scopes: 'a', issuer: type, integration: name }
    await broker.ask('update', `broker/role/${name}`, { ...common, ...role })
  }
  const machine = fakeMachine({ label: 'enrolled' })
  await enrol(broker, machine)
  agent = await logIn(broker, machine)
}, 60_000)
afterAll(async () => {
  await provider[Symbol.asyncDispose]()
  await broker[Symbol.asyncDispose]()
})

type Row = { readonly type: string; readonly settings: object; readonly secrets: object; readonly role?: object }
function integrations(): Readonly<Record<string, Row>> {
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
    const reply = JSON.stringify(replyOf(outcome, 'txn', 'broker'))
    told.push(reply)
    return reply
  } catch (error) {
    broker.world.log.error({ error }, 'a request failed')
    const reply = JSON.stringify(replyOfError(error, 'with a token'))
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

describe('the mark is told to nobody', () => {
  test.each(['basic', 'post', 'refresh', 'aws', 'gcp'])('%s', async name => {
    for (let which = 0; which < 8; which++) {
      provider.answer = asked => echoed(asked)[which] ?? 'reset'
      expect(await ask('update', `broker/creds/${name}`, { scope: 'a' }, agent)).toMatch(/EXCHANGE_(?:REFUSED|UNUSABLE)/)
    }
    provider.answer = () => ({ status: 500, text: marked('500') })
    expect(await ask('update', `broker/creds/${name}`, { scope: 'a' }, agent)).toContain(`the integration ${name}`)
    await ask('read', `broker/integration/${name}`, {}, broker.vault.rootToken)
    const simulated = { role: name, tpm_id: 'x', login_role: 'builder', scope: 'a' }
    await ask('update', 'broker/simulate', simulated, broker.vault.rootToken)
  })

  test('not in what was told, logged, recorded or counted', async () => {
    expect(provider.asked.some(({ body, headers }) => (body + JSON.stringify(headers)).includes(MARK))).toBe(true)
    const records = JSON.stringify(await broker.records())
    expect(records).toContain('"integration":"basic"')
    const everything = [...told, ...broker.world.lines, records, await broker.broker.metrics.text()].join('\n')
    expect(everything.includes(MARK)).toBe(false)
  })

  test('the key of the service account was not told either', () => {
    const line = pem.split('\n')[3] ?? ''
    expect(line.length).toBeGreaterThan(40)
    expect([...told, ...broker.world.lines].join('\n').includes(line)).toBe(false)
  })
})
