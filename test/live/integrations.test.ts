import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import * as aws_sm from '@aws-sdk/client-secrets-manager'
import * as jose from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Attester } from '../../agent/attester.ts'
import type * as flow from '../../agent/flow.ts'
import { fakeOrchestrator, type Orchestrator, TASK } from '../fakes/orchestrator.ts'
import { PATIENCE_MS } from '../harness/patience.ts'
import { type Moto, startMoto } from '../harness/peers/moto.ts'
import { until } from '../harness/process.ts'
import type { Reply } from '../harness/vault.ts'
import { type EnrolledWorld, openEnrolledWorld } from './enrolled_world.ts'
import { auditOf, done, logIn } from './world.ts'

const CANARY = 'canary-of-a-root-credential'
const KEY = { accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey: 'secret-of-the-test' }

let world: EnrolledWorld
let moto: Moto
let attester: Attester
let orchestrator: Orchestrator
let token: string
let tpmId: string
let entity: string
let secrets: aws_sm.SecretsManagerClient
beforeAll(async () => {
  ;[world, moto] = await Promise.all([openEnrolledWorld(), startMoto()])
  ;({ attester, tpmId } = world)
  token = await logIn(world.service, attester)
  entity = (await done(world.api('POST', 'auth/token/lookup', { token }))).data.entity_id
  orchestrator = await fakeOrchestrator({ now: Date.now })
  secrets = new aws_sm.SecretsManagerClient({ region: 'eu-central-1', endpoint: moto.url, credentials: KEY })
})
afterAll(async () => {
  secrets?.destroy()
  await moto?.[Symbol.asyncDispose]()
  await world?.[Symbol.asyncDispose]()
})

const write = (path: string, body: object) => done(world.api('POST', `broker/${path}`, body))
const creds = (role: string, more: object = {}) =>
  world.service.client.post(
    `broker/creds/${role}`,
    { plugin: 'kubernetes', action: 'deploy', scope: ['apps:read'], ...more },
    { token },
  )
const dataOf = async (asked: Promise<flow.Issued['reply']>) => (await asked).data as Record<string, unknown>
const failure = (asked: Promise<unknown>): Promise<string> =>
  asked.then(
    () => 'it was answered',
    (error: unknown) => (error instanceof Error ? error.message : ''),
  )
const aws = async (action: string, form: object = {}): Promise<string> => {
  const body = new URLSearchParams({ Action: action, Version: '2010-05-08', ...form })
  const authorization =
    'AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=0'
  const reply = await fetch(moto.url, { method: 'POST', body, headers: { authorization } })
  if (!reply.ok) throw new Error(`${action}: ${reply.status} ${await reply.text()}`)
  return reply.text()
}
const element = (xml: string, name: string) => new RegExp(`<${name}>([^<]*)<`).exec(xml)?.[1] ?? ''
const ids = async () =>
  [...(await aws('ListAccessKeys', { UserName: 'broker' })).matchAll(/<AccessKeyId>([^<]*)</g)].map(([, id]) => id)
const kept = async (id: string) =>
  JSON.parse(
    (await secrets.send(new aws_sm.GetSecretValueCommand({ SecretId: id, VersionStage: 'AWSCURRENT' }))).SecretString ?? '{}',
  ) as Record<string, string>

describe('in Vault', () => {
  test('the stock CLI writes an integration from a file, reads it without its secrets, lists and deletes it', async () => {
    const record = { type: 'static', secrets: { api_key: CANARY }, org: 'acme', tasks: ['a', 'b'] }
    await world.operator(['write', 'broker/integration/mail', '-'], JSON.stringify(record))
    const read = await world.operator(['read', '-format=json', 'broker/integration/mail'])
    expect(JSON.parse(read).data).toMatchObject({
      type: 'static',
      org: 'acme',
      tasks: ['a', 'b'],
      secrets: ['api_key'],
      root_state: 'ok',
    })
    expect(read).not.toMatch(CANARY)
    expect(await world.operator(['list', 'broker/integration'])).toMatch('mail')
    await world.operator(['delete', 'broker/integration/mail'])
    expect((await world.api('GET', 'broker/integration/mail')).status).toBe(404)
  })

  test('what KV holds of it is ciphertext; the key in transit is the lever that makes it worthless', async () => {
    await write('integration/lever', { type: 'static', secrets: { api_key: CANARY } })
    const mounts = (await done(world.api('LIST', 'assay/metadata/'))).data.keys as string[]
    const found = await Promise.all(
      mounts.filter(key => key.endsWith('/')).map(id => world.api('GET', `assay/data/${id}root/lever`)),
    )
    const [record] = found.filter(({ status }) => status === 200) as [Reply]
    expect(JSON.stringify(record.body)).toMatch('vault:v1:')
    expect(JSON.stringify(record.body)).not.toMatch(CANARY)
    const [key] = ((await done(world.api('LIST', 'transit/keys'))).data.keys as string[]).filter(name =>
      name.startsWith('assay-root-'),
    )
    await done(world.api('POST', `transit/keys/${key}/rotate`))
    expect((await done(world.api('GET', 'broker/integration/lever'))).data.root_state).toBe('ok')
    await done(world.api('POST', `transit/keys/${key}/config`, { min_decryption_version: 2 }))
    await write('integration/after', { type: 'static', secrets: { api_key: CANARY } })
    await until(
      'what was remembered to be too old',
      async () => (await done(world.api('GET', 'broker/integration/lever'))).data.root_state === 'unreadable',
    )
    expect((await done(world.api('GET', 'broker/integration/after'))).data.root_state).toBe('ok')
  })
})

describe('AWS Secrets Manager (moto), by the real SDK', () => {
  let role: string
  beforeAll(async () => {
    await aws('CreateUser', { UserName: 'broker' })
    const made = await aws('CreateAccessKey', { UserName: 'broker' })
    const root = {
      access_key_id: element(made, 'AccessKeyId'),
      secret_access_key: element(made, 'SecretAccessKey'),
      note: 'of somebody else',
    }
    await secrets.send(new aws_sm.CreateSecretCommand({ Name: 'root/aws', SecretString: JSON.stringify(root) }))
    const trusted = JSON.stringify({ Version: '2012-10-17', Statement: [] })
    role = element(await aws('CreateRole', { RoleName: 'agents', AssumeRolePolicyDocument: trusted }), 'Arn')
    await write('store/sm', {
      type: 'aws_secrets_manager',
      settings: { region: 'eu-central-1', endpoint: moto.url },
      secrets: { access_key_id: KEY.accessKeyId, secret_access_key: CANARY },
    })
    await write('integration/aws', {
      type: 'aws_sts',
      settings: { region: 'eu-central-1', endpoint: moto.url, auth: 'access_key' },
      store: 'sm',
      ref: 'root/aws',
      org: TASK.org,
      max_stale: '10m',
      read_actions: 'deploy',
      rotation: { iam_url: moto.url },
    })
    await write('role/aws', {
      issuer: 'aws_sts',
      integration: 'aws',
      role_arn: role,
      plugins: 'kubernetes',
      actions: 'deploy',
      scopes: 'apps:read',
      audiences: 'aws',
      permissions: { deploy: ['s3:GetObject arn:aws:s3:::bucket/*'] },
    })
    await write('orchestrator/planner', orchestrator.record)
  })
  const task = () => orchestrator.sign(tpmId)
  const askAws = async (more: object = {}) => creds('aws', { task_token: await task(), ...more })

  test('the root credential there makes credentials for the task of its organisation, and for no other', async () => {
    const issued = await dataOf(askAws())
    expect(issued).toMatchObject({ access_key_id: expect.stringMatching(/^ASIA/) })
    expect(await failure(creds('aws'))).toMatch(/INTEGRATION/)
    const umbrella = await orchestrator.sign(tpmId, { tctx: { org: 'umbrella', task: 'x' } })
    expect(await failure(creds('aws', { task_token: umbrella }))).toMatch(/TASK_TOKEN/)
    const intent = (await auditOf(world.door.auditFile)).findLast(one => one['type'] === 'intent' && one['integration'] === 'aws')
    expect(intent).toMatchObject({ org: TASK.org, task: TASK.task, session: TASK.session, user: TASK.user })
  })

  test('the entity of the machine in Vault can be bound in place of a task token', async () => {
    await write(`binding/${entity}`, { org: TASK.org })
    expect(await dataOf(creds('aws'))).toMatchObject({ access_key_id: expect.stringMatching(/^ASIA/) })
    await done(world.api('DELETE', `broker/binding/${entity}`))
    await until('the binding to be gone', async () => (await failure(creds('aws'))).includes('INTEGRATION'))
  })

  test('is rotated: the next key is in the store and works, the one before is there still', async () => {
    const before = await kept('root/aws')
    const { data } = await write('integration/aws/rotate', {})
    expect(data.state).toBe('stored')
    const after = await kept('root/aws')
    expect(after).toMatchObject({ note: 'of somebody else' })
    expect(after['access_key_id']).not.toBe(before['access_key_id'])
    expect(await ids()).toEqual(expect.arrayContaining([before['access_key_id'], after['access_key_id']]))
    expect(await dataOf(askAws())).toMatchObject({ access_key_id: expect.stringMatching(/^ASIA/) })
    const told = (await auditOf(world.door.auditFile)).filter(one => one['operation'] === 'rotate')
    expect(told.map(one => one['result'] ?? one['type'])).toEqual(['intent', 'rotated'])
  })

  test('while it is down, what it said before serves reads for as long as it may, marked in the audit log', async () => {
    await dataOf(askAws())
    await moto[Symbol.asyncDispose]()
    const substitute = await stsAt(moto.url, role)
    try {
      const stale = await until('what was remembered to be too old to be fresh', async () => {
        await dataOf(askAws())
        return (await auditOf(world.door.auditFile)).findLast(one => one['stale'] === true)
      })
      expect(stale).toMatchObject({ type: 'outcome', result: 'issued' })
      await write('integration/aws', { max_stale: '0' })
      await until('nothing to be issued', async () =>
        (await failure(askAws())).includes('cannot be had from aws_secrets_manager'),
      )
    } finally {
      await new Promise(resolve => substitute.close(resolve))
    }
  })
})

/** STS alone, at the address of what is down: the provider is not the store. */
async function stsAt(url: string, role: string): Promise<Server> {
  const server = createServer((incoming, outgoing) => {
    const chunks: Buffer[] = []
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk))
    incoming.on('end', () => {
      const form = new URLSearchParams(Buffer.concat(chunks).toString())
      if (form.get('Action') !== 'AssumeRole') return outgoing.writeHead(500).end()
      return outgoing.writeHead(200, { 'Content-Type': 'text/xml' }).end(assumed(role, form))
    })
  })
  const { port } = new URL(url)
  await new Promise<void>(resolve => server.listen(Number(port), '127.0.0.1', resolve))
  return server.address() ? server : Promise.reject(new Error(String((server.address() as AddressInfo | null)?.port)))
}

function assumed(role: string, form: URLSearchParams): string {
  const [, account, name] = /^arn:aws:iam::(\d+):role\/(.+)$/.exec(role) ?? []
  const end = new Date(Date.now() + 900_000).toISOString()
  const credentials = `<AccessKeyId>ASIAIOSFODNN7EXAMPLE</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>${end}</Expiration>`
  const user = `<AssumedRoleId>AROA:x</AssumedRoleId><Arn>arn:aws:sts::${account}:assumed-role/${name}/${form.get('RoleSessionName')}</Arn>`
  const source = form.get('SourceIdentity') ? `<SourceIdentity>${form.get('SourceIdentity')}</SourceIdentity>` : ''
  return `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>${credentials}</Credentials><AssumedRoleUser>${user}</AssumedRoleUser>${source}</AssumeRoleResult></AssumeRoleResponse>`
}

test('the token that is issued says for whom, and verifies', async () => {
  const issued = await dataOf(creds('deploy', { task_token: await orchestrator.sign(tpmId) }))
  const jwks = jose.createRemoteJWKSet(new URL(`${world.door.address}/v1/broker/.well-known/jwks.json`), {
    timeoutDuration: PATIENCE_MS,
  })
  const { payload } = await jose.jwtVerify(String(issued['token']), jwks)
  expect(payload).toMatchObject({
    txn: issued['txn'],
    act: { sub: tpmId, act: { sub: 'planner' } },
    tctx: { org: TASK.org, user: TASK.user },
  })
})

test('none of the canaries is in a log, in the audit log or in a metric', async () => {
  const metrics = await (await fetch(`${world.door.address}/metrics`)).text()
  const told = [world.door.server.output(), JSON.stringify(await auditOf(world.door.auditFile)), metrics].join('\n')
  expect(told).not.toMatch(/canary|secret-of-the-test/)
})
