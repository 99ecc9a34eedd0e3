import { generateKeyPairSync } from 'node:crypto'
import { createRequire } from 'node:module'
import { SignJWT } from 'jose'
import nodeVault from 'node-vault'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Reply } from '../harness/vault.ts'
import { openSides, type Side, type Sides, shapeOf, steady } from './sides.ts'
import { done } from './world.ts'

// Every command of node-vault, by its own table, sent by node-vault itself: straight to Vault, and through the front door.

type Command = { readonly method: string; readonly path: string; readonly schema?: { readonly req?: { properties?: object } } }
const commands = createRequire(import.meta.url)('node-vault/src/commands.js') as Readonly<Record<string, Command>>

/** These want what another has begun, or take away what others need: they come last, in this order, with what brings it back. */
const LAST = [
  'remount',
  'generateRootInit',
  'generateRootUpdate',
  'generateRootCancel',
  'stepDown',
  'tokenRevokeSelf',
  'seal',
  'status',
  'health',
  'leader',
  'unseal',
]
const order = [...Object.keys(commands).filter(name => !LAST.includes(name)), ...LAST]

const NOT_BUILT = 'is not in the Vault of the tests'
/** Commands that both refuse, and why. */
const REFUSED: Readonly<Record<string, string>> = {
  init: 'a server is initialised once',
  renew: 'no engine here has leases that can be renewed; `differential_leases.test.ts` has one',
  generateDatabaseCredentials: 'there is no database',
  certLogin: 'there is no TLS',
  ...Object.fromEntries(
    ['addKubernetesRole', 'getKubernetesRole', 'deleteKubernetesRole', 'kubernetesLogin'].map(name => [name, NOT_BUILT]),
  ),
  ...Object.fromEntries(['gcp', 'github', 'awsIam', 'ldap', 'okta', 'radius'].map(name => [`${name}Login`, NOT_BUILT])),
}

/** What was made for the commands, or earlier replies have said, by side. */
type Facts = Record<string, string>

let sides: Sides
const facts: Record<Side['name'], Facts> = { straight: {}, through: {} }

beforeAll(async () => {
  sides = await openSides()
  await sides.both(async side => {
    facts[side.name] = await prepare(side)
  })
})
afterAll(() => sides[Symbol.asyncDispose]())

type Made = (path: string, body?: object) => Promise<Reply['body']>

async function prepare({ vault, address }: Side): Promise<Facts> {
  const made: Made = (path, body = {}) => done(vault.api('POST', path, body))
  await mounted(made)
  await filled(made)
  const token = async () => (await made('auth/token/create', { policies: ['default'], ttl: '1h' })).auth
  const secret = async () => (await made('auth/approle/role/one/secret-id')).data
  const lease = async () => (await made('pki/issue/one', { common_name: 'one.example.com' })).lease_id as string
  const { client_token, accessor } = await token()
  await lease()
  return {
    token: client_token,
    accessor,
    key: vault.unsealKey,
    ciphertext: (await made('transit/encrypt/one', { plaintext: 'aGk=' })).data.ciphertext,
    tokenToRevoke: (await token()).client_token,
    orphanToRevoke: (await token()).client_token,
    accessorToRevoke: (await token()).accessor,
    lease: await lease(),
    secretId: (await secret()).secret_id,
    secretToDestroy: (await secret()).secret_id,
    secretAccessor: (await secret()).secret_id_accessor,
    wrapped: await wrappedBy(address, vault.rootToken),
    jwt: await jwtFor(made),
  }
}

/** Beside transit and approle, which are there: a front door has keys in the one, and logs in by the other. */
async function mounted(made: Made): Promise<void> {
  await made('sys/mounts/pki', { type: 'pki' })
  for (const path of ['kv-gone', 'kv-old']) await made(`sys/mounts/${path}`, { type: 'kv' })
  for (const type of ['userpass', 'jwt']) await made(`sys/auth/${type}`, { type })
}

async function filled(made: Made): Promise<void> {
  await made('transit/keys/one')
  await made('transit/keys/one/config', { deletion_allowed: true })
  await made('pki/root/generate/internal', { common_name: 'root.example.com', key_type: 'ec' })
  await made('pki/roles/one', { allow_any_name: true, key_type: 'ec', generate_lease: true, ttl: '10m' })
  await made('auth/userpass/users/somebody', { password: 'a-password', token_policies: 'default' })
  for (const role of ['one', 'gone']) {
    await made(`auth/token/roles/${role}`, { allowed_policies: ['default'] })
    await made(`auth/approle/role/${role}`, { policies: ['default'] })
  }
  await made('secret/data/one', { data: { a: 'b' } })
}

async function wrappedBy(address: string, token: string): Promise<string> {
  const headers = { 'X-Vault-Token': token, 'X-Vault-Wrap-TTL': '10m' }
  const reply = (await (await fetch(`${address}/v1/secret/data/one`, { headers })).json()) as { wrap_info: { token: string } }
  return reply.wrap_info.token
}

async function jwtFor(made: Made): Promise<string> {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  await made('auth/jwt/config', { jwt_validation_pubkeys: [publicKey.export({ type: 'spki', format: 'pem' })] })
  await made('auth/jwt/role/one', { role_type: 'jwt', user_claim: 'sub', bound_subject: 'somebody' })
  const claims = new SignJWT({}).setProtectedHeader({ alg: 'ES256' }).setSubject('somebody')
  return claims.setIssuedAt().setExpirationTime('1h').sign(privateKey)
}

function parametersOf(name: string, command: Command, { token = '', accessor = '', key = '', ...made }: Facts): object {
  const known: Readonly<Record<string, unknown>> = {
    role_name: 'one',
    name: 'one',
    username: 'somebody',
    password: 'a-password',
    path: 'one',
    path_prefix: 'pki/issue/one',
    databasePath: 'database',
    kubernetesPath: 'kubernetes',
    plaintext: 'aGk=',
    ciphertext: made['ciphertext'],
    token,
    accessor,
    policies: ['default'],
    ttl: '10m',
    versions: [1],
    lease_id: made['lease'],
    role_id: 'a-role-id',
    secret_id: made['secretId'],
    secret_id_accessor: made['secretAccessor'],
    bind_secret_id: true,
    secret_shares: 1,
    secret_threshold: 1,
    role: 'one',
    jwt: made['jwt'],
    policy: 'path "secret/*" { capabilities = ["read"] }',
    period: '1h',
  }
  const wanted = Object.keys(command.schema?.req?.properties ?? {})
  const inPath = [...command.path.matchAll(/\{\{\s*(\w+)\s*\}\}/g)]
    .map(([, word = '']) => word)
    .filter(word => word !== 'mount_point')
  const given = Object.fromEntries([...wanted, ...inPath].flatMap(word => (word in known ? [[word, known[word]]] : [])))
  return { ...given, ...SPECIAL[name]?.({ key, ...made }) }
}

const SPECIAL: Readonly<Record<string, (made: Facts) => object>> = {
  mount: () => ({ mount_point: 'kv-one', type: 'kv', description: 'a mount' }),
  remount: () => ({ from: 'kv-old', to: 'kv-new' }),
  unmount: () => ({ mount_point: 'kv-gone' }),
  removeTokenRole: () => ({ role_name: 'gone' }),
  deleteApproleRole: () => ({ role_name: 'gone' }),
  enableAuth: () => ({ mount_point: 'approle-two', type: 'approle' }),
  disableAuth: () => ({ mount_point: 'approle-two' }),
  enableAudit: () => ({ name: 'one', type: 'file', options: { file_path: '/dev/null' } }),
  encryptData: () => ({ plaintext: 'aGk=' }),
  decryptData: ({ ciphertext }) => ({ ciphertext }),
  rewrapData: ({ ciphertext }) => ({ ciphertext }),
  addPolicy: () => ({ policy: 'path "secret/*" { capabilities = ["read"] }' }),
  addApproleRole: () => ({ policies: 'default', period: 3600 }),
  addTokenRole: () => ({ allowed_policies: 'default', renewable: true, period: 3600 }),
  generateRootInit: () => ({}),
  generateRootUpdate: ({ key, nonce }) => ({ key, nonce }),
  unseal: ({ key }) => ({ key }),
  unwrap: ({ wrapped }) => ({ token: wrapped }),
  tokenRevokeAccessor: ({ accessorToRevoke }) => ({ accessor: accessorToRevoke }),
  tokenRevokeOrphan: ({ orphanToRevoke }) => ({ token: orphanToRevoke }),
  tokenRevoke: ({ tokenToRevoke }) => ({ token: tokenToRevoke }),
  tokenCreate: () => ({ policies: ['default'], ttl: '10m', meta: { for: 'a test' } }),
  tokenCreateOrphan: () => ({ policies: ['default'], ttl: '10m' }),
  tokenCreateRole: () => ({ role_name: 'one', policies: ['default'], ttl: '10m' }),
  approleSecretDestroy: ({ secretToDestroy }) => ({ secret_id: secretToDestroy }),
  approleSecretAccessorDestroy: ({ secretAccessor }) => ({ role_name: 'one', secret_id_accessor: secretAccessor }),
}

async function send(side: Side, name: string, command: Command): Promise<object> {
  const made = facts[side.name]
  const token = name.endsWith('Self') ? made['token'] : side.vault.rootToken
  const client = nodeVault({ endpoint: side.address, ...(token === undefined ? {} : { token }) }) as unknown as Record<
    string,
    (args: object) => Promise<{ nonce?: string } | undefined>
  >
  try {
    const reply = await client[name]?.(parametersOf(name, command, made))
    if (reply?.nonce) made['nonce'] = reply.nonce
    return { answered: shapeOf(reply) }
  } catch (error) {
    const { response, message } = error as Error & { response?: { statusCode: number; body: unknown } }
    return { refused: response?.statusCode, body: shapeOf(response?.body), message: steady(message) }
  }
}

test('every command is answered the same', async () => {
  const differing: object[] = []
  const refused: object[] = []
  for (const name of order) {
    const command = commands[name] as Command
    const { straight, through } = await sides.both(side => send(side, name, command))
    if ('refused' in straight && !Object.hasOwn(REFUSED, name)) refused.push({ name, straight })
    if ('answered' in straight && Object.hasOwn(REFUSED, name)) refused.push({ name, straight })
    if (JSON.stringify(straight) !== JSON.stringify(through)) differing.push({ name, straight, through })
  }
  expect(differing).toEqual([])
  // what both sides refuse says little
  expect(refused).toEqual([])
  expect(order.length).toBeGreaterThanOrEqual(82)
})
