import { describe, expect, test, vi } from 'vitest'
import { cappedWarning } from '../../engine/capped.ts'
import { provider } from '../fakes/leased_issuer.ts'
import { until } from '../harness/process.ts'
import { LEASE, leaseWorld } from './lease_world.ts'
import { ask, auditOf, done, ROLE } from './world.ts'

// time that passes here has passed at Vault, too
vi.mock('../../engine/time.ts', async () => ({ openTime: (await import('../fakes/world.ts')).openAgreeing }))

const { live, root, cli, creds, logInAnew } = leaseWorld()

async function expectWarned(wantedSeconds: number, leftSeconds: number): Promise<void> {
  const token = { ttl: `${wantedSeconds}s`, explicit_max_ttl: `${leftSeconds}s` }
  const warnings = expect.arrayContaining([cappedWarning(wantedSeconds, leftSeconds)]) as unknown
  expect(await root('POST', 'auth/token/create', token)).toMatchObject({ status: 200, body: { warnings } })
}

describe('the lease of a credential that can be revoked', () => {
  test('is in the reply, in Vault’s form', async () => {
    const { body } = await creds({ ttl: 500 })
    expect(body).toMatchObject({ lease_id: expect.stringMatching(LEASE) as string, lease_duration: 500, renewable: true })
    expect(body.data).toMatchObject({ expires_in: 500, token: expect.any(String) as string })
    const outcome = await until('the outcome in the audit log', async () =>
      (await auditOf(live.here.auditFile)).find(one => one['lease_id'] === body.lease_id),
    )
    expect(outcome).toMatchObject({ type: 'outcome', result: 'issued' })
  })

  test('is looked up, listed, renewed and revoked by the stock CLI', async () => {
    const { body } = await creds({ ttl: 300 })
    const found = await cli(['lease', 'lookup', '-format=json', body.lease_id])
    const { data } = JSON.parse(found.stdout) as { data: Record<string, unknown> }
    expect(data).toMatchObject({ id: body.lease_id, renewable: true, last_renewal: null })
    expect(Object.keys(data).toSorted()).toEqual(['expire_time', 'id', 'issue_time', 'last_renewal', 'renewable', 'ttl'])
    const listed = await cli(['list', '-format=json', 'sys/leases/lookup/broker/creds/leased'])
    expect(JSON.parse(listed.stdout)).toEqual([body.lease_id.slice(-24)])
    const renewed = await cli(['lease', 'renew', '-format=json', '-increment=400', body.lease_id])
    expect(JSON.parse(renewed.stdout)).toMatchObject({ lease_id: body.lease_id, lease_duration: 400, renewable: true })
    expect((await cli(['lease', 'revoke', '-sync', body.lease_id])).code).toBe(0)
    expect(provider.living()).toBe(0)
    expect((await cli(['lease', 'lookup', body.lease_id])).stderr).toContain('invalid lease')
    expect((await cli(['lease', 'renew', body.lease_id])).stderr).toContain('lease not found')
    expect((await cli(['lease', 'revoke', '-sync', body.lease_id])).code).toBe(0)
  })

  test('is renewed up to the role’s maximum and to the life of the token, and Vault’s warning says so', async () => {
    const { body } = await creds({ ttl: 300 })
    const renew = (increment: string) => root('PUT', 'sys/leases/renew', { lease_id: body.lease_id, increment })
    const { body: renewed } = await renew('2h')
    expect(renewed.lease_duration).toBeLessThanOrEqual(900)
    expect(renewed.lease_duration).toBeGreaterThan(600)
    expect(renewed.warnings).toEqual([cappedWarning(7200, renewed.lease_duration)])
    const asked = await creds({ ttl: 5400 })
    expect(asked.body.warnings).toEqual([cappedWarning(5400, asked.body.lease_duration)])
    expect((await creds({ ttl: 60 })).body.warnings).toBeNull()
  })

  test('what warns of a life that is cut is worded as Vault words it', async () => {
    for (const wanted of [2, 60, 61, 119, 3599, 3600, 3601, 3660, 5400, 7200, 10_000, 100_000]) await expectWarned(wanted, 1)
    await expectWarned(7200, 61)
  })

  test('ends at the provider when its time is over, and not before', async () => {
    await creds({ ttl: 600 })
    live.passes(300_000)
    await live.here.server.broker.leases.sweep()
    expect(provider.living()).toBe(1)
    live.passes(300_000)
    await until('the provider to be asked', async () => provider.living() === 0)
  })
})

describe('sys/leases', () => {
  test('lists ours beside Vault’s, and revokes both under a prefix above them', async () => {
    const { body } = await creds()
    const keys = async (path: string) => (await root('LIST', `sys/leases/lookup/${path}`)).body?.data?.keys as string[]
    expect(await keys('')).toEqual(expect.arrayContaining(['auth/', 'broker/']))
    expect(await keys('broker/')).toEqual(['creds/'])
    expect(await keys('broker/creds/leased')).toEqual([body.lease_id.slice(-24)])
    expect((await root('GET', 'sys/leases/lookup/broker?list=true')).body.data.keys).toEqual(['creds/'])
    expect((await root('LIST', 'sys/leases/lookup/broker/creds/nothing')).status).toBe(404)
    for (const near of ['bro', 'broker/creds/lease']) {
      expect((await cli(['lease', 'revoke', '-sync', '-prefix', near])).code).toBe(0)
      expect(provider.living()).toBe(1)
    }
    expect((await cli(['lease', 'revoke', '-sync', '-prefix', 'broker'])).code).toBe(0)
    expect(provider.living()).toBe(0)
  })

  test.each(['help=1;', 'help=%zz', '?help=1', 'help='])(
    'revokes what Vault would revoke, where a query only looks like help: %s',
    async query => {
      await creds()
      expect((await root('PUT', 'sys/leases/revoke-prefix/broker?help=1', { sync: true })).status).toBe(200)
      expect(provider.living()).toBe(1)
      expect((await root('PUT', `sys/leases/revoke-prefix/broker?${query}`, { sync: true })).status).toBe(204)
      expect(provider.living()).toBe(0)
    },
  )

  test('lists ours beside Vault’s in a reply that is wrapped, too', async () => {
    await creds()
    const headers = { 'X-Vault-Wrap-TTL': '60s' }
    const token = live.world.vault.rootToken
    for (const path of ['', 'broker/creds/leased']) {
      const { body: plain } = await root('LIST', `sys/leases/lookup/${path}`)
      const { body } = await ask(live.here.address, 'LIST', `sys/leases/lookup/${path}`, { token, headers })
      expect(body).toMatchObject({ data: null, wrap_info: { ttl: 60 } })
      const { body: unwrapped } = await ask(live.here.address, 'POST', 'sys/wrapping/unwrap', { token: body.wrap_info.token })
      expect(unwrapped.data).toEqual(plain.data)
    }
  })

  test('asks Vault’s policies on Vault’s paths, for sudo where Vault does, and audits who was denied', async () => {
    const { body } = await creds()
    const limited = async (policy: string) => {
      await done(root('PUT', 'sys/policies/acl/limited', { policy }))
      const reply = await root('POST', 'auth/token/create', { policies: ['limited'], no_default_policy: false })
      return reply.body.auth.client_token as string
    }
    const plain = await limited('path "sys/leases/*" { capabilities = ["update", "list"] }')
    const statuses = async (as: string) => {
      const requests = [
        ['PUT', 'sys/leases/lookup', { lease_id: body.lease_id }],
        ['PUT', 'sys/leases/renew', { lease_id: body.lease_id }],
        ['PUT', `sys/leases/renew/${body.lease_id}`, {}],
        ['LIST', 'sys/leases/lookup/broker', undefined],
        ['PUT', 'sys/leases/revoke-prefix/broker', {}],
        ['PUT', 'sys/leases/revoke-force/broker', {}],
        ['PUT', 'sys/leases/revoke', { lease_id: body.lease_id }],
      ] as const
      const replies = []
      for (const [method, path, sent] of requests)
        replies.push((await ask(live.here.address, method, path, { token: as, ...(sent ? { body: sent } : {}) })).status)
      return replies
    }
    const none = (await root('POST', 'auth/token/create', { policies: ['default'] })).body.auth.client_token as string
    expect(await statuses(none)).toEqual([200, 200, 403, 403, 403, 403, 403])
    expect(provider.living()).toBe(1)
    expect(await statuses(plain)).toEqual([200, 200, 200, 403, 403, 403, 204])
    const denied = (await auditOf(live.here.auditFile)).filter(one => one['type'] === 'refusal' && one['mount'] === 'sys/')
    expect(denied.length).toBeGreaterThanOrEqual(8)
  })

  test('passes on what is Vault’s', async () => {
    for (const [method, path, body] of [
      ['PUT', 'sys/leases/lookup', { lease_id: 'secret/none' }],
      ['PUT', 'sys/leases/renew', { lease_id: 'secret/none' }],
      ['PUT', 'sys/leases/revoke', { lease_id: 'secret/none' }],
      ['PUT', 'sys/leases/lookup', {}],
      ['GET', 'sys/leases/count?type=irrevocable', undefined],
      ['GET', 'sys/leases?type=irrevocable', undefined],
      ['GET', 'sys/leases/lookup/auth', undefined],
      ['PUT', 'sys/leases/tidy', {}],
    ] as const) {
      const [ours, vaults] = await Promise.all([root(method, path, body), live.world.vault.api(method, path, body)])
      const shape = ({ status, body: reply }: typeof ours) => ({ status, errors: reply?.errors, data: reply?.data })
      expect({ path, ...shape(ours) }).toEqual({ path, ...shape(vaults) })
    }
  })

  test('counts what cannot be revoked where Vault counts what it gave up, and goes on trying', async () => {
    const { body } = await creds()
    provider.up = false
    await root('PUT', 'sys/leases/revoke', { lease_id: body.lease_id })
    for (let tries = 0; live.here.server.broker.leases.stuck().length === 0; tries++) {
      expect(tries).toBeLessThan(60)
      live.passes(31_000)
      await live.here.server.broker.leases.sweep()
    }
    const { body: counted } = await root('GET', 'sys/leases/count?type=irrevocable')
    expect(counted.data).toMatchObject({ lease_count: 1 })
    expect((await root('GET', 'sys/leases?type=irrevocable')).body.data.leases).toEqual([
      {
        lease_id: body.lease_id,
        error: expect.stringMatching(/^the provider is down: it is tried again .* -force -prefix /) as string,
      },
    ])
    const metrics = await (await fetch(`${live.here.address}/metrics`)).text()
    expect(metrics).toMatch(/^assay_leases_overdue 1$/m)
    provider.up = true
    live.passes(31_000)
    await live.here.server.broker.leases.sweep()
    await live.other.server.broker.leases.sweep()
    expect(provider.living()).toBe(0)
    await logInAnew()
  })

  test('tidies: a record that lost its name has one again, and the audit log says so', async () => {
    const { body } = await creds()
    const id = String(body.lease_id).slice(-24)
    const names = async () => {
      const folders = (await live.world.vault.api('LIST', 'assay/metadata/leases/due')).body?.data?.keys as string[] | undefined
      const found: string[] = []
      for (const folder of folders ?? []) {
        const { body: listed } = await live.world.vault.api('LIST', `assay/metadata/leases/due/${folder}`)
        for (const name of (listed?.data?.keys ?? []) as string[]) if (name.startsWith(id)) found.push(`${folder}${name}`)
      }
      return found
    }
    const [name] = await names()
    expect(name).toBeDefined()
    await done(live.world.vault.api('DELETE', `assay/metadata/leases/due/${name}`))
    expect(await names()).toEqual([])
    const { status } = await root('PUT', 'sys/leases/tidy', {})
    expect(status).toBe(202)
    await until('the name to be there again', async () => (await names()).length > 0)
    await until('the outcome in the audit log', async () =>
      (await auditOf(live.here.auditFile)).some(one => one['path'] === 'leases/tidy' && Number(one['named']) > 0),
    )
  })

  test('drops by force what the provider does not end', async () => {
    const { body } = await creds()
    provider.up = false
    expect((await cli(['lease', 'revoke', '-sync', body.lease_id])).code).not.toBe(0)
    expect((await cli(['lease', 'revoke', '-force', '-prefix', 'broker/creds'])).code).toBe(0)
    expect((await root('PUT', 'sys/leases/lookup', { lease_id: body.lease_id })).status).toBe(400)
    expect(provider.living()).toBe(1)
    // what comes next does not wait for the pause that the provider was given
    provider.up = true
    const { body: next } = await creds()
    await root('PUT', 'sys/leases/revoke', { lease_id: next.lease_id, sync: true })
  })
})

describe('a mount', () => {
  const enabled = async (path: string) => {
    await done(root('POST', `sys/mounts/${path}`, { type: 'broker', config: { default_lease_ttl: '7m', max_lease_ttl: '8m' } }))
    await done(root('POST', `${path}/config`, { actions: 'deploy' }))
    await done(root('POST', `${path}/policy/all`, { policy: 'permit (principal, action, resource);' }))
    await done(root('POST', `${path}/role/leased`, { ...ROLE, issuer: 'leased' }))
    await done(root('PUT', 'sys/policies/acl/builder', { policy: 'path "+/creds/*" { capabilities = ["update"] }' }))
  }
  const from = (path: string, more = {}) => {
    const body = { plugin: 'kubernetes', action: 'deploy', scope: 'apps:read', ...more }
    return ask(live.here.address, 'POST', `${path}/creds/leased`, { token: live.token, body })
  }

  test('gives its default life, and none beyond its longest', async () => {
    await enabled('lives')
    expect((await from('lives')).body.lease_duration).toBe(420)
    const { body } = await from('lives', { ttl: '30m' })
    expect(body.lease_duration).toBe(480)
    const renewed = await root('PUT', 'sys/leases/renew', { lease_id: body.lease_id, increment: 3600 })
    expect(renewed.body.lease_duration).toBeLessThanOrEqual(480)
    await root('POST', 'sys/mounts/lives/tune', { default_lease_ttl: '60s' })
    const before = provider.living()
    expect((await from('lives')).body.lease_duration).toBe(60)
    expect(provider.living()).toBe(before) // the same request again: what it got before has ended
    await done(root('DELETE', 'sys/mounts/lives'))
    expect(provider.living()).toBe(0)
  })

  test('that is disabled ends what it issued first, and stays while that cannot be', async () => {
    await enabled('leaving')
    await from('leaving')
    provider.up = false
    const { status, body } = await root('DELETE', 'sys/mounts/leaving')
    expect({ status, errors: body.errors as unknown }).toEqual({
      status: 400,
      errors: [expect.stringMatching(/^1 leases of leaving\/ could not be revoked yet: they are tried again/)],
    })
    expect((await from('leaving')).status).toBe(404)
    expect(Object.keys((await root('GET', 'sys/mounts')).body.data as object)).toContain('leaving/')
    provider.up = true
    await done(root('DELETE', 'sys/mounts/leaving'))
    expect(provider.living()).toBe(0)
    const ids = (await live.world.vault.api('LIST', 'assay/metadata/leases/record')).body?.data?.keys as string[] | undefined
    const records = (ids ?? []).map(id => live.world.vault.api('GET', `assay/data/leases/record/${id}`))
    const kept = (await Promise.all(records)).map(({ body: record }) => JSON.stringify(record?.data?.data))
    expect(kept.filter(record => record?.includes('leaving/'))).toEqual([])
    expect(Object.keys((await root('GET', 'sys/mounts')).body.data as object)).not.toContain('leaving/')
  })

  test('that is moved ends what it issued, and goes on at its new path', async () => {
    await enabled('before')
    await from('before')
    await done(root('POST', 'sys/remount', { from: 'before', to: 'behind' }))
    expect(provider.living()).toBe(0)
    const { body } = await from('behind')
    expect(body.lease_id).toMatch(/^behind\/creds\/leased\//)
    expect((await from('before')).status).toBe(404)
    const elsewhere = () => ask(live.other.address, 'GET', 'sys/mounts/behind', { token: live.world.vault.rootToken })
    await until('the other replica to know', async () => (await elsewhere()).body?.type === 'broker')
    await done(root('DELETE', 'sys/mounts/behind'))
    expect(provider.living()).toBe(0)
  })
})

test('whatever has data is wrapped when that is asked for, for a token that may not wrap by itself', async () => {
  const policy =
    'path "broker/*" { capabilities = ["read", "list", "update"] }\npath "sys/mounts*" { capabilities = ["read"] }\npath "sys/capabilities-self" { capabilities = ["update"] }'
  await done(root('PUT', 'sys/policies/acl/reader', { policy }))
  const reader = (await root('POST', 'auth/token/create', { policies: ['reader'], no_default_policy: true })).body.auth
    .client_token as string
  for (const [method, path] of [
    ['GET', 'broker/config'],
    ['LIST', 'broker/role'],
    ['GET', 'broker/role/leased'],
    ['GET', 'broker/keys'],
    ['GET', 'sys/mounts/broker'],
  ] as const) {
    const headers = { 'X-Vault-Wrap-TTL': '1m' }
    const { status, body } = await ask(live.here.address, method, path, { token: reader, headers })
    expect({ path, status, data: body.data as unknown }).toEqual({ path, status: 200, data: null })
    const { body: unwrapped } = await ask(live.here.address, 'POST', 'sys/wrapping/unwrap', { token: body.wrap_info.token })
    const { body: plain } = await ask(live.here.address, method, path, { token: reader })
    expect({ path, data: unwrapped.data as unknown }).toEqual({ path, data: plain.data as unknown })
  }
  const wrong = await ask(live.here.address, 'GET', 'broker/config', { token: reader, headers: { 'X-Vault-Wrap-TTL': '-5' } })
  expect(wrong).toMatchObject({
    status: 400,
    body: { errors: [expect.stringContaining('error parsing X-Vault-Wrap-TTL header') as string] },
  })
})

test('a reply that is wrapped is unwrapped once, with its lease', async () => {
  const { body } = await creds({ headers: { 'X-Vault-Wrap-TTL': '60s' } })
  expect(body).toMatchObject({ data: null, lease_id: '', wrap_info: { ttl: 60, creation_path: 'sys/wrapping/wrap' } })
  const { token: wrapping } = body.wrap_info as { token: string }
  const unwrap = () => cli(['unwrap', '-format=json', wrapping], { VAULT_TOKEN: wrapping })
  const unwrapped = await unwrap()
  expect(JSON.parse(unwrapped.stdout).data).toMatchObject({
    lease_id: expect.stringMatching(LEASE) as string,
    lease_duration: expect.any(Number) as number,
  })
  expect((await unwrap()).code).not.toBe(0)
})

test('a renewal that is wrapped is done, and unwrapped once, as Vault’s own', async () => {
  const { body } = await creds({ ttl: 300 })
  const renewed = await cli(['lease', 'renew', '-format=json', '-increment=400', '-wrap-ttl=60s', body.lease_id])
  const { wrap_info: info, lease_id } = JSON.parse(renewed.stdout)
  expect({ lease_id, ttl: info.ttl as number }).toEqual({ lease_id: '', ttl: 60 })
  const { stdout } = await cli(['unwrap', '-format=json', info.token])
  expect(JSON.parse(stdout).data).toEqual({ lease_id: body.lease_id, lease_duration: 400, renewable: true })
  expect((await root('PUT', 'sys/leases/lookup', { lease_id: body.lease_id })).body.data.ttl).toBeGreaterThan(300)
})
