import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Reply } from '../harness/vault.ts'
import { ask, done, openWorld, type World } from './world.ts'

// Every path of ours, as its own document has them: Vault is asked about each, by its verbs, whoever asks.

const MOUNTS = ['auth/tpm-quote', 'broker'] as const
const CAPABILITIES = ['read', 'list', 'delete', 'update', 'create'] as const
type Capability = (typeof CAPABILITIES)[number]

let world: World
let operations: readonly Operation[]
const tokens: Record<string, string> = {}

/** `wants`: the one capability that lets it in, where what it speaks of is not there yet. */
type Operation = { readonly path: string; readonly method: string; readonly wants: Capability | 'nothing' }

beforeAll(async () => {
  world = await openWorld()
  await world.operator(['auth', 'enable', 'tpm-quote'])
  await world.operator(['secrets', 'enable', 'broker'])
  operations = await documented()
  const of = (rules: readonly string[]) => rules.join('\n')
  const everywhere = (...may: string[]) => of(MOUNTS.map(mount => `path "${mount}/*" { capabilities = ${JSON.stringify(may)} }`))
  for (const one of CAPABILITIES) tokens[one] = await tokenOf(one, everywhere(one))
  tokens['nothing'] = await tokenOf('nothing', 'path "elsewhere" { capabilities = ["read"] }')
  const denied = operations.map(({ path }) => `path "${path}" { capabilities = ["deny"] }`)
  tokens['denied'] = await tokenOf('denied', of([...new Set(denied), everywhere(...CAPABILITIES, 'sudo')]))
})
afterAll(() => world[Symbol.asyncDispose]())

async function tokenOf(name: string, policy: string): Promise<string> {
  await done(world.vault.api('PUT', `sys/policies/acl/${name}`, { policy }))
  return (await world.vault.api('POST', 'auth/token/create', { policies: [name] })).body.auth.client_token as string
}

type Document = { readonly paths: Readonly<Record<string, Readonly<Record<string, unknown>>>> }

async function documented(): Promise<readonly Operation[]> {
  const { paths } = (await world.api('GET', 'sys/internal/specs/openapi')).body as Document
  const ours = Object.entries(paths).filter(([path]) => MOUNTS.some(mount => path.startsWith(`/${mount}/`)))
  return ours.flatMap(([path, item]) => {
    const open = item['x-vault-unauthenticated'] === true
    const wants = {
      get: path.endsWith('/') ? 'list' : 'read',
      post: item['x-vault-createSupported'] ? 'create' : 'update',
      delete: 'delete',
    } as const
    return (['get', 'post', 'delete'] as const)
      .filter(method => item[method] !== undefined)
      .map(method => ({
        path: path.slice(1).replaceAll(/\{\w+\}/g, 'some'),
        method: method === 'get' && path.endsWith('/') ? 'LIST' : method.toUpperCase(),
        wants: open ? 'nothing' : wants[method],
      }))
  })
}

const request = ({ path, method }: Operation, token?: string) =>
  ask(world.door.address, method, path, { ...(token ? { token } : {}), ...(method === 'POST' ? { body: {} } : {}) })

/** Vault's own refusal, and not one of ours that comes after it. */
const isDenied = ({ status, body }: Reply) =>
  status === 403 && ['1 error occurred:\n\t* permission denied\n\n', 'permission denied'].includes(String(body?.errors?.[0]))

const named = ({ method, path }: Operation) => `${method} ${path}`

test('those that need no token are few, and known', () => {
  const open = operations.filter(({ wants }) => wants === 'nothing').map(named)
  expect(open.toSorted()).toEqual([
    'GET auth/tpm-quote/.well-known/jwks.json',
    'GET broker/.well-known/jwks.json',
    'GET broker/.well-known/openid-configuration',
    'POST auth/tpm-quote/challenge',
    'POST auth/tpm-quote/challenge/document',
    'POST auth/tpm-quote/enroll',
    'POST auth/tpm-quote/enroll/activate',
    'POST auth/tpm-quote/login',
    'POST auth/tpm-quote/login/document',
  ])
})

test('all others let nobody in who has no token, a wrong one, or one that may do nothing, or is denied by name', async () => {
  const closed = operations.filter(({ wants }) => wants !== 'nothing')
  expect(closed.length).toBeGreaterThan(40)
  for (const who of [undefined, 'hvs.nobody', tokens['nothing'], tokens['denied']])
    for (const one of closed) {
      const { status, body } = await request(one, who)
      expect({ who, asked: named(one), status, errors: body.errors as unknown }).toMatchObject({
        status: 403,
        errors: [expect.stringContaining('permission denied') as string],
      })
    }
})

test.each(CAPABILITIES)('`%s` alone opens what it is the verb of, and nothing else', async capability => {
  const closed = operations.filter(({ wants }) => wants !== 'nothing')
  const open: string[] = []
  for (const one of closed) if (!isDenied(await request(one, tokens[capability]))) open.push(named(one))
  expect(open).toEqual(closed.filter(({ wants }) => wants === capability).map(named))
})
