import { afterAll, beforeAll, expect, test } from 'vitest'
import { ask, done, openWorld, type World } from './world.ts'

// The same policies on Vault's own paths, for a mount of ours and for one that Vault ships: who may make, tune, move and end mounts has to come out alike.

let world: World
const moves: Record<string, string> = {}
beforeAll(async () => {
  world = await openWorld()
  for (const [type, method] of TYPES) {
    await done(world.api('POST', `sys/mounts/before-${type}`, { type }))
    const { data } = await done(world.api('POST', 'sys/remount', { from: `before-${type}`, to: `behind-${type}` }))
    moves[type] = data.migration_id
    await done(world.api('POST', `sys/auth/${method}`, { type: method }))
  }
})
afterAll(() => world[Symbol.asyncDispose]())

const TYPES = [
  ['broker', 'tpm-quote'],
  ['kv', 'userpass'],
] as const

/** Everything that a policy can let do on these paths. `there` and `gone` are mounts, `METHOD` is an auth mount. */
const asked: readonly (readonly [method: string, path: string, body?: object])[] = [
  ['POST', 'sys/mounts/new', { type: 'TYPE' }],
  ['POST', 'sys/mounts/there', { type: 'kv' }],
  ['POST', 'sys/mounts/there/tune', { description: 'words' }],
  ['POST', 'sys/auth/METHOD/tune', { options: { assay: 'other' } }],
  ['POST', 'sys/mounts/auth/METHOD/tune', { options: { assay: 'other' } }],
  ['GET', 'sys/mounts/there'],
  ['GET', 'sys/mounts/there/tune'],
  ['GET', 'sys/remount/status/MOVE'],
  ['DELETE', 'sys/mounts/gone'],
  ['POST', 'sys/remount', { from: 'secret', to: 'there' }],
  ['POST', 'sys/remount', { from: 'there', to: 'moved' }],
]

const policies = [
  ['create'],
  ['read'],
  ['update'],
  ['delete'],
  ['sudo'],
  ['create', 'sudo'],
  ['read', 'sudo'],
  ['update', 'sudo'],
  ['delete', 'sudo'],
  ['create', 'read', 'update', 'delete', 'sudo', 'deny'],
]
const PATHS = ['sys/mounts/*', 'sys/auth/*', 'sys/remount', 'sys/remount/status/*']

async function token(capabilities: readonly string[]): Promise<string> {
  const name = capabilities.join('-')
  const policy = PATHS.map(path => `path "${path}" { capabilities = ${JSON.stringify(capabilities)} }`).join('\n')
  await done(world.vault.api('PUT', `sys/policies/acl/${name}`, { policy }))
  return (await done(world.vault.api('POST', 'auth/token/create', { policies: [name] }))).auth.client_token
}

/** Which of it was let in, on mounts that nobody else asks about: Vault moves its own in its own time. */
async function allowed([type, method]: (typeof TYPES)[number], as: string, place: string): Promise<Record<string, boolean>> {
  for (const name of ['there', 'gone']) await done(world.api('POST', `sys/mounts/${place}-${type}-${name}`, { type }))
  const found: Record<string, boolean> = {}
  for (const one of asked) {
    const text = JSON.stringify(one)
      .replaceAll('TYPE', type)
      .replaceAll('METHOD', method)
      .replaceAll('MOVE', moves[type] ?? '')
    const named = text.replaceAll(/\b(new|there|gone|moved)\b/g, `${place}-${type}-$1`)
    const [verb, path, body] = JSON.parse(named) as [string, string, object | undefined]
    const { status } = await ask(world.door.address, verb, path, { token: as, ...(body ? { body } : {}) })
    found[JSON.stringify(one)] = status !== 403
  }
  return found
}

test.each(policies.map(one => [one.join(', '), one] as const))('%s: as on mounts that Vault ships', async (_, capabilities) => {
  const [as, place] = [await token(capabilities), capabilities.join('-')]
  expect(await allowed(TYPES[0], as, place)).toEqual(await allowed(TYPES[1], as, place))
})
