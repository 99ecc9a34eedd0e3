import type { IncomingMessage } from 'node:http'
import { request } from 'node:https'
import { text } from 'node:stream/consumers'
import { describe, expect, test } from 'vitest'
import { BrokerError } from '../../engine/errors.ts'
import { REAL } from '../fakes/sealing.ts'
import { eventually } from '../harness/patience.ts'
import { until } from '../harness/process.ts'
import { bearer, client, exchangeRaw, openProxyWorld, type ProxyWorld } from './world.ts'

const REFUSED = 'TOKEN: the sealed token was refused'

test('a stolen token is worth nothing on another machine, and both say the same as a forged one', async () => {
  await using world = await openProxyWorld()
  const token = await world.seal()
  const stolen = await world.ask({ headers: bearer(token), as: world.other })
  const forged = await world.ask({ headers: bearer(`${token.slice(0, -4)}AAAA`) })
  const nonsense = await world.ask({ headers: bearer('nonsense') })
  expect(world.upstream.seen).toEqual([])
  for (const answered of [stolen, forged, nonsense]) {
    expect(answered).toMatchObject({ status: 403, code: 'TOKEN' })
    expect(answered.text.replace(/[0-9a-f-]{36}/, '')).toBe(stolen.text.replace(/[0-9a-f-]{36}/, ''))
    expect(answered.text).toContain(REFUSED)
  }
  const codes = (await world.records()).filter(one => one['type'] === 'refusal').map(one => one['code'])
  expect(codes).toEqual(['TOKEN_CERTIFICATE', 'TOKEN_SIGNATURE', 'TOKEN_FORM'])
})

test('a remembered token is remembered for its certificate alone', async () => {
  await using world = await openProxyWorld()
  const token = await world.seal()
  expect((await world.ask({ headers: bearer(token) })).status).toBe(200)
  expect((await world.ask({ headers: bearer(token), as: world.other })).code).toBe('TOKEN')
  const asked = world.sealing.vault.asked.length
  expect((await world.ask({ headers: bearer(token) })).status).toBe(200)
  expect(world.sealing.vault.asked.slice(asked).filter(path => path.includes('transit'))).toEqual([])
})

test('of two tokens that come in turns on one connection each stands for its own credential', async () => {
  await using world = await openProxyWorld()
  const real = ['the-first-credential', 'the-second-credential']
  const tokens = await Promise.all(real.map((token, at) => world.seal({ fields: { token }, jti: `jti-${at}` })))
  const socket = await world.connect()
  for (const at of [0, 1, 0, 0, 1, 1]) {
    const head = [`GET ${world.base}/ HTTP/1.1`, 'Host: a', `Authorization: Bearer ${tokens[at]}`]
    await exchangeRaw(socket, `${head.join('\r\n')}\r\n\r\n`, text => text.endsWith('fine'))
    expect(world.upstream.seen.at(-1)?.rawHeaders).toContain(`Bearer ${real[at]}`)
  }
  socket.destroy()
  expect(world.upstream.seen).toHaveLength(6)
})

test('a renewed certificate over the same key is another certificate', async () => {
  await using world = await openProxyWorld()
  const renewed = await client(world.ca, 'agent')
  const token = await world.seal()
  expect((await world.ask({ headers: bearer(token), as: renewed })).code).toBe('TOKEN')
})

test('a token whose key is bound too wants a certificate over that key', async () => {
  await using world = await openProxyWorld()
  expect((await world.ask({ headers: bearer(await world.seal({ keyThumbprint: world.agent.jkt })) })).status).toBe(200)
  expect((await world.ask({ headers: bearer(await world.seal({ keyThumbprint: world.other.jkt })) })).code).toBe('TOKEN')
})

test('an expired token says so, remembered or not', async () => {
  await using world = await openProxyWorld()
  const [used, unused] = [await world.seal(), await world.seal({ jti: 'jti-2' })]
  expect((await world.ask({ headers: bearer(used) })).status).toBe(200)
  world.pass(601_000)
  await eventually(async () => expect((await world.ask({ headers: bearer(used) })).code).toBe('TOKEN_EXPIRED'))
  expect((await world.ask({ headers: bearer(unused) })).code).toBe('TOKEN_EXPIRED')
})

describe('revocation ends', () => {
  test('a token by its id', async () => {
    await using world = await openProxyWorld()
    const [one, two] = [await world.seal(), await world.seal({ jti: 'jti-2' })]
    expect((await world.ask({ headers: bearer(one) })).status).toBe(200)
    await world.sealing.revocations.deny('jti-1')
    await eventually(async () => expect((await world.ask({ headers: bearer(one) })).code).toBe('TOKEN_REVOKED'))
    expect((await world.ask({ headers: bearer(two) })).status).toBe(200)
  })

  test('all tokens of an agent, and of a mount', async () => {
    await using world = await openProxyWorld()
    const token = await world.seal()
    await world.sealing.revocations.raise({ agent: 'sha256-aa' })
    await eventually(async () => expect((await world.ask({ headers: bearer(token) })).code).toBe('TOKEN_REVOKED'))
    const next = await world.seal({ epoch: await world.sealing.revocations.epoch('mount', 'sha256-aa') })
    expect((await world.ask({ headers: bearer(next) })).status).toBe(200)
    await world.sealing.revocations.raise({ tenant: 'mount' })
    await eventually(async () => expect((await world.ask({ headers: bearer(next) })).code).toBe('TOKEN_REVOKED'))
  })

  test('everything, when nobody knows any more what is revoked', async () => {
    await using world = await openProxyWorld()
    const token = await world.seal()
    expect((await world.ask({ headers: bearer(token) })).status).toBe(200)
    world.sealing.vault.fault = () => new BrokerError('unavailable', 'down')
    world.pass(11_000)
    await eventually(async () =>
      expect(await world.ask({ headers: bearer(token) })).toMatchObject({ status: 503, code: 'REVOCATIONS_STALE' }),
    )
  })
})

test('while Vault does not answer, what is remembered works and what is new does not', async () => {
  await using world = await openProxyWorld()
  const [old, fresh] = [await world.seal(), await world.seal({ tenant: 'other' })]
  expect((await world.ask({ headers: bearer(old) })).status).toBe(200)
  world.sealing.vault.fault = () => new BrokerError('unavailable', 'down')
  expect((await world.ask({ headers: bearer(old) })).status).toBe(200)
  expect(await world.ask({ headers: bearer(fresh) })).toMatchObject({ status: 503, code: 'UNAVAILABLE' })
})

test('in transit mode nothing is remembered: each request asks', async () => {
  await using world = await openProxyWorld({ mode: 'transit' })
  const token = await world.seal()
  for (const _ of [1, 2, 3]) expect((await world.ask({ headers: bearer(token) })).status).toBe(200)
  expect(world.sealing.vault.asked.filter(path => path.includes('decrypt'))).toHaveLength(3)
})

test('the record of a swap says who, what and where, and nothing of the token', async () => {
  await using world = await openProxyWorld()
  const token = await world.seal()
  await world.ask({ method: 'POST', path: `${world.base}/repos/secret-name?x=1`, headers: bearer(token), body: 'x' })
  const records = await world.records()
  const swap = records.find(one => one['type'] === 'request')
  expect(swap).toMatchObject({
    operation: 'swap',
    agent: 'sha256-aa',
    plugin: 'git',
    jti: 'jti-1',
    service: 'upstream',
    destination: `http://127.0.0.1:${world.upstream.port}`,
    method: 'POST',
    certificate: world.agent.x5tS256,
  })
  const text = JSON.stringify(records)
  for (const secret of [token, REAL, 'secret-name']) expect(text).not.toContain(secret)
})

test('nothing of a token gets into the log of the service', async () => {
  await using world = await openProxyWorld()
  const token = await world.seal()
  await world.ask({ headers: bearer(token) })
  await world.ask({ headers: bearer(`${token}x`) })
  expect(world.logged.join()).not.toContain(token.slice(0, 40))
  expect(world.logged.join()).not.toContain(REAL)
})

test.each([
  ['TOKEN_EXPIRED', (world: ProxyWorld) => world.pass(601_000)],
  ['TOKEN_REVOKED', (world: ProxyWorld) => world.sealing.revocations.deny('jti-1')],
] as const)('a body that takes its time outlives no token: %s', async (code, end) => {
  await using world = await openProxyWorld({ service: { inject: [{ body: { placeholder: '{{secret}}', value: '{token}' } }] } })
  const headers = { ...bearer(await world.seal()), 'Content-Type': 'application/json', Expect: '100-continue' }
  const sent = request({ ...world.dial, method: 'POST', path: `${world.base}/`, headers, agent: false })
  const heard = new Promise<IncomingMessage>((resolve, reject) => sent.once('response', resolve).once('error', reject))
  // the token was looked at when the body is asked for
  const asked = new Promise(resolve => sent.once('continue', resolve))
  sent.flushHeaders()
  await asked
  await end(world)
  const [binding, jti] = [{ tenant: 'mount', agent: 'sha256-aa', epoch: [0, 0] as const }, 'jti-1']
  await until(
    'the end to be known',
    async () => code === 'TOKEN_EXPIRED' || world.sealing.watch.standing({ ...binding, jti }) === 'revoked',
  )
  sent.end('"{{secret}}"')
  expect(await text(await heard)).toContain(`"code":"${code}"`)
  expect(world.upstream.seen).toEqual([])
})
