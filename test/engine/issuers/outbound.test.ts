import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { Socket } from 'node:net'
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import { IAM, iamOf, regional, STS, stsUrl } from '../../../engine/issuers/aws_transport.ts'
import { openUpstreams, type Upstreams } from '../../../engine/issuers/outbound.ts'
import { isMetadata } from '../../../engine/metadata.ts'
import { Secret } from '../../../engine/secret.ts'
import { stores } from '../../../engine/stores/index.ts'
import { StoreFault, type StoreWorld } from '../../../engine/stores/store.ts'
import { openTestExchange } from '../../fakes/exchange.ts'
import { type Provider, startProvider } from '../../fakes/provider.ts'
import { PATIENCE_MS } from '../../harness/patience.ts'

let upstreams: Upstreams
let provider: Provider
beforeAll(async () => {
  upstreams = openUpstreams({ monotonic: () => performance.now(), deadlineMs: PATIENCE_MS })
  provider = await startProvider()
})
afterAll(async () => {
  await upstreams.close()
  await provider[Symbol.asyncDispose]()
})

/** Where sockets of this process were meant to go, while it runs. */
const dialled: string[] = []
const note = (message: unknown) => {
  const { socket } = message as { socket: Socket }
  socket.once('connectionAttempt', (ip: string) => dialled.push(ip))
}
beforeAll(() => subscribe('net.client.socket', note))
afterAll(() => void unsubscribe('net.client.socket', note))
afterEach(() => void dialled.splice(0))

describe('metadata addresses are never dialled', () => {
  test.each([
    'http://169.254.169.254/latest/meta-data/',
    'http://2852039166/',
    'http://0xa9fea9fe/',
    'http://0251.0376.0251.0376/',
    'http://169.254.43518/',
    'http://１６９.254.169.254/',
    'http://[::ffff:169.254.169.254]/',
    'http://[::ffff:a9fe:a9fe]/',
    'http://169.254.170.2/v2/credentials',
    'http://169.254.170.23/',
    'http://[fd00:ec2::254]/',
    'http://[fd20:ce::254]/',
    'http://[fe80::a9fe:a9fe]/',
    'http://100.100.100.200/',
    'http://168.63.129.16/',
    'http://192.0.0.192/',
  ])('%s', async url => {
    const asked = upstreams.of(url, 'acme').send({ method: 'GET', url })
    await expect(asked).rejects.toThrow('the integration acme has the address of a metadata service, which is never asked')
    expect(dialled).toEqual([])
  })

  test('others are', () => {
    expect(['127.0.0.1', '10.0.0.1', '[::1]', 'example.com', '169.253.1.1'].filter(isMetadata)).toEqual([])
  })
})

test('no SDK goes anywhere but to the provider, whatever the environment says', async () => {
  const kept = { ...process.env }
  Object.assign(process.env, {
    AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: '/x',
    AWS_DEFAULTS_MODE: 'auto',
    AWS_EC2_METADATA_SERVICE_ENDPOINT: 'http://169.254.169.254',
    AWS_ENDPOINT_URL: 'https://169.254.169.254',
    AWS_PROFILE: 'nobody',
    AWS_USE_DUALSTACK_ENDPOINT: 'true',
    AWS_USE_FIPS_ENDPOINT: 'true',
    AWS_WEB_IDENTITY_TOKEN_FILE: '/none',
    MSAL_FORCE_REGION: 'westeurope',
    MSI_ENDPOINT: 'http://169.254.169.254/',
    REGION_NAME: 'westeurope',
  })
  try {
    const aws = { region: 'eu-central-1', endpoint: provider.url }
    const role = { role_arn: 'arn:aws:iam::123456789012:role/agents', permissions: { read: ['s3:GetObject arn:aws:s3:::b/*'] } }
    for (const auth of ['web_identity', 'access_key']) {
      await using one = openTestExchange({
        type: 'aws_sts',
        settings: { ...aws, auth },
        secrets: { access_key_id: 'AKIA', secret_access_key: 's' },
        role,
      })
      expect(await one.outcome()).toMatch(/^EXCHANGE_/)
    }
    const azure = { authority: 'https://127.0.0.1:1', tenant_id: 't', client_id: 'c', auth: 'secret' }
    await using entra = openTestExchange({ type: 'azure', settings: azure, secrets: { client_secret: 's' } })
    expect(await entra.outcome({ grant: { scope: ['a'] } })).toBe('unavailable')
    const credentials = { access_key_id: new Secret('AKIA'), secret_access_key: new Secret('s') }
    const world = { deadlineMs: PATIENCE_MS } as StoreWorld
    const secrets = stores['aws_secrets_manager']?.open({ region: 'eu-central-1', endpoint: provider.url }, credentials, world)
    await expect(secrets?.read('root', AbortSignal.timeout(PATIENCE_MS))).rejects.toThrow(StoreFault)
    await secrets?.close()
    expect(new Set(dialled)).toEqual(new Set(['127.0.0.1']))
    expect(provider.asked.at(-1)?.headers).toMatchObject({ 'x-amz-target': 'secretsmanager.GetSecretValue' })
  } finally {
    process.env = kept
  }
})

test('AWS is asked where a region is, and nowhere that the environment says', () => {
  expect(stsUrl({ endpoint: STS, region: 'eu-central-1' })).toBe('https://sts.eu-central-1.amazonaws.com')
  expect(stsUrl({ endpoint: STS, region: 'cn-north-1' })).toBe('https://sts.cn-north-1.amazonaws.com.cn')
  expect(stsUrl({ endpoint: 'https://sts.example', region: 'eu-central-1' })).toBe('https://sts.example')
  expect(regional('secretsmanager', 'us-gov-west-1')).toBe('https://secretsmanager.us-gov-west-1.amazonaws.com')
})

test.each([
  ['eu-central-1', 'https://iam.amazonaws.com', 'us-east-1'],
  ['us-east-2', 'https://iam.amazonaws.com', 'us-east-1'],
  ['cn-northwest-1', 'https://iam.cn-north-1.amazonaws.com.cn', 'cn-north-1'],
  ['us-gov-east-1', 'https://iam.us-gov.amazonaws.com', 'us-gov-west-1'],
])('IAM for %s is %s, signed for %s', (region, url, signed) => {
  expect(iamOf({ region, iam_url: IAM })).toEqual({ url, region: signed })
  expect(iamOf({ region, iam_url: 'https://iam.example.com' })).toEqual({ url: 'https://iam.example.com', region: signed })
})

test('a redirect is an answer, and is not followed', async () => {
  await using elsewhere = await startProvider()
  provider.answer = () => ({ status: 307, headers: { location: elsewhere.url } })
  const received = await upstreams.of('redirect', 'acme').send({ method: 'POST', url: provider.url, body: 'client_secret=x' })
  expect([received.status, elsewhere.asked.length]).toEqual([307, 0])
})

test('a reply without end is cut off', async () => {
  provider.answer = () => ({ status: 200, text: 'x'.repeat(2 ** 20 + 1) })
  const send = (more: object) => upstreams.of('long', 'acme').send({ method: 'GET', url: provider.url, ...more })
  await expect(send({ mostBytes: 2 ** 20 })).rejects.toThrow('acme said too much')
  provider.answer = () => ({ status: 200, text: 'x'.repeat(2 ** 17 + 1) })
  await expect(send({})).rejects.toThrow('acme said too much')
  expect((await send({ mostBytes: 2 ** 20 })).body).toHaveLength(2 ** 17 + 1)
})

test('a provider may say until when it wants to be left alone, by its own clock', async () => {
  const date = 'Mon, 01 Jun 2026 00:00:00 GMT'
  const asked = (after: string, said: string) => {
    provider.answer = () => ({ status: 429, headers: { 'retry-after': after, date: said } })
    return upstreams.of(`${after} ${said}`, 'acme').send({ method: 'GET', url: provider.url })
  }
  await expect(asked('Mon, 01 Jun 2026 00:01:30 GMT', date)).rejects.toThrow(
    'acme answered with status 429 and asked to be left alone for 90 s',
  )
  await expect(asked('Sun, 31 May 2026 00:00:00 GMT', date)).rejects.toThrow('asked to be left alone for 0 s')
  await expect(asked('tomorrow', date)).rejects.toThrow(/acme answered with status 429$/)
})

test('who says 403 and when to come back is left alone, too; who says 403 alone has refused', async () => {
  const send = (key: string) => upstreams.of(key, 'acme').send({ method: 'GET', url: provider.url })
  provider.answer = () => ({ status: 403 })
  expect((await send('forbidden')).status).toBe(403)
  provider.answer = () => ({ status: 403, headers: { 'retry-after': '60' } })
  await expect(send('forbidden')).rejects.toThrow('acme answered with status 403 and asked to be left alone for 60 s')
  await expect(send('forbidden')).rejects.toThrow(/asked to be left alone for \d+ s more/)
})

// `date` and `x-ratelimit-reset` are half a minute apart
const DATE = { date: 'Mon, 01 Jun 2026 00:00:00 GMT' }
const RESET = { 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': '1780272030' }
test.each([
  ['403 at the end of the primary limit', 403, { ...DATE, ...RESET }, ' with status 403 and asked to be left alone for 30 s'],
  ['429 at the end of the primary limit', 429, { ...DATE, ...RESET }, ' with status 429 and asked to be left alone for 30 s'],
  ['both limits', 403, { ...DATE, ...RESET, 'retry-after': '60' }, ' with status 403 and asked to be left alone for 60 s'],
  ['a reset that is over', 403, { ...DATE, ...RESET, 'x-ratelimit-reset': '1780271999' }, ' with status 403'],
  ['a reset in seconds', 429, { ...DATE, ...RESET, 'x-ratelimit-reset': '30' }, ' with status 429'],
])('a limit of GitHub is waited for: %s', async (name, status, headers, said) => {
  provider.answer = () => ({ status, headers })
  const send = () => upstreams.of(name, 'acme').send({ method: 'GET', url: provider.url })
  await expect(send()).rejects.toThrow(new RegExp(`acme answered${said}$`))
  const before = provider.asked.length
  if (said.includes('alone')) await expect(send()).rejects.toThrow(/asked to be left alone for \d+ s more/)
  expect(provider.asked.length).toBe(before)
})

test.each([
  ['what is left', { ...DATE, ...RESET, 'x-ratelimit-remaining': '1' }],
  ['no reset', { ...DATE, 'x-ratelimit-remaining': '0' }],
])('403 is a refusal where the limit is not at its end: %s', async (name, headers) => {
  provider.answer = () => ({ status: 403, headers })
  expect((await upstreams.of(name, 'acme').send({ method: 'GET', url: provider.url })).status).toBe(403)
})

test('one that failed five times is left alone, asked by one of many after a pause, and by all when it works', async () => {
  vi.useFakeTimers({ toFake: ['Date'] })
  onTestFinished(() => void vi.useRealTimers())
  const pass = (ms: number) => void vi.setSystemTime(Date.now() + ms)
  const send = () => upstreams.of('failing', 'acme').send({ method: 'GET', url: provider.url })
  const alone = () => expect(send()).rejects.toThrow('failed several times in a row and is left alone for a moment')
  const many = () => Promise.allSettled(Array.from({ length: 8 }, send))
  const before = provider.asked.length
  provider.answer = () => ({ status: 500 })
  for (let failures = 0; failures < 5; failures++) await expect(send()).rejects.toThrow('status 500')
  await alone()
  pass(499)
  await alone()
  expect(provider.asked.length - before).toBe(5)
  pass(501)
  await many()
  expect(provider.asked.length - before).toBe(6)
  provider.answer = () => ({ status: 200 })
  pass(999)
  await alone()
  pass(1001)
  expect((await many()).map(({ status }) => status)).toEqual(Array(8).fill('fulfilled'))
})

test('what one integration does wrong is not held against another', async () => {
  provider.answer = () => ({ status: 429, headers: { 'retry-after': '60' } })
  await expect(upstreams.of('one', 'one').send({ method: 'GET', url: provider.url })).rejects.toThrow(
    'one answered with status 429 and asked to be left alone for 60 s',
  )
  await expect(upstreams.of('one', 'one').send({ method: 'GET', url: provider.url })).rejects.toThrow(
    /one asked to be left alone for \d+ s more/,
  )
  provider.answer = () => ({ status: 200 })
  expect((await upstreams.of('other', 'other').send({ method: 'GET', url: provider.url })).status).toBe(200)
})
