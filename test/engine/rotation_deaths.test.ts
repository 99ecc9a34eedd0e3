import { generateKeyPairSync } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { dataOf, type TestBroker } from '../fakes/broker.ts'
import type { Arrived, Said } from '../fakes/json_server.ts'
import type { TestWorld } from '../fakes/world.ts'
import { openDeaths, type Provider, rootOf } from './rotation_deaths_world.ts'

// A rotation whose process dies at any step: what it was to change elsewhere, before it does or after it did and before it learns of it. IAM keeps two keys
// of a user at most, so one that is left behind would end all rotations.

/** A provider whose credentials have names: one is in use, and others are not to stay. */
type Named = Provider & {
  /** what the provider has */
  readonly there: () => readonly string[]
  /** The name of what is in use, where the provider takes it. */
  readonly used: (process: TestBroker) => Promise<string | undefined>
}

/** IAM and STS with the keys of one user; their clock is some seconds behind. */
function openIam({ now }: TestWorld) {
  const keys = new Map([['AKIA000000000000K0', { secret: 'canary0canary0canary0', madeAt: 0 }]])
  let made = 0
  const said = (text: string): Said => ({ status: 200, text: `<Response>${text}</Response>` })
  const refused = (code: string): Said => ({ status: 400, text: `<Error><Code>${code}</Code></Error>` })
  const create = (): Said => {
    if (keys.size > 1) return refused('LimitExceeded')
    const [id, secret] = [`AKIA000000000000K${++made}`, `canary${made}canary${made}canary${made}`]
    keys.set(id, { secret, madeAt: now() - 3_000 })
    return said(`<AccessKeyId>${id}</AccessKeyId><SecretAccessKey>${secret}</SecretAccessKey>`)
  }
  const member = ([id, { madeAt }]: readonly [string, { readonly madeAt: number }]) =>
    `<member><AccessKeyId>${id}</AccessKeyId><CreateDate>${new Date(madeAt).toISOString()}</CreateDate></member>`
  const answer = ({ headers, body }: Arrived): Said => {
    const form = new URLSearchParams(body)
    if (!keys.has(/Credential=(\w+)\//.exec(headers.authorization ?? '')?.[1] ?? '')) return refused('InvalidClientTokenId')
    if (form.get('Action') === 'CreateAccessKey') return create()
    if (form.get('Action') === 'GetCallerIdentity') return said('<Arn>arn:aws:iam::123456789012:user/broker</Arn>')
    if (form.get('Action') === 'ListAccessKeys') return said([...keys].map(member).join(''))
    return keys.delete(form.get('AccessKeyId') ?? '') ? said('') : refused('NoSuchEntity')
  }
  return { keys, answer }
}

const AWS = { type: 'aws_sts' } as const
const FIRST = { access_key_id: 'AKIA000000000000K0', secret_access_key: 'canary0canary0canary0' }
const iamAt = (url: string) => ({
  ...AWS,
  settings: { region: 'eu-central-1', endpoint: url, auth: 'access_key' },
  rotation: { iam_url: url },
})

function aws(world: TestWorld): Named {
  const { keys, answer } = openIam(world)
  return {
    answer,
    write: (ask, url) => ask('update', 'broker/integration/it', { ...iamAt(url), secrets: FIRST }),
    there: () => [...keys.keys()],
    used: async process => {
      const { access_key_id: id = '', secret_access_key: secret } = await rootOf(process)
      return keys.get(id)?.secret === secret ? id : undefined
    },
  }
}

/** The key kept in AWS Secrets Manager: a value gets there in two steps. */
function awsInSecretsManager(world: TestWorld): Named {
  const iam = aws(world)
  const values = new Map([['v'.repeat(36), JSON.stringify(FIRST)]])
  let current = 'v'.repeat(36)
  const manager = (action: string, asked: Readonly<Record<string, string>>): Said => {
    if (action === 'PutSecretValue') values.set(asked['ClientRequestToken'] ?? '', asked['SecretString'] ?? '')
    else if (action === 'UpdateSecretVersionStage') {
      if (asked['RemoveFromVersionId'] !== current) return { status: 400, body: { __type: 'InvalidParameterException' } }
      current = asked['MoveToVersionId'] ?? ''
    }
    return { status: 200, body: { Name: 'root/aws', VersionId: current, SecretString: values.get(current) } }
  }
  return {
    ...iam,
    answer: arrived => {
      const [service, action = ''] = String(arrived.headers['x-amz-target'] ?? '').split('.')
      return service === 'secretsmanager' ? manager(action, JSON.parse(arrived.body)) : iam.answer(arrived)
    },
    write: async (ask, url) => {
      const settings = { region: 'eu-central-1', endpoint: url }
      await ask('update', 'broker/store/manager', { type: 'aws_secrets_manager', settings, secrets: FIRST })
      await ask('update', 'broker/integration/it', { ...iamAt(url), store: 'manager', ref: 'root/aws' })
    },
  }
}

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
const EMAIL = 'broker@acme.iam.gserviceaccount.com'

function google({ now }: TestWorld): Named {
  const private_key = rsa.privateKey.export({ type: 'pkcs8', format: 'pem' })
  const file = (id: string) => ({ type: 'service_account', client_email: EMAIL, private_key_id: id, private_key })
  const keys = new Map([['key00000', 0]])
  let made = 0
  const token = (body: string): Said => {
    const [head = ''] = (new URLSearchParams(body).get('assertion') ?? '').split('.')
    const { kid } = JSON.parse(Buffer.from(head, 'base64url').toString()) as { kid: string }
    if (!keys.has(kid)) return { status: 400, body: { error: 'invalid_grant' } }
    return { status: 200, body: { access_token: `by-${kid}`, token_type: 'Bearer', expires_in: 300 } }
  }
  const create = (): Said => {
    const id = `key0000${++made}`
    keys.set(id, now() - 3_000)
    return { status: 200, body: { privateKeyData: Buffer.from(JSON.stringify(file(id))).toString('base64') } }
  }
  const all = () => [...keys].map(([id, at]) => ({ name: `a/keys/${id}`, validAfterTime: new Date(at).toISOString() }))
  return {
    answer: ({ method, path, body }) => {
      if (path === '/token') return token(body)
      if (method === 'GET') return { status: 200, body: { keys: all() } }
      if (method === 'POST') return create()
      return keys.delete(path.split('/').at(-1) ?? '') ? { status: 200, body: {} } : { status: 404, body: {} }
    },
    write: (ask, url) =>
      ask('update', 'broker/integration/it', {
        type: 'gcp',
        settings: { auth: 'key', token_url: `${url}/token` },
        rotation: { iam_admin_url: url },
        secrets: { key: file('key00000') },
      }),
    there: () => [...keys.keys()],
    used: async process => {
      const { private_key_id: id } = JSON.parse((await rootOf(process))['key'] ?? '{}') as { private_key_id: string }
      return keys.has(id) ? id : undefined
    },
  }
}

const stateOf = async ({ ask }: TestBroker) => dataOf(await ask('read', 'broker/integration/it/rotate'))['state']

describe.each([
  ['of AWS', aws],
  ['of AWS, in Secrets Manager', awsInSecretsManager],
  ['of Google', google],
])('a key %s', (_, provider) => {
  test.each(['before', 'after'] as const)('%s it takes effect: the key in use works, and no other stays', async when => {
    await using at = await openDeaths<Named>(provider)
    const { there, used } = at.provider
    const inUse = async (process: TestBroker) => (await used(process)) ?? expect.unreachable('the key in use works')
    const tend = async (process: TestBroker) => {
      at.world.pass(61_000)
      await process.broker.integrations.upkeep.round()
      return inUse(process)
    }
    let process = await at.start()
    const all = await at.rotate(process)
    expect(all).toBeGreaterThan(12)
    for (let step = 1; step <= all; step++) {
      await at.rotate(process, { step, when })
      process = await at.start()
      await inUse(process)
      await tend(process)
      const id = await tend(process)
      expect({ step, keys: there() }).toEqual({ step, keys: [id] })
      expect({ step, state: await stateOf(process) }).toEqual({ step, state: 'done' })
    }
  })
})
