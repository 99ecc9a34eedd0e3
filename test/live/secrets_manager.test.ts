import * as aws_sm from '@aws-sdk/client-secrets-manager'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Secret } from '../../engine/secret.ts'
import { awsSecretsManager } from '../../engine/stores/aws_secrets_manager.ts'
import { type OpenStore, StoreFault, type StoreWorld } from '../../engine/stores/store.ts'
import { PATIENCE_MS } from '../harness/patience.ts'
import { type Moto, startMoto } from '../harness/peers/moto.ts'

// The store itself at a stand-in for AWS (moto), and somebody else with the SDK beside it.
const KEY = { accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey: 'secret-of-the-test' }
let moto: Moto
let store: OpenStore
let others: aws_sm.SecretsManagerClient
beforeAll(async () => {
  moto = await startMoto()
  const where = { region: 'eu-central-1', endpoint: moto.url }
  const credentials = { access_key_id: new Secret(KEY.accessKeyId), secret_access_key: new Secret(KEY.secretAccessKey) }
  store = awsSecretsManager.open(where, credentials, { deadlineMs: PATIENCE_MS } as StoreWorld)
  others = new aws_sm.SecretsManagerClient({ ...where, credentials: KEY })
})
afterAll(async () => {
  others?.destroy()
  await store?.close()
  await moto?.[Symbol.asyncDispose]()
})

const textOf = (token: string) => JSON.stringify({ token })
const create = (Name: string) => others.send(new aws_sm.CreateSecretCommand({ Name, SecretString: textOf('first') }))
const read = async (ref: string) => {
  const { fields, version } = await store.read(ref, AbortSignal.timeout(PATIENCE_MS))
  return { token: fields['token']?.reveal(), version }
}
/** What came of it. */
const replace = async (ref: string, token: string, version: string): Promise<string> => {
  const next = { fields: { token: new Secret(token) } }
  return (store.replace?.(ref, next, version, AbortSignal.timeout(PATIENCE_MS)) ?? Promise.reject()).then(
    () => 'replaced',
    (error: unknown) => (error instanceof StoreFault ? error.kind : String(error)),
  )
}
/** What others read: what counts, and what counted before. */
const seen = async (SecretId: string, VersionStage = 'AWSCURRENT') =>
  (await others.send(new aws_sm.GetSecretValueCommand({ SecretId, VersionStage }))).SecretString

test('what is replaced counts from then on, and is replaced in its turn', async () => {
  await create('turns')
  const first = await read('turns')
  expect(await replace('turns', 'second', first.version)).toBe('replaced')
  const second = await read('turns')
  expect(second).toEqual({ token: 'second', version: expect.not.stringMatching(first.version) })
  expect([await seen('turns'), await seen('turns', 'AWSPREVIOUS')]).toEqual([textOf('second'), textOf('first')])
  expect(await replace('turns', 'third', second.version)).toBe('replaced')
  expect(await read('turns')).toMatchObject({ token: 'third' })
})

test('what somebody else wrote since it was read is a conflict, and stays', async () => {
  await create('contested')
  const { version } = await read('contested')
  await others.send(new aws_sm.PutSecretValueCommand({ SecretId: 'contested', SecretString: textOf('theirs') }))
  expect(await replace('contested', 'ours', version)).toBe('conflict')
  expect([await seen('contested'), (await read('contested')).token]).toEqual([textOf('theirs'), 'theirs'])
})

test('of two replicas that read the same, the second to write is told', async () => {
  await create('raced')
  const { version } = await read('raced')
  expect(await replace('raced', 'here', version)).toBe('replaced')
  expect(await replace('raced', 'there', version)).toBe('conflict')
  expect(await read('raced')).toMatchObject({ token: 'here' })
})

test('a secret that is not there is not made', async () => {
  expect(await replace('nowhere', 'ours', '')).toBe('absent')
  await expect(read('nowhere')).rejects.toMatchObject({ kind: 'absent' })
})
