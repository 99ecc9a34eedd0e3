import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { parseFields } from '../../engine/fields.ts'
import { Secret } from '../../engine/secret.ts'
import { stores } from '../../engine/stores/index.ts'
import { openReader, type Reader } from '../../engine/stores/reader.ts'
import type { SecretStore, StoreWorld } from '../../engine/stores/store.ts'
import { type Connect, startConnect } from '../fakes/connect.ts'
import { type JsonServer, type Said, startJsonServer, type Trouble } from '../fakes/json_server.ts'
import { type KeyVault, startKeyVault } from '../fakes/key_vault.ts'
import { testWorld } from '../fakes/world.ts'
import { PATIENCE_MS } from '../harness/patience.ts'
import { until } from '../harness/process.ts'

const CANARY = 'canary-of-the-root-credential'
const world = testWorld()
const unused = () => {
  throw new Error('a foreign store does not use the state of the broker')
}
const storeWorld: StoreWorld = {
  state: { get: unused, fresh: unused, put: unused, list: unused, delete: unused, deleteAll: unused },
  cipher: { create: unused, seal: unused, open: unused },
  now: world.now,
  deadlineMs: PATIENCE_MS,
}

function opened(kind: string, settings: object, secrets: Record<string, string>): Reader {
  const store = stores[kind] as SecretStore
  const { values } = parseFields(store.settings, settings as Record<string, unknown>)
  const credentials = Object.fromEntries(Object.entries(secrets).map(([name, value]) => [name, new Secret(value)]))
  return openReader(store.open(values, credentials, storeWorld), { monotonic: world.monotonic, deadlineMs: PATIENCE_MS })
}

const revealed = (fields: Readonly<Record<string, Secret>>) =>
  Object.fromEntries(Object.entries(fields).map(([name, one]) => [name, one.reveal()]))

/** The fault, of which nothing may hold a secret. */
async function fault(asked: Promise<unknown>): Promise<{ kind: string; reason: string }> {
  const error = await asked.then(
    () => new Error('it was answered'),
    (thrown: unknown) => thrown,
  )
  const { kind, reason } = error as { kind: string; reason: string }
  expect(JSON.stringify([error, String(error), (error as Error).stack])).not.toMatch(/canary|token-/)
  return { kind, reason }
}

/** What no store may be taken at its word for. */
const troubles: readonly (readonly [string, Trouble, string])[] = [
  ['never answers', 'hang', 'down'],
  ['closes the connection', 'reset', 'down'],
  ['does not come to an end', 'endless', 'down'],
  ['fails', { status: 500, body: { message: CANARY } }, 'down'],
  ['is busy', { status: 429, headers: { 'Retry-After': '30' } }, 'down'],
  ['says no', { status: 403, body: { message: CANARY } }, 'denied'],
  ['leads elsewhere', { status: 302, headers: { Location: 'http://169.254.169.254/' } }, 'malformed'],
  ['says created', { status: 201, body: { value: CANARY } }, 'malformed'],
  ['says nothing', { status: 200, text: '' }, 'malformed'],
  ['says no JSON', { status: 200, text: `<html>${CANARY}` }, 'malformed'],
  ['says half of it', { status: 200, text: `{"value":"${CANARY}"` }, 'malformed'],
  ['says null', { status: 200, body: null }, 'malformed'],
  ['says a list', { status: 200, body: [CANARY] }, 'malformed'],
]

describe('Azure Key Vault', () => {
  let vault: KeyVault
  let reads: Reader
  const open = (more: object = {}) =>
    opened(
      'azure_key_vault',
      { vault_url: vault.url, authority: vault.url, tenant_id: vault.tenant, client_id: vault.client.id, ...more },
      { client_secret: vault.client.secret },
    )
  const keep = (value: string, attributes: object = {}) =>
    vault.secrets.set('root', { version: 'v1', value, attributes: { enabled: true, ...attributes } })
  beforeEach(async () => {
    vault = await startKeyVault()
    keep(JSON.stringify({ api_key: CANARY }))
    reads = open()
  })
  afterEach(async () => {
    await reads.close()
    await vault[Symbol.asyncDispose]()
  })

  test('is read after its challenge was answered at the configured authority; the token serves again', async () => {
    expect(revealed((await reads.fresh('root')).fields)).toEqual({ api_key: CANARY })
    await reads.fresh('root')
    expect(vault.arrived.map(({ method, path }) => `${method} ${path.replace(vault.tenant, 'tenant')}`)).toEqual([
      'GET /secrets/root',
      'POST /tenant/oauth2/v2.0/token',
      'GET /secrets/root',
      'GET /secrets/root',
    ])
    // asked without a token, it learns nothing
    expect(vault.arrived[0]?.headers.authorization).toBeUndefined()
  })

  test('a text that is no object is the field value; version and expiry come with it', async () => {
    const exp = Math.floor(world.now() / 1000) + 3600
    keep(CANARY, { exp })
    const { fields, version, expiresAt } = await reads.fresh('root')
    expect([revealed(fields), version, expiresAt]).toEqual([{ value: CANARY }, 'v1', exp])
  })

  test('a token that it does not take any more is replaced', async () => {
    await reads.fresh('root')
    vault.tokens.clear()
    expect(revealed((await reads.fresh('root')).fields)).toEqual({ api_key: CANARY })
  })

  test.each([
    [
      'the domain of somebody else',
      () => {
        vault.resource = 'https://vault.evil.example'
      },
      'the challenge of the store is for another domain than its own',
    ],
    [
      'another tenant',
      () => {
        vault.challengeTenant = '00000000-0000-0000-0000-000000000000'
      },
      'the store belongs to another tenant than the configured one',
    ],
  ] as const)('a challenge for %s gets no token', async (_, change, reason) => {
    change()
    expect(await fault(reads.fresh('root'))).toEqual({ kind: 'denied', reason })
    expect(vault.arrived.filter(({ method }) => method === 'POST')).toEqual([])
  })

  test('one that answers without a challenge is no key vault', async () => {
    vault.trouble = () => ({
      status: 200,
      body: { value: CANARY, id: `${vault.url}/secrets/root/v1`, attributes: { enabled: true } },
    })
    expect(await fault(reads.fresh('root'))).toEqual({
      kind: 'malformed',
      reason: 'the store answered without asking for a token',
    })
  })

  test.each([
    ['disabled', { enabled: false }, 'denied'],
    ['expired', { exp: 1 }, 'denied'],
    ['of an unreadable expiry', { exp: 'soon' }, 'malformed'],
    ['of an expiry after all days', { exp: Number.MAX_SAFE_INTEGER }, 'malformed'],
  ])('a secret that is %s is none', async (_, attributes, kind) => {
    keep(CANARY, attributes)
    expect((await fault(reads.fresh('root'))).kind).toBe(kind)
  })

  test('wrong credentials of the broker are told without them', async () => {
    vault.client.secret = 'another'
    expect((await fault(reads.fresh('root'))).kind).toBe('denied')
  })

  test('is written when nobody changed it, and not when somebody did', async () => {
    await reads.replace('root', { fields: { api_key: new Secret('next') } }, 'v1')
    expect(vault.secrets.get('root')?.value).toBe('{"api_key":"next"}')
    expect((await fault(reads.replace('root', { fields: { api_key: new Secret('late') } }, 'v1'))).kind).toBe('conflict')
    expect(vault.secrets.get('root')?.value).toBe('{"api_key":"next"}')
  })

  test.each([
    ['another secret', () => `${vault.url}/secrets/other/v1`],
    ['a secret elsewhere', () => 'https://other.example/secrets/root/v1'],
    ['nothing that can be read', () => 'http://['],
  ])('the answer about %s is not taken', async (_, id) => {
    await reads.fresh('root')
    vault.trouble = () => ({ status: 200, body: { value: CANARY, id: id(), attributes: { enabled: true } } })
    expect((await fault(reads.fresh('root'))).reason).toBe('the answer is about another secret')
  })

  describe('nothing is taken from one that, asked with a token,', () => {
    test.each(troubles)('%s', (_, trouble, kind) => troubled(vault, reads, 'root', trouble, kind))
  })
})

describe('1Password Connect', () => {
  let connect: Connect
  let reads: Reader
  const id = 'i'.repeat(26)
  const ref = `${'v'.repeat(26)}/${id}`
  const open = (token: string) => opened('onepassword_connect', { url: connect.url }, { token })
  beforeEach(async () => {
    connect = await startConnect()
    const fields = [
      { id: 'username', label: 'username', type: 'STRING', purpose: 'USERNAME', value: 'broker' },
      { id: 'f1', label: 'api_key', type: 'CONCEALED', value: CANARY },
      { id: 'notesPlain', label: 'notesPlain', type: 'STRING', purpose: 'NOTES' },
      { id: 'f2', label: 'a label for people', type: 'STRING', value: 'text' },
    ]
    connect.items.set(id, { version: 3, fields })
    reads = open(connect.token)
  })
  afterEach(async () => {
    await reads.close()
    await connect[Symbol.asyncDispose]()
  })

  test('gives the fields with a name and a value', async () => {
    const { fields, version } = await reads.fresh(ref)
    expect([revealed(fields), version]).toEqual([{ username: 'broker', api_key: CANARY }, '3'])
  })

  test('is patched field by field, when nobody changed the item', async () => {
    await reads.replace(
      ref,
      { fields: { username: new Secret('broker'), api_key: new Secret('next'), extra: new Secret('new') } },
      '3',
    )
    const { fields, version } = await reads.fresh(ref)
    expect([revealed(fields), version]).toEqual([{ username: 'broker', api_key: 'next', extra: 'new' }, '4'])
    expect((await fault(reads.replace(ref, { fields: { api_key: new Secret('late') } }, '3'))).kind).toBe('conflict')
  })

  test.each(['ARCHIVED', 'DELETED'])('an item that is %s is not there any more', async state => {
    connect.items.set(id, { version: 4, state, fields: [{ id: 'f1', label: 'api_key', type: 'CONCEALED', value: CANARY }] })
    expect((await fault(reads.fresh(ref))).kind).toBe('absent')
  })

  test('two fields of one label are none', async () => {
    connect.items.get(id)?.fields.push({ id: 'f9', label: 'api_key', type: 'STRING', value: 'other' })
    expect((await fault(reads.fresh(ref))).reason).toBe('two fields of the item have the same label')
  })

  test('an item that is not there is told from one that may not be read', async () => {
    expect((await fault(reads.fresh(`${'v'.repeat(26)}/${'x'.repeat(26)}`))).kind).toBe('absent')
    const stranger = open('canary-of-somebody-else')
    expect((await fault(stranger.fresh(ref))).kind).toBe('denied')
    await stranger.close()
  })

  test('the answer about another item is not taken', async () => {
    connect.trouble = () => ({ status: 200, body: { id: 'o'.repeat(26), vault: { id: connect.vault }, version: 1, fields: [] } })
    expect((await fault(reads.fresh(ref))).reason).toBe('the answer is about another item')
  })

  test.each([
    ['no version', { version: 'three' }],
    ['no fields', { fields: undefined }],
    ['a field that is none', { fields: [null] }],
    ['a value that is no text', { fields: [{ id: 'f1', label: 'api_key', value: { canary: CANARY } }] }],
    ['nothing with a value', { fields: [{ id: 'f1', label: 'api_key' }] }],
  ])('an item with %s is malformed', async (_, more) => {
    const item = {
      id,
      vault: { id: connect.vault },
      version: 3,
      fields: [{ id: 'f1', label: 'api_key', value: CANARY }],
      ...more,
    }
    connect.trouble = () => ({ status: 200, body: item })
    expect((await fault(reads.fresh(ref))).kind).toBe('malformed')
  })

  describe('nothing is taken from one that', () => {
    test.each(troubles)('%s', (_, trouble, kind) => troubled(connect, reads, ref, trouble, kind))
  })
})

describe('AWS Secrets Manager', () => {
  let server: JsonServer
  let reads: Reader
  const ARN = 'arn:aws:secretsmanager:eu-central-1:123456789012:secret:root/aws-AbCdEf'
  const about = { ARN, Name: 'root/aws', VersionId: 'v'.repeat(36), VersionStages: ['AWSCURRENT'] }
  const said = (more: object = {}): Trouble => ({
    status: 200,
    body: { ...about, SecretString: JSON.stringify({ api_key: CANARY }), ...more },
  })
  const error = (type: string, status = 400): Trouble => ({ status, body: { __type: type, message: CANARY } })
  beforeEach(async () => {
    server = await startJsonServer(() => said() as Said)
    const credentials = { access_key_id: 'AKIAEXAMPLE000000000', secret_access_key: 'canary-of-the-key' }
    reads = opened('aws_secrets_manager', { region: 'eu-central-1', endpoint: server.url }, credentials)
  })
  afterEach(async () => {
    await reads.close()
    await server[Symbol.asyncDispose]()
  })

  test.each(['root/aws', ARN, ARN.slice(0, -7)])('is read by name, ARN, and the ARN without its end: %s', async ref => {
    const { fields, version } = await reads.fresh(ref)
    expect([revealed(fields), version]).toEqual([{ api_key: CANARY }, about.VersionId])
  })

  test.each([
    ['that is not there', error('ResourceNotFoundException'), 'absent'],
    ['that was marked for deletion', error('InvalidRequestException'), 'absent'],
    ['that it may not decrypt', error('DecryptionFailure'), 'denied'],
    ['that it may not read', error('AccessDeniedException'), 'denied'],
    ['asked for with a key that is gone', error('UnrecognizedClientException'), 'denied'],
    ['while it is asked too often', error('ThrottlingException'), 'down'],
    ['while it is broken', error('InternalServiceError', 500), 'down'],
    ['with an error that repeats what was sent', error('canary-of-the-key'), 'denied'],
    ['of another name', said({ Name: 'root/other' }), 'malformed'],
    ['without a name', said({ Name: undefined }), 'malformed'],
    ['without a version', said({ VersionId: undefined }), 'malformed'],
    ['that is binary', said({ SecretString: undefined, SecretBinary: 'Y2FuYXJ5' }), 'malformed'],
    ['that is a number', said({ SecretString: 7 }), 'malformed'],
    ['that is empty', said({ SecretString: '' }), 'malformed'],
  ] as const)('a secret %s', async (_, trouble, kind) => {
    server.trouble = () => trouble
    expect((await fault(reads.fresh('root/aws'))).kind).toBe(kind)
  })

  describe('nothing is taken from one that', () => {
    test.each(troubles)('%s', (_, trouble, kind) => troubled(server, reads, 'root/aws', trouble, kind))
  })
})

async function troubled(server: JsonServer, reads: Reader, ref: string, trouble: Trouble, kind: string): Promise<void> {
  await reads.fresh(ref)
  server.trouble = ({ path }) => (path.endsWith('/token') ? undefined : trouble)
  const told = () => fault(reads.fresh(ref))
  expect((await (trouble === 'hang' ? late(server, told) : told())).kind).toBe(kind)
}

/** What is told once the deadline has passed, by a clock that waits for the question to arrive. */
async function late<T>({ arrived }: JsonServer, ask: () => Promise<T>): Promise<T> {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  try {
    const before = arrived.length
    const told = ask()
    await until('the question', async () => arrived.length > before)
    await vi.advanceTimersByTimeAsync(PATIENCE_MS)
    return await told
  } finally {
    vi.useRealTimers()
  }
}

test('a server that is not there is down', async () => {
  // nobody listens on the first port, and nobody is given it
  const reads = opened('onepassword_connect', { url: 'http://127.0.0.1:1' }, { token: 'canary' })
  expect(await fault(reads.fresh(`${'v'.repeat(26)}/${'i'.repeat(26)}`))).toEqual({
    kind: 'down',
    reason: 'it cannot be reached',
  })
  await reads.close()
})

describe('where a store may be', () => {
  const url = (value: string) => parseFields((stores['onepassword_connect'] as SecretStore).settings, { url: value })
  test.each([
    'http://connect.example',
    'http://169.254.169.254',
    'http://10.0.0.1',
    'ftp://connect.example',
    'connect.example',
    'https://user:password@connect.example',
    'https://connect.example/?x=1',
    'https://connect.example/#x',
    'http://127.0.0.1.evil.example',
  ])('not %s', value => expect(() => url(value)).toThrow('wanted an https URL'))
  test.each([
    'https://connect.example',
    'https://connect.example:8443/base',
    'http://127.0.0.1:8080',
    'http://localhost',
    'http://[::1]:8080',
  ])('%s', value => expect(url(value).values).toMatchObject({ url: value }))

  const METADATA = 'https://169.254.169.254'
  const tenant_id = '00000000-0000-4000-8000-000000000000'
  test.each([
    ['onepassword_connect', { url: METADATA }, { token: 'canary' }, `${'v'.repeat(26)}/${'i'.repeat(26)}`],
    ['azure_key_vault', { vault_url: METADATA, tenant_id, client_id: tenant_id }, { client_secret: 'canary' }, 'root'],
    [
      'aws_secrets_manager',
      { region: 'eu-central-1', endpoint: METADATA },
      { access_key_id: 'canary', secret_access_key: 'canary' },
      'root',
    ],
  ])(
    'nor at an address where clouds tell machines their credentials, also over TLS: %s',
    async (kind, settings, secrets, ref) => {
      const reads = opened(kind, settings, secrets as Record<string, string>)
      expect(await fault(reads.fresh(ref))).toEqual({
        kind: 'down',
        reason: 'it has the address of a metadata service, which is never asked',
      })
      await reads.close()
    },
  )
})
