import { runSimulation } from '@cloud-copilot/iam-simulate'
import fc from 'fast-check'
import * as jose from 'jose'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { sessionPolicy, withinAws } from '../../../engine/issuers/aws_policy.ts'
import { ISSUER_URL, jwkOf, newEcKey, openTestExchange, type TestExchange, TPM_ID } from '../../fakes/exchange.ts'
import { type Provider, startProvider } from '../../fakes/provider.ts'

// What is sent to STS, read off the wire; and what the session policy lets through, decided by a simulator of IAM's evaluation.
const ROLE_ARN = 'arn:aws:iam::123456789012:role/agents'
const SESSION = `assay-${TPM_ID.slice(7, 39)}`
/** a variable of IAM's policy language */
const TASK = '$'.concat('{aws:PrincipalTag/task}')
const ec = newEcKey()

let sts: Provider
const open: TestExchange[] = []
beforeEach(async () => {
  // the clock of both sides stands still
  vi.useFakeTimers({ toFake: ['Date'] })
  sts = await startProvider()
  sts.answer = ({ body }) => ({ status: 200, headers: { 'content-type': 'text/xml' }, text: answerTo(new URLSearchParams(body)) })
})
afterEach(async () => {
  vi.useRealTimers()
  for (const one of open.splice(0)) await one[Symbol.asyncDispose]()
  await sts[Symbol.asyncDispose]()
})

function answerTo(asked: URLSearchParams): string {
  const name = `${asked.get('Action')}Result`
  const end = new Date((Math.floor(Date.now() / 1000) + Number(asked.get('DurationSeconds'))) * 1000).toISOString()
  const given = `<AccessKeyId>ASIAEXAMPLE000000000</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>token</SessionToken><Expiration>${end}</Expiration>`
  const user = `<AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/agents/${asked.get('RoleSessionName')}</Arn><AssumedRoleId>A:b</AssumedRoleId></AssumedRoleUser>`
  return `<${asked.get('Action')}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><${name}><Credentials>${given}</Credentials>${user}<PackedPolicySize>6</PackedPolicySize></${name}></${asked.get('Action')}Response>`
}

function opened({ settings = {}, secrets = {}, role = {} } = {}): TestExchange {
  const where = { region: 'eu-central-1', endpoint: sts.url, ...settings }
  const permissions = { read: ['s3:GetObject arn:aws:s3:::reports/*'] }
  const one = openTestExchange({
    type: 'aws_sts',
    settings: where,
    secrets,
    role: { role_arn: ROLE_ARN, permissions, ...role },
    ec,
  })
  open.push(one)
  return one
}
const KEY = { settings: { auth: 'access_key' }, secrets: { access_key_id: 'AKIAEXAMPLE000000000', secret_access_key: 'CanaRy7' } }
const sent = () => new URLSearchParams(sts.asked.at(-1)?.body)

describe('by an access key', () => {
  test('the request is signed; policy, tags and source identity come from the decision', async () => {
    const txn = '9f3a1c5e-0000-4000-8000-000000000001'
    const task = { org: 'acme', task: 't-1', user: 'alice' }
    await opened({ ...KEY, role: { external_id: 'ours' } }).credential({ grant: { txn, task: task as never, ttlSeconds: 300 } })
    const asked = sent()
    expect(Object.fromEntries([...asked].filter(([name]) => !/^(?:Tags|TransitiveTagKeys|Policy)\b/.test(name)))).toEqual({
      Action: 'AssumeRole',
      Version: '2011-06-15',
      RoleArn: ROLE_ARN,
      RoleSessionName: SESSION,
      DurationSeconds: '900',
      ExternalId: 'ours',
      SourceIdentity: txn,
    })
    const tags = [...asked].filter(([name]) => name.endsWith('.Value')).map(([, value]) => value)
    expect(tags).toEqual([TPM_ID, 'reader', 'read', 't-1', 'acme', 'alice'])
    const kept = [...asked].filter(([name]) => name.startsWith('TransitiveTagKeys')).map(([, value]) => value)
    expect(kept).toEqual(['agent', 'plugin', 'action', 'task', 'org', 'user'])
    expect(sts.asked[0]?.headers.authorization).toMatch(
      /^AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE000000000\/\d{8}\/eu-central-1\/sts\/aws4_request/,
    )
    expect(JSON.stringify(sts.asked)).not.toContain('CanaRy7')
  })

  test.each([
    [300, 600],
    [3600, 0],
  ])('a life of %i seconds is ended by the session policy, %i seconds before STS would', async (ttlSeconds, before) => {
    const { expiresAt, granted } = await opened(KEY).credential({ grant: { ttlSeconds } })
    expect(expiresAt).toBe(Math.floor(Date.now() / 1000) + ttlSeconds)
    expect(Number(granted['session_ends'])).toBe(expiresAt + before)
    const [{ Condition }] = (JSON.parse(sent().get('Policy') ?? '') as { Statement: [{ Condition: object }] }).Statement
    expect(Condition).toEqual({
      DateLessThan: { 'aws:CurrentTime': new Date(expiresAt * 1000).toISOString().replace('.000', '') },
    })
  })

  test('a tag that AWS would not take is refused before anything is sent', async () => {
    expect(await opened(KEY).outcome({ grant: { plugin: 'a;b' } })).toBe('PARAMETERS')
    expect(sts.asked).toHaveLength(0)
  })
})

test('STS that is asked too often says 400: after five times it is left alone until the pause is over', async () => {
  const good = sts.answer
  sts.answer = () => ({ status: 400, text: '<ErrorResponse><Error><Code>Throttling</Code></Error></ErrorResponse>' })
  const one = opened(KEY)
  await expect(one.issue()).rejects.toThrow('the provider of the integration acme is asked too often')
  // nothing was done, so each is asked again twice; the fifth opens the breaker
  expect(sts.asked).toHaveLength(3)
  const alone = () => expect(one.issue()).rejects.toThrow('acme failed several times in a row and is left alone for a moment')
  await alone()
  expect(sts.asked).toHaveLength(5)
  sts.answer = good
  await alone()
  expect(sts.asked).toHaveLength(5)
  vi.setSystemTime(Date.now() + 1_001)
  expect(await one.outcome()).toBe('OK')
})

test('by web identity: no key, nothing signed for AWS, and a JWT that says who and for what', async () => {
  const txn = '9f3a1c5e-0000-4000-8000-000000000002'
  await opened().credential({ grant: { txn } })
  expect(sts.asked[0]?.headers.authorization).toBeUndefined()
  const asked = sent()
  expect(asked.get('Action')).toBe('AssumeRoleWithWebIdentity')
  expect(asked.get('Policy')).toContain('s3:GetObject')
  const checks = { issuer: ISSUER_URL, audience: 'sts.amazonaws.com', subject: 'integration:acme', algorithms: ['ES256'] }
  const { payload } = await jose.jwtVerify(asked.get('WebIdentityToken') ?? '', await jose.importJWK(jwkOf(ec.publicKey)), checks)
  expect(payload).toMatchObject({
    'https://aws.amazon.com/source_identity': txn,
    'https://aws.amazon.com/tags': {
      principal_tags: { agent: [TPM_ID], plugin: ['reader'], action: ['read'] },
      transitive_tag_keys: ['agent', 'plugin', 'action'],
    },
  })
  expect(Number(payload.exp) - Number(payload.iat)).toBe(60)
})

describe('what the session policy lets through, by a simulator of IAM', () => {
  const everything = { Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: '*', Resource: '*' }] }
  const end = Math.floor(Date.parse('2026-06-01T12:00:00Z') / 1000)
  const permissions = [`s3:GetObject arn:aws:s3:::reports/${TASK}/*`, 's3:ListBucket arn:aws:s3:::reports']
  async function decided(
    action: string,
    resource: string,
    { at = '2026-06-01T11:59:59Z', policy = sessionPolicy(permissions, end), task = 't-1' } = {},
  ) {
    const result = await runSimulation(
      {
        request: {
          principal: `arn:aws:sts::123456789012:assumed-role/agents/${SESSION}`,
          action,
          resource: { resource, accountId: '123456789012' },
          contextVariables: { 'aws:CurrentTime': at, ...(task === '' ? {} : { 'aws:PrincipalTag/task': task }) },
        },
        ...(policy === 'none' ? {} : { sessionPolicy: JSON.parse(policy) as object }),
        identityPolicies: [{ name: 'role', policy: everything }],
        serviceControlPolicies: [],
        resourceControlPolicies: [],
      },
      {},
    )
    return (result as { overallResult?: string }).overallResult ?? JSON.stringify(result)
  }
  const DENIED = 'ImplicitlyDenied'

  test.each([
    ['s3:GetObject', 'arn:aws:s3:::reports/t-1/a.csv', {}, 'Allowed'],
    ['s3:ListBucket', 'arn:aws:s3:::reports', {}, 'Allowed'],
    ['s3:GetObject', 'arn:aws:s3:::reports/t-2/a.csv', {}, DENIED],
    ['s3:PutObject', 'arn:aws:s3:::reports/t-1/a.csv', {}, DENIED],
    ['s3:GetObject', 'arn:aws:s3:::payroll/t-1/a.csv', {}, DENIED],
    ['s3:GetObject', 'arn:aws:s3:::reports/t-1/a.csv', { at: '2026-06-01T12:00:00Z' }, DENIED],
    ['s3:GetObject', 'arn:aws:s3:::reports/t-1/a.csv', { at: '2026-06-01T12:14:00Z' }, DENIED],
    // a session at the console, which whoever holds the credentials may begin, is under the same policy, and may last for twelve hours
    ['s3:GetObject', 'arn:aws:s3:::reports/t-1/a.csv', { at: '2026-06-01T23:59:00Z' }, DENIED],
    // without a task there is no tag, and what names it stands for nothing
    ['s3:ListBucket', 'arn:aws:s3:::reports', { task: '' }, 'Allowed'],
    ['s3:GetObject', 'arn:aws:s3:::reports/t-1/a.csv', { task: '' }, DENIED],
    ['s3:GetObject', 'arn:aws:s3:::reports//a.csv', { task: '' }, DENIED],
    ['s3:GetObject', `arn:aws:s3:::reports/${TASK}/a.csv`, { task: '' }, DENIED],
    ['s3:PutObject', 'arn:aws:s3:::payroll/x', { policy: 'none' }, 'Allowed'],
  ])('%s on %s %j: %s', async (action, resource, changes, outcome) => {
    expect(await decided(action, resource, changes)).toBe(outcome)
  })

  test.each([
    ['ecr:GetAuthorizationToken *', 'Allowed'],
    ['ecr:GetAuthorizationToken arn:aws:*', DENIED],
    ['ecr:BatchGetImage *', DENIED],
  ])('%s lets through an action that knows no resource: %s', async (permission, outcome) => {
    const { credential } = opened({ role: { permissions: { read: [permission] } } })
    await credential()
    expect(
      await decided('ecr:GetAuthorizationToken', '*', { policy: sent().get('Policy') ?? '', at: '2026-01-01T00:00:00Z' }),
    ).toBe(outcome)
  })

  test('one that STS would not take is refused', () => {
    const many = Array.from({ length: 40 }, (_, index) => `s3:GetObject arn:aws:s3:::bucket-${index}/*`)
    expect(() => sessionPolicy(many, end)).toThrow(/PERMISSIONS: the session policy would have \d+ characters/)
  })
})

describe('the ceiling of an integration', () => {
  const bucket = 'arn:aws:s3:::reports/*'
  test.each([
    [`s3:GetObject ${bucket}`, `s3:GetObject ${bucket}`, true],
    [`s3:GetObject ${bucket}`, `s3:Get* arn:aws:s3:::*`, true],
    [`s3:getobject ${bucket}`, `s3:GetObject ${bucket}`, true],
    [`s3:GetObject ${bucket}`, `s3:* ${bucket}`, true],
    [`s3:* ${bucket}`, `s3:Get* ${bucket}`, false],
    [`s3:GetObject arn:aws:s3:::*`, `s3:GetObject ${bucket}`, false],
    [`s3:GetObject arn:aws:s3:::reports/*`, `s3:GetObject arn:aws:s3:::reports/?`, false],
    [`s3:PutObject ${bucket}`, `s3:Get* ${bucket}`, false],
    ['s3:GetObject *', `s3:GetObject ${bucket}`, false],
    ['ecr:GetAuthorizationToken *', 'ecr:*', true],
  ])('%s within %s: %s', (permission, ceiling, within) => expect(withinAws(permission, ceiling)).toBe(within))

  test('lets through only what its pattern matches', () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'b', '/', '*'), maxLength: 6 })
    fc.assert(
      fc.property(text, text, (resource, pattern) => {
        const matches = new RegExp(`^${pattern.replaceAll('*', '.*')}$`)
        expect(withinAws(`s3:A arn:${resource}`, `s3:A arn:${pattern}`)).toBe(matches.test(resource))
      }),
    )
  })
})
