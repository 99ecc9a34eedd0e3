import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import { type AddressInfo, connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer as createTlsServer } from 'node:tls'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { assay } from '../harness/assay.ts'
import { type GitServer, startGitServer } from '../harness/peers/git_server.ts'
import { startMoto } from '../harness/peers/moto.ts'
import { type Postgres, startPostgres } from '../harness/peers/postgres.ts'
import { provisioned } from '../harness/peers/provisioned.ts'
import { freePort, type Ran, run } from '../harness/process.ts'
import { type AssayProxy, startProxy } from '../harness/proxy.ts'
import { type Authority, openAuthority } from './certificates.ts'
import { databaseEngine } from './database_engine.ts'
import { asking, configureAuth, done, enrol, MEASURED, machine, measure, openWorld, serviceOf, type World } from './world.ts'

// Programs as they are, led by `assay agent exec --proxy`: a TPM, a Vault, the front door and the proxy, and servers that know the real credential alone.

const GIT_TOKEN = 'ghp_R3alT0kenOfTheRepositories0123456789'
const MODEL_KEY = 'sk-R3alKeyOfTheModels-0123456789abcdefghij'
const REGION = 'eu-central-1'

let parts = new AsyncDisposableStack()
let world: World
let ca: Authority
let proxy: AssayProxy
let folder: string
let interceptCa: string
let git: GitServer
let models: { readonly port: number; readonly keys: (string | undefined)[] }
let s3: { readonly port: number; readonly aws: string }
let database: Postgres
let databaseAtProxy: number

beforeAll(async () => {
  await using opening = new AsyncDisposableStack()
  const plugins = await provisioned('need_postgres_plugin', 'plugin_dir')
  world = opening.use(await openWorld({ tpms: [{}], vaultArgs: [`-dev-plugin-dir=${plugins}`] }))
  await write('sys/mounts/broker', { type: 'broker' })
  ca = opening.use(await openAuthority())
  folder = await mkdtemp(join(tmpdir(), 'assay-programs-'))
  opening.defer(() => rm(folder, { recursive: true, force: true }))
  const pair = await ca.issue('localhost')
  const tls = { cert: await readFile(pair.cert, 'utf8'), key: await readFile(pair.key, 'utf8') }
  await mkdir(join(folder, 'served'))
  const password = { user: 'x-access-token', password: GIT_TOKEN }
  git = opening.use(await startGitServer({ ...tls, folder: join(folder, 'served'), ...password }))
  models = await startModels(tls, opening)
  s3 = await startS3(tls, opening)
  database = opening.use(await startPostgres())
  databaseAtProxy = await freePort()
  await configure()
  const http = { kind: 'http', ca_file: ca.ca, addresses: ['127.0.0.1', '::1'] }
  const bearer = [{ header: { name: 'Authorization', value: 'Bearer {token}' } }]
  proxy = opening.use(
    await startProxy(world.vault, {
      listen: { cert_file: pair.cert, key_file: pair.key },
      intercept: true,
      services: [
        { ...http, name: 'git', hosts: [at(git)], match: 'basic', inject: [{ basic: { ...password, password: '{token}' } }] },
        { ...http, name: 'models', hosts: [at(models)], inject: bearer },
        { ...http, name: 's3', hosts: [at(s3)], match: 'aws', inject: [{ aws: { regions: [REGION], services: ['s3', 'sts'] } }] },
        {
          kind: 'postgres',
          name: 'orders',
          listen: { port: databaseAtProxy },
          server: `127.0.0.1:${database.port}`,
          addresses: ['127.0.0.1'],
          tls: 'disable',
        },
      ],
    }),
  )
  interceptCa = join(folder, 'intercept.pem')
  const { body } = await world.vault.api('GET', 'assay-proxy-ca/cert/ca')
  await writeFile(interceptCa, body.data.certificate)
  parts = opening.move()
})
afterAll(() => parts.disposeAsync())

const write = (path: string, body: object) => done(world.api('POST', path, body))
const at = ({ port }: { port: number }) => `localhost:${port}`
const place = (server: { port: number }) => `https://${at(server)}`

/** Roles whose credentials are sealed to one server each, and a machine that may ask for them. */
async function configure(): Promise<void> {
  const [tpm] = world.tpms
  if (!tpm) throw new Error('no TPM')
  await measure(tpm, MEASURED, 'good')
  await using attester = await machine(tpm)
  await configureAuth(world, tpm, attester)
  await write('broker/config', { actions: 'read' })
  await write('broker/policy/builders', { policy: 'permit (principal, action == Action::"read", resource);' })
  const rights = ['broker/creds/*', 'auth/token/create'].map(path => `path "${path}" { capabilities = ["update"] }`)
  rights.push('path "database/creds/reader" { capabilities = ["read"] }')
  await write('sys/policies/acl/builder', { policy: rights.join('\n') })
  const common = { plugins: 'reader', actions: 'read', audiences: 'https://api.example.com', ttl: '15m', delivery: 'sealed' }
  for (const [name, key, server] of [
    ['repositories', GIT_TOKEN, git],
    ['models', MODEL_KEY, models],
  ] as const) {
    await write(`broker/integration/${name}`, { type: 'static', secrets: { api_key: key } })
    await write(`broker/role/${name}`, { ...common, issuer: 'static', integration: name, destinations: place(server) })
  }
  await write('broker/role/reports', {
    ...common,
    issuer: 'aws_sts',
    integration: 'aws',
    role_arn: 'arn:aws:iam::123456789012:role/agents',
    permissions: { read: ['s3:* arn:aws:s3:::reports*'] },
    destinations: place(s3),
  })
  // makes a user of the database for each who asks
  await databaseEngine(write, database)
  const orders = { ...common, issuer: 'vault', vault_path: 'database/creds/reader' }
  await write('broker/role/orders', { ...orders, destinations: `postgres://127.0.0.1:${database.port}/postgres` })
  await enrol(serviceOf(world.door.address), tpm, attester)
}

type Tls = { readonly cert: string; readonly key: string }

/** Answers as the API for chat does, to who has the key. Its last word is the key itself, as a careless server might have it. */
async function startModels(tls: Tls, opening: AsyncDisposableStack): Promise<typeof models> {
  const keys: (string | undefined)[] = []
  const answer = (incoming: IncomingMessage, outgoing: ServerResponse, body: { stream?: boolean }) => {
    const { authorization } = incoming.headers
    keys.push(authorization)
    if (authorization !== `Bearer ${MODEL_KEY}`) return outgoing.writeHead(401).end('{"error":{"message":"incorrect API key"}}')
    const words = ['one', ' two', ` ${authorization}`]
    const chunk = (object: string, member: object) => ({
      id: '1',
      object,
      created: 1,
      model: 'm',
      choices: [{ index: 0, ...member }],
    })
    if (!body.stream) {
      const whole = chunk('chat.completion', { finish_reason: 'stop', message: { role: 'assistant', content: words.join('') } })
      return outgoing.setHeader('Content-Type', 'application/json').end(JSON.stringify(whole))
    }
    outgoing.writeHead(200, { 'Content-Type': 'text/event-stream' })
    for (const word of words) {
      const event = `data: ${JSON.stringify(chunk('chat.completion.chunk', { delta: { content: word } }))}\n\n`
      for (const half of [event.slice(0, -20), event.slice(-20)]) outgoing.write(half)
    }
    return outgoing.end('data: [DONE]\n\n')
  }
  const server = createServer(tls, (incoming, outgoing) => {
    let text = ''
    incoming.on('data', part => (text += String(part))).on('end', () => answer(incoming, outgoing, JSON.parse(text)))
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  opening.defer(() => {
    server.close().closeAllConnections()
  })
  return { port: (server.address() as AddressInfo).port, keys }
}

/** moto behind TLS, which from here on verifies every signature and asks its IAM. */
async function startS3(tls: Tls, opening: AsyncDisposableStack): Promise<typeof s3> {
  const moto = opening.use(await startMoto())
  const aws = await provisioned('need_awscli', 'awscli')
  const env = { PATH: process.env['PATH'], HOME: folder, AWS_ENDPOINT_URL: moto.url, AWS_DEFAULT_REGION: REGION, AWS_PAGER: '' }
  const asAnybody = { ...env, AWS_ACCESS_KEY_ID: 'anybody', AWS_SECRET_ACCESS_KEY: 'anybody' }
  const operator = async (...words: string[]) => {
    const { code, stdout, stderr } = await run(aws, words, { env: asAnybody })
    if (code !== 0) throw new Error(stderr)
    return stdout
  }
  const trusted = { Statement: [{ Effect: 'Allow', Principal: { AWS: '*' }, Action: 'sts:AssumeRole' }] }
  const all = JSON.stringify({
    Version: '2012-10-17',
    Statement: [{ Effect: 'Allow', Action: ['s3:*', 'sts:*'], Resource: '*' }],
  })
  await operator('iam', 'create-user', '--user-name', 'broker')
  await operator('iam', 'put-user-policy', '--user-name', 'broker', '--policy-name', 'all', '--policy-document', all)
  const agents = ['--role-name', 'agents']
  await operator(
    'iam',
    'create-role',
    ...agents,
    '--assume-role-policy-document',
    JSON.stringify({ Version: '2012-10-17', ...trusted }),
  )
  await operator('iam', 'put-role-policy', ...agents, '--policy-name', 'all', '--policy-document', all)
  await operator('s3', 'mb', 's3://reports')
  const { AccessKey } = JSON.parse(await operator('iam', 'create-access-key', '--user-name', 'broker'))
  const settings = { region: REGION, endpoint: moto.url, auth: 'access_key' }
  const secrets = { access_key_id: AccessKey.AccessKeyId, secret_access_key: AccessKey.SecretAccessKey }
  await write('broker/integration/aws', { type: 'aws_sts', settings, secrets })
  await fetch(`${moto.url}/moto-api/reset-auth`, { method: 'POST', body: '0' })
  const server = createTlsServer(tls, socket => {
    const inside = connect(Number(new URL(moto.url).port), '127.0.0.1')
    socket.pipe(inside).pipe(socket)
    socket.on('error', () => inside.destroy())
    inside.on('error', () => socket.destroy())
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  opening.defer(() => void server.close())
  return { port: (server.address() as AddressInfo).port, aws }
}

/** `assay agent exec ROLE --proxy ... -- COMMAND`. */
function exec(role: string, words: readonly string[], command: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ran> {
  const where = ['--proxy', `https://localhost:${proxy.port}`, '--proxy-ca', ca.ca, '--intercept-ca', interceptCa]
  const asked = asking(world, 'reader', 'read')
  return assay(['agent', 'exec', role, ...asked, ...where, ...words, '--', ...command], { HOME: folder, ...env })
}

describe('git', () => {
  const identity = { GIT_AUTHOR_NAME: 'a', GIT_AUTHOR_EMAIL: 'a@b', GIT_COMMITTER_NAME: 'a', GIT_COMMITTER_EMAIL: 'a@b' }
  const bash = (script: string, words: readonly string[] = []) =>
    exec('repositories', words, ['bash', '-euc', script], { ...identity, REPOSITORY: `${place(git)}/app.git`, WORK: folder })

  test('pushes, clones and fetches with the sealed token of a file', async () => {
    const script = `
      cd "$WORK"; git init --quiet --initial-branch=main one; cd one
      head -c 3000000 /dev/urandom > large; git add large; git commit --quiet -m first; git push --quiet "$REPOSITORY" main
      cd ..; git clone --quiet "$REPOSITORY" two; cmp one/large two/large
      cd one; echo more > more; git add more; git commit --quiet -m second; git push --quiet "$REPOSITORY" main
      cd ../two; git fetch --quiet; git log --format=%s origin/main`
    expect(await bash(script)).toMatchObject({ code: 0, stdout: 'second\nfirst\n', stderr: '' })
  })

  test('clones with the sealed token of a variable, beside settings of its own', async () => {
    const script = 'cd "$WORK"; git clone --quiet "$REPOSITORY" three; git config --get test.own; printf %s "$TOKEN"'
    const own = { GIT_CONFIG_COUNT: '1', GIT_CONFIG_KEY_0: 'test.own', GIT_CONFIG_VALUE_0: 'kept' }
    const env = { ...identity, ...own, REPOSITORY: `${place(git)}/app.git`, WORK: folder }
    const { code, stdout, stderr } = await exec('repositories', ['--env', 'TOKEN'], ['bash', '-euc', script], env)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toMatch(/^kept\neyJ/)
    expect(stdout).not.toContain(GIT_TOKEN)
  })

  test('is refused with what was sealed to another server', async () => {
    const { code, stderr } = await exec('models', [], ['git', 'ls-remote', `${place(git)}/app.git`])
    expect(code).not.toBe(0)
    expect(stderr).toContain('403')
  })
})

describe('the AWS CLI', () => {
  const aws = (script: string, role = 'reports') => {
    const env = { AWS_ENDPOINT_URL: place(s3), AWS_DEFAULT_REGION: REGION, AWS_PAGER: '', AWS: s3.aws, WORK: folder }
    return exec(role, ['--env', 'AWS_SESSION_TOKEN'], ['bash', '-euc', script], env)
  }

  test('is who the session is, by a signature that moto verifies', async () => {
    const { code, stdout, stderr } = await aws('"$AWS" sts get-caller-identity --query Arn --output text')
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toMatch(/^arn:aws:sts::123456789012:assumed-role\/agents\//)
  })

  test('puts, lists and gets objects, small ones and one in parts', async () => {
    const script = `
      cd "$WORK"; echo small > small; head -c 9000000 /dev/urandom > big
      "$AWS" s3 cp --only-show-errors small 's3://reports/a folder/small'; "$AWS" s3 cp --only-show-errors big s3://reports/big
      "$AWS" s3 cp --only-show-errors s3://reports/big back; cmp big back
      "$AWS" s3api list-objects-v2 --bucket reports --query 'Contents[].Key' --output text`
    expect(await aws(script)).toMatchObject({ code: 0, stdout: 'a folder/small\tbig\n', stderr: '' })
  })

  test('gets nowhere without the proxy', async () => {
    const { code, stderr } = await aws(
      'env -u https_proxy -u HTTPS_PROXY -u all_proxy -u ALL_PROXY AWS_CA_BUNDLE= "$AWS" --no-verify-ssl s3 ls',
    )
    expect(code).not.toBe(0)
    expect(stderr).toMatch(/InvalidAccessKeyId|InvalidClientTokenId/)
  })
})

describe('an SDK of models', () => {
  const program = [process.execPath, join(import.meta.dirname, 'chat.ts')]
  const masked = ` Bearer ${'*'.repeat(MODEL_KEY.length)}`
  const told = `one two${masked}\n${JSON.stringify(['one', ' two', masked])}\n`

  test('asks and streams by a base URL', async () => {
    const words = ['--env', 'OPENAI_API_KEY', '--base-url', `OPENAI_BASE_URL=${at(models)}/v1`]
    expect(await exec('models', words, program)).toMatchObject({ code: 0, stdout: told, stderr: '' })
    expect(models.keys.slice(-2)).toEqual([`Bearer ${MODEL_KEY}`, `Bearer ${MODEL_KEY}`])
  })

  test('asks and streams at the address that it has, as Node heeds the variables of proxies', async () => {
    const env = { OPENAI_BASE_URL: `${place(models)}/v1` }
    expect(await exec('models', ['--env', 'OPENAI_API_KEY'], program, env)).toMatchObject({ code: 0, stdout: told, stderr: '' })
  })
})

describe('curl', () => {
  const asks = (credential: string) =>
    `curl --silent --show-error --fail -H "Authorization: Bearer ${credential}" -d '{}' "$PLACE/v1/chat/completions"`
  const answer = expect.stringContaining(`"content":"one two Bearer ${'*'.repeat(MODEL_KEY.length)}"`) as string

  test.each([
    ['a variable', ['--env', 'TOKEN'], '$TOKEN'],
    ['a file', [], '$(cat "$ASSAY_CREDENTIAL_FILE")'],
  ])('asks with the sealed token of %s', async (_, words, credential) => {
    const asked = await exec('models', words, ['sh', '-c', asks(credential)], { PLACE: place(models) })
    expect(asked).toMatchObject({ code: 0, stdout: answer, stderr: '' })
    expect(models.keys.at(-1)).toBe(`Bearer ${MODEL_KEY}`)
  })
})

describe('psql', () => {
  const psql = (role: string) => {
    const words = ['--postgres', String(databaseAtProxy)]
    const script = 'printf "%.3s\\n" "$PGPASSWORD"; psql --no-psqlrc --no-password -At -c "select session_user" postgres'
    return exec(role, words, ['bash', '-euc', script])
  }

  test('is the user that Vault made for it, with the sealed token as its password', async () => {
    const { code, stdout, stderr } = await psql('orders')
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toMatch(/^eyJ\nv-.*-reader-.*\n$/)
  })

  test('is refused with what was sealed to another server', async () => {
    const { code, stderr } = await psql('models')
    expect(code).not.toBe(0)
    expect(stderr).toContain('TOKEN_DESTINATION')
  })
})
