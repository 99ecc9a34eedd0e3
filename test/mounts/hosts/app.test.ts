import type { IncomingMessage, ServerResponse } from 'node:http'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openApp } from '../../../mounts/hosts/app.ts'
import type { HttpReply } from '../../../mounts/hosts/envelope.ts'
import { remember } from '../../../mounts/hosts/request_facts.ts'
import { canonicalise } from '../../../mounts/path.ts'
import { openTestBroker, type TestBroker } from '../../fakes/broker.ts'

let at: TestBroker
beforeAll(async () => {
  at = await openTestBroker()
})
afterAll(() => at[Symbol.asyncDispose]())

/** A request to the app, to which Vault answers so. */
async function asked(method: string, target: string, vaults: HttpReply): Promise<Response> {
  const { broker, dispatch, world } = at
  const app = openApp({ broker, dispatch, world, newId: () => 'an-id', forward: async () => vaults })
  const read = canonicalise(target)
  if (!read.ok) throw new Error(read.message)
  const incoming = { method } as IncomingMessage
  remember(incoming, read.path, '127.0.0.1', Buffer.alloc(0))
  const request = new Request(`http://here${target}`, { method, headers: { 'X-Vault-Token': at.vault.rootToken } })
  return app.fetch(request, { incoming, outgoing: {} as ServerResponse })
}

test.each(['Content-Type', 'content-type'])('what Vault says in headers is said once, however it writes them: %s', async name => {
  const headers = { [name]: 'application/json', [name === 'Content-Type' ? 'Cache-Control' : 'cache-control']: 'no-store' }
  const raw = Buffer.from('{"data":{}}')
  for (const target of ['/v1/sys/auth', '/v1/sys/auth/none']) {
    const reply = await asked('GET', target, { status: 200, headers, raw })
    expect([reply.headers.get('content-type'), reply.headers.get('cache-control')]).toEqual(['application/json', 'no-store'])
    expect(await reply.json()).toEqual({ data: {} })
  }
})
