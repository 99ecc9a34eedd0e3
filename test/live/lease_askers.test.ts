import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { provider } from '../fakes/leased_issuer.ts'
import { until } from '../harness/process.ts'
import { serveHere } from './in_process.ts'
import { LEASE, leaseWorld } from './lease_world.ts'
import { ask, done, logIn, serviceOf } from './world.ts'

// Leases and those who ask for them: tokens that end, requests that are made again, replicas.

// time that passes here has passed at Vault, too
vi.mock('../../engine/time.ts', async () => ({ openTime: (await import('../fakes/world.ts')).openAgreeing }))

const { live, root, cli, creds, logInAnew } = leaseWorld()

/** What is left of the life of a lease: nothing from when its end is certain, whether or not the provider has heard of it. */
async function leftOf(leaseId: string): Promise<unknown> {
  const { status, body } = await root('PUT', 'sys/leases/lookup', { lease_id: leaseId })
  return status === 200 ? body.data.ttl : 0
}

describe('a token that is revoked', () => {
  test('through the front door takes its leases with it at once', async () => {
    const { body } = await creds()
    expect((await ask(live.here.address, 'POST', 'auth/token/revoke-self', { token: live.token })).status).toBe(204)
    expect(await leftOf(body.lease_id)).toBe(0)
    await until('its lease to be revoked', async () => provider.living() === 0)
    await logInAnew()
  })

  test('at Vault itself takes its leases with it, by itself', async () => {
    await creds()
    await live.world.vault.api('POST', 'auth/token/revoke', { token: live.token })
    await until('its lease to be revoked', async () => provider.living() === 0)
    await logInAnew()
  })
})

test('a token on its last use gets no credential that would have to be revoked with it, in Vault’s words', async () => {
  const native = { references: 'good', token_policies: 'builder', token_num_uses: 1 }
  await done(root('POST', 'auth/tpm-quote/role/once', native))
  await done(root('POST', 'broker/policy/once', { policy: 'permit (principal, action, resource);' }))
  const once = await logIn(serviceOf(live.here.address), live.world.attester, { role: 'once' })
  const { status, body } = await creds({ token: once })
  expect({ status, errors: body.errors as unknown }).toEqual({
    status: 400,
    errors: ['Secret cannot be returned; token had one use left, so leased credentials were immediately revoked.'],
  })
  expect(provider.calls).toBe(0)
  await done(root('DELETE', 'broker/policy/once'))
})

describe('the same request again', () => {
  test('gets the same credential, which lives once', async () => {
    const [first, second] = await Promise.all([creds({ ttl: 77 }), creds({ ttl: 77 })])
    const third = await creds({ ttl: 77 })
    expect(new Set([first, second, third].map(({ body }) => body.lease_id)).size).toBe(1)
    expect(third.body.data.token).toBe(first.body.data.token)
    expect([provider.living(), provider.calls]).toEqual([1, 1])
    expect((await creds({ ttl: 78 })).body.lease_id).not.toBe(first.body.lease_id)
  })

  test('by another replica gets another credential, and the first is gone', async () => {
    const first = await creds({ ttl: 79 })
    const second = await creds({ ttl: 79, at: live.other })
    expect(second.status).toBe(200)
    expect(provider.alive.get(first.body.data.token)).toBe(false)
    expect(provider.alive.get(second.body.data.token)).toBe(true)
  })

  test('after it was revoked is made anew', async () => {
    const first = await creds({ ttl: 80 })
    await root('PUT', 'sys/leases/revoke', { lease_id: first.body.lease_id, sync: true })
    const second = await creds({ ttl: 80 })
    expect(provider.alive.get(second.body.data.token)).toBe(true)
    expect(provider.living()).toBe(1)
  })
})

describe('a client that asks three times, as Go’s do when they are answered badly', () => {
  /** A way to the front door on which the replies to the first requests are lost, or spoilt. */
  async function lossy(how: 'lost' | 'spoilt', times: number): Promise<{ address: string; asked: () => number }> {
    let asked = 0
    const server = createServer((incoming, outgoing) => void pass(incoming, outgoing))
    async function pass(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
      const chunks: Buffer[] = []
      for await (const chunk of incoming) chunks.push(chunk as Buffer)
      const headers = { 'X-Vault-Token': String(incoming.headers['x-vault-token']), 'Content-Type': 'application/json' }
      const body = Buffer.concat(chunks)
      const reply = await fetch(`${live.here.address}${incoming.url}`, { method: incoming.method ?? '', headers, body })
      const text = await reply.text()
      asked += 1
      if (asked > times) outgoing.writeHead(reply.status, { 'Content-Type': 'application/json' }).end(text)
      else if (how === 'spoilt') outgoing.writeHead(500, { 'Content-Type': 'application/json' }).end('{"errors":["spoilt"]}')
      else incoming.socket.destroy()
    }
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => {
      server.closeAllConnections()
      server.close()
    })
    return { address: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked: () => asked }
  }
  // two, as every client of Vault's Go library has it but for the CLI, where a person would ask again
  const write = (address: string, ttl: number) =>
    cli(['write', '-format=json', 'broker/creds/leased', 'plugin=kubernetes', 'action=deploy', 'scope=apps:read', `ttl=${ttl}`], {
      VAULT_ADDR: address,
      VAULT_TOKEN: live.token,
      VAULT_MAX_RETRIES: '2',
    })

  test.each(['lost', 'spoilt'] as const)('two replies are %s, the third has the one credential that lives', async how => {
    const way = await lossy(how, 2)
    const { code, stdout, stderr } = await write(way.address, how === 'lost' ? 201 : 202)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(way.asked()).toBe(3)
    const { lease_id, data } = JSON.parse(stdout) as { lease_id: string; data: { token: string } }
    expect(lease_id).toMatch(LEASE)
    expect(provider.alive.get(data.token)).toBe(true)
    expect(provider.living()).toBe(1)
  })

  test('all are lost: at most one lives, until its lease ends it', async () => {
    const way = await lossy('lost', 9)
    expect((await write(way.address, 203)).code).not.toBe(0)
    expect(way.asked()).toBe(3)
    expect(provider.living()).toBe(1)
  })
})

describe('a token that ends by', () => {
  const ends = {
    'its accessor': async () => {
      const { accessor } = (await root('POST', 'auth/token/lookup', { token: live.token })).body.data as { accessor: string }
      return root('POST', 'auth/token/revoke-accessor', { accessor })
    },
    'an order that spares its children': () => root('POST', 'auth/token/revoke-orphan', { token: live.token }),
    'a prefix of what logins made': () => root('PUT', 'sys/leases/revoke-prefix/auth/tpm-quote/login', { sync: true }),
    force: () => root('PUT', 'sys/leases/revoke-force/auth/tpm-quote/login', {}),
  }
  test.each(Object.entries(ends))('%s takes its leases with it at once', async (_, end) => {
    const { body } = await creds()
    expect(provider.living()).toBe(1)
    expect((await end()).status).toBe(204)
    expect(await leftOf(body.lease_id)).toBe(0)
    await until('its lease to be revoked', async () => provider.living() === 0)
    await logInAnew()
  })
})

test('a lease of one replica is known to the other, and ended by it when the first is gone', async () => {
  const third = await serveHere(live.world.vault)
  const { body } = await creds({ at: third })
  await third[Symbol.asyncDispose]()
  expect(
    (
      await ask(live.other.address, 'PUT', 'sys/leases/lookup', {
        token: live.world.vault.rootToken,
        body: { lease_id: body.lease_id },
      })
    ).status,
  ).toBe(200)
  live.passes(700_000)
  await until('it to be ended', async () => provider.living() === 0)
})
