import { AwsClient } from 'aws4fetch'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { rotationWorld } from '../engine/rotation_world.ts'
import { type Moto, startMoto } from '../harness/peers/moto.ts'

// moto as a judge of signatures: once it is told to, it verifies each and asks its IAM, so that a key is worth nothing without the secret that belongs to it.
type Key = { readonly access_key_id: string; readonly secret_access_key: string }
const REGION = 'eu-central-1'
const ANYBODY: Key = { access_key_id: 'AKIAIOSFODNN7EXAMPLE', secret_access_key: 'anything' }

const world = rotationWorld()
let moto: Moto
beforeAll(async () => {
  moto = await startMoto()
})
afterAll(() => moto?.[Symbol.asyncDispose]())

async function ask(service: 'iam' | 'sts', key: Key, form: Record<string, string>): Promise<{ status: number; xml: string }> {
  const [accessKeyId, secretAccessKey] = [key.access_key_id, key.secret_access_key]
  const client = new AwsClient({ accessKeyId, secretAccessKey, service, region: REGION, retries: 0 })
  const headers = { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' }
  const reply = await client.fetch(moto.url, { method: 'POST', headers, body: new URLSearchParams(form).toString() })
  return { status: reply.status, xml: await reply.text() }
}
const operator = async (Action: string, form: Record<string, string>) => {
  const { status, xml } = await ask('iam', ANYBODY, { Action, Version: '2010-05-08', UserName: 'broker', ...form })
  if (status !== 200) throw new Error(xml)
  return xml
}
/** What a key is worth. */
const worth = async (key: Key) => (await ask('sts', key, { Action: 'GetCallerIdentity', Version: '2011-06-15' })).status
const element = (xml: string, name: string) => new RegExp(`<${name}>([^<]*)<`).exec(xml)?.[1] ?? ''

/** The key of a user who may manage its own keys; from then on signatures count. */
async function firstKey(): Promise<Key> {
  await operator('CreateUser', {})
  const Statement = [{ Effect: 'Allow', Action: ['iam:*', 'sts:*'], Resource: '*' }]
  await operator('PutUserPolicy', { PolicyName: 'own', PolicyDocument: JSON.stringify({ Version: '2012-10-17', Statement }) })
  const made = await operator('CreateAccessKey', {})
  await fetch(`${moto.url}/moto-api/reset-auth`, { method: 'POST', body: '0' })
  return { access_key_id: element(made, 'AccessKeyId'), secret_access_key: element(made, 'SecretAccessKey') }
}

test('the next key is worth something before the one before is worth nothing', async () => {
  const first = await firstKey()
  expect(await worth({ ...first, secret_access_key: 'another' })).toBe(403)
  await world.write({
    type: 'aws_sts',
    settings: { region: REGION, endpoint: moto.url, auth: 'access_key' },
    rotation: { iam_url: moto.url },
    secrets: first,
  })
  expect(await world.rotate()).toMatchObject({ state: 'stored' })
  const next = (await world.root()) as Key
  expect(next.access_key_id).not.toBe(first.access_key_id)
  expect([await worth(first), await worth(next)]).toEqual([200, 200])
  world.broker.world.pass(61_000)
  await world.upkeep()
  expect(await world.results()).toEqual(['intent', 'rotated', 'retired'])
  expect([await worth(first), await worth(next)]).toEqual([403, 200])
})
