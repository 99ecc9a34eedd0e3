import { afterAll, beforeAll, expect, test } from 'vitest'
import { ask, openWorld, type World } from './world.ts'

// Who may do nothing learns nothing: what is there and what is not is answered alike, word for word.

let world: World
let token: string
beforeAll(async () => {
  world = await openWorld()
  await world.operator(['auth', 'enable', 'tpm-quote'])
  await world.operator(['secrets', 'enable', 'broker'])
  await world.operator(['write', 'broker/config', 'actions=deploy'])
  await world.operator(['write', 'broker/role/deploy', 'plugins=a', 'actions=deploy', 'audiences=b'])
  await world.operator(['write', 'auth/tpm-quote/config', 'enrollment=any'])
  const { body } = await world.vault.api('POST', 'auth/token/create', { policies: ['default'] })
  token = body.auth.client_token
})
afterAll(() => world[Symbol.asyncDispose]())

const METHODS = ['GET', 'LIST', 'POST', 'PUT', 'DELETE', 'PATCH'] as const
/** What is there, and beside it what is not. */
const pairs = [
  ['broker/role/deploy', 'broker/role/none'],
  ['broker/role/deploy', 'broker/nothing/here'],
  ['broker/config', 'none/config'],
  ['broker/creds/deploy', 'broker/creds/none'],
  ['broker/creds/deploy', 'none/creds/deploy'],
  ['broker/keys', 'secret/data/none'],
  ['auth/tpm-quote/config', 'auth/tpm-quote/none'],
  ['auth/tpm-quote/role/builder', 'auth/none/role/builder'],
  ['sys/mounts/broker', 'sys/mounts/none'],
  ['sys/mounts/broker/tune', 'sys/mounts/none/tune'],
  ['sys/auth/tpm-quote', 'sys/auth/none'],
  ['sys/auth/tpm-quote/tune', 'sys/auth/none/tune'],
] as const

const answers = async (method: string, path: string, as: string | undefined) => {
  const writes = ['POST', 'PUT', 'PATCH'].includes(method)
  const headers = method === 'PATCH' ? { 'Content-Type': 'application/merge-patch+json' } : {}
  const { status, body } = await ask(world.door.address, method, path, {
    ...(as ? { token: as } : {}),
    ...(writes ? { body: '{"type":"kv"}' } : {}),
    headers,
  })
  return { status, body }
}

test.each(['a token that may do nothing', 'a token that is none', 'no token'])(
  '%s: what is there is answered as what is not',
  async who => {
    const as = who === 'no token' ? undefined : who === 'a token that is none' ? 'hvs.none' : token
    for (const [there, absent] of pairs) {
      for (const method of METHODS) {
        const [one, other] = [await answers(method, there, as), await answers(method, absent, as)]
        expect({ method, there, ...one }).toEqual({ method, there, ...other })
        expect({ method, there, status: one.status }).toEqual({
          method,
          there,
          status: one.status >= 400 ? one.status : 'a refusal',
        })
      }
    }
  },
)
