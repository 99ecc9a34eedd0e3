import { GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import type { Credential } from '../../engine/issuers/index.ts'
import type { Secret } from '../../engine/secret.ts'
import { openTestExchange, type TestExchange } from '../fakes/exchange.ts'
import { type Moto, startMoto } from '../harness/peers/moto.ts'

// A second implementation of STS. It knows sessions and keys; it neither verifies web identities nor enforces session policies.
let moto: Moto
beforeAll(async () => {
  moto = await startMoto()
})
afterAll(() => moto?.[Symbol.asyncDispose]())

const open: TestExchange[] = []
afterEach(async () => {
  for (const one of open.splice(0)) await one[Symbol.asyncDispose]()
})
function opened(settings: object, secrets = {}): TestExchange {
  const role = {
    role_arn: 'arn:aws:iam::123456789012:role/agents',
    permissions: { read: ['s3:GetObject arn:aws:s3:::reports/*'] },
  }
  const where = { region: 'eu-central-1', endpoint: moto.url, ...settings }
  const one = openTestExchange({ type: 'aws_sts', settings: where, secrets, role, deadlineMs: 60_000 })
  open.push(one)
  return one
}

const WANTED_SECONDS = 600

const text = (credential: Credential, name: string) => (credential.fields[name] as Secret).reveal()

test.each([
  ['access_key', { access_key_id: 'AKIAEXAMPLE000000000', secret_access_key: 'secret' }],
  ['web_identity', {}],
])('%s: what is issued is who STS says', async (auth, secrets) => {
  const before = Math.floor(Date.now() / 1000)
  const credential = await opened({ auth }, secrets).credential({ grant: { ttlSeconds: WANTED_SECONDS } })
  const after = Math.ceil(Date.now() / 1000)
  expect(credential.expiresAt).toBeGreaterThanOrEqual(before + WANTED_SECONDS)
  expect(credential.expiresAt).toBeLessThanOrEqual(after + WANTED_SECONDS)
  const credentials = {
    accessKeyId: String(credential.fields['access_key_id']),
    secretAccessKey: text(credential, 'secret_access_key'),
    sessionToken: text(credential, 'session_token'),
  }
  const client = new STSClient({ region: 'eu-central-1', endpoint: moto.url, credentials })
  const { Arn } = await client.send(new GetCallerIdentityCommand({}))
  expect(Arn).toBe(credential.granted['assumed_role'])
})
