import { createRequire } from 'node:module'
import nodeVault from 'node-vault'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openSides, type Side, type Sides, shapeOf, steady } from './sides.ts'

// Every command of node-vault, by its own table, sent by node-vault itself: straight to Vault, and through the front door.

type Command = { readonly method: string; readonly path: string; readonly schema?: { readonly req?: { properties?: object } } }
const commands = createRequire(import.meta.url)('node-vault/src/commands.js') as Readonly<Record<string, Command>>

/** These take the server away, or the token that the others need; they come last, in this order, with what brings it back. */
const LAST = ['stepDown', 'tokenRevokeSelf', 'seal', 'status', 'health', 'leader', 'mounts', 'unseal']
const order = [...Object.keys(commands).filter(name => !LAST.includes(name)), ...LAST]

/** What earlier replies have said, by side. */
type Facts = Record<string, string>

let sides: Sides
const facts: Record<Side['name'], Facts> = { straight: {}, through: {} }

beforeAll(async () => {
  sides = await openSides()
  await sides.both(async side => {
    const api = side.vault.api
    await api('POST', 'sys/mounts/transit', { type: 'transit' })
    await api('POST', 'transit/keys/one', {})
    await api('POST', 'transit/keys/one/config', { deletion_allowed: true })
    await api('POST', 'sys/auth/userpass', { type: 'userpass' })
    await api('POST', 'auth/userpass/users/somebody', { password: 'a-password', token_policies: 'default' })
    await api('POST', 'auth/token/roles/one', { allowed_policies: ['default'] })
    await api('POST', 'secret/data/one', { data: { a: 'b' } })
    const { body } = await api('POST', 'auth/token/create', { policies: ['default'], ttl: '1h' })
    const { body: ciphered } = await api('POST', 'transit/encrypt/one', { plaintext: 'aGk=' })
    facts[side.name] = {
      token: body.auth.client_token,
      accessor: body.auth.accessor,
      ciphertext: ciphered.data.ciphertext,
      key: side.vault.unsealKey,
    }
  })
})
afterAll(() => sides[Symbol.asyncDispose]())

function parametersOf(name: string, command: Command, { token = '', accessor = '', ciphertext = '', key = '' }: Facts): object {
  const known: Readonly<Record<string, unknown>> = {
    role_name: 'one',
    name: 'one',
    username: 'somebody',
    password: 'a-password',
    path: 'one',
    path_prefix: 'auth/token/create/one',
    databasePath: 'database',
    kubernetesPath: 'kubernetes',
    plaintext: 'aGk=',
    ciphertext,
    token,
    accessor,
    policies: ['default'],
    ttl: '10m',
    versions: [1],
    lease_id: 'auth/token/create/none',
    role_id: 'a-role-id',
    secret_id: 'a-secret',
    secret_id_accessor: 'none',
    bind_secret_id: true,
    secret_shares: 1,
    secret_threshold: 1,
    role: 'one',
    jwt: 'a.b.c',
    from: 'kv-one',
    to: 'kv-two',
    policy: 'path "secret/*" { capabilities = ["read"] }',
    period: '1h',
  }
  const wanted = Object.keys(command.schema?.req?.properties ?? {})
  const inPath = [...command.path.matchAll(/\{\{\s*(\w+)\s*\}\}/g)]
    .map(([, word = '']) => word)
    .filter(word => word !== 'mount_point')
  const given = Object.fromEntries([...wanted, ...inPath].flatMap(word => (word in known ? [[word, known[word]]] : [])))
  return { ...given, ...SPECIAL[name]?.({ key, ciphertext }) }
}

const SPECIAL: Readonly<Record<string, (facts: { key: string; ciphertext: string }) => object>> = {
  mount: () => ({ mount_point: 'kv-one', type: 'kv', description: 'a mount' }),
  remount: () => ({ from: 'kv-one', to: 'kv-two' }),
  unmount: () => ({ mount_point: 'kv-one' }),
  enableAuth: () => ({ mount_point: 'approle-two', type: 'approle' }),
  disableAuth: () => ({ mount_point: 'approle-two' }),
  enableAudit: () => ({ name: 'one', type: 'file', options: { file_path: '/dev/null' } }),
  encryptData: () => ({ plaintext: 'aGk=' }),
  decryptData: ({ ciphertext }) => ({ ciphertext }),
  rewrapData: ({ ciphertext }) => ({ ciphertext }),
  addPolicy: () => ({ policy: 'path "secret/*" { capabilities = ["read"] }' }),
  addTokenRole: () => ({ allowed_policies: 'default', renewable: true }),
  unseal: ({ key }) => ({ key }),
  // what is as good as made up is refused on both sides
  unwrap: () => ({ token: 'hvs.none' }),
  tokenRevokeAccessor: () => ({ accessor: 'none' }),
  tokenRevokeOrphan: () => ({ token: 'hvs.none' }),
  tokenRevoke: () => ({ token: 'hvs.none' }),
  tokenCreate: () => ({ policies: ['default'], ttl: '10m', meta: { for: 'a test' } }),
  tokenCreateOrphan: () => ({ policies: ['default'], ttl: '10m' }),
  tokenCreateRole: () => ({ role_name: 'one', policies: ['default'], ttl: '10m' }),
}

async function send(side: Side, name: string, command: Command): Promise<object> {
  const token = name === 'tokenRevokeSelf' ? facts[side.name]['token'] : side.vault.rootToken
  const client = nodeVault({ endpoint: side.address, ...(token === undefined ? {} : { token }) }) as unknown as Record<
    string,
    (args: object) => Promise<unknown>
  >
  try {
    return { answered: shapeOf(await client[name]?.(parametersOf(name, command, facts[side.name]))) }
  } catch (error) {
    const { response, message } = error as Error & { response?: { statusCode: number; body: unknown } }
    return { refused: response?.statusCode, body: shapeOf(response?.body), message: steady(message) }
  }
}

test('every command is answered the same', async () => {
  const differing: object[] = []
  const answered: string[] = []
  for (const name of order) {
    const command = commands[name] as Command
    const { straight, through } = await sides.both(side => send(side, name, command))
    if ('answered' in straight) answered.push(name)
    if (JSON.stringify(straight) !== JSON.stringify(through)) differing.push({ name, straight, through })
  }
  expect(differing).toEqual([])
  // a test in which both sides refuse everything would say little
  expect(answered.length).toBeGreaterThan(order.length / 2)
  expect(order.length).toBeGreaterThanOrEqual(82)
})
