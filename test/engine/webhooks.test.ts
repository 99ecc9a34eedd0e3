import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createLocalJWKSet, type JSONWebKeySet, type JWTPayload, jwtVerify } from 'jose'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { configure, enrol, evidence, logIn, openTestBroker, outcomeOf, type TestBroker } from '../fakes/broker.ts'
import { offered } from '../fakes/client_hello.ts'
import { fakeMachine, REFERENCE } from '../fakes/machine.ts'
import { until } from '../harness/process.ts'
import { OTHER } from './lifecycle_provocations.ts'

const machine = fakeMachine({ label: 'enrolled' })
const nobody = { token: '' }
const tpm = `auth/tpm-quote/tpm/${machine.tpmId}`
const CAEP = 'https://schemas.openid.net/secevent/caep/event-type'

type Push = { readonly jwt: string; readonly headers: Readonly<Record<string, unknown>>; readonly path: string }

/** A receiver on a loopback address, which answers as it is told. */
class Receiver {
  readonly pushes: Push[] = []
  /** 0: it takes the event and never answers */
  answer: (path: string) => number = () => 202
  readonly #server: Server

  constructor() {
    this.#server = createServer((incoming, outgoing) => void this.#take(incoming, outgoing))
  }
  async #take(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    let jwt = ''
    for await (const chunk of incoming) jwt += String(chunk)
    const status = this.answer(incoming.url ?? '')
    if (status !== 0) outgoing.writeHead(status, status === 307 ? { location: '/elsewhere' } : {}).end()
    this.pushes.push({ jwt, headers: incoming.headers, path: incoming.url ?? '' })
  }
  async listen(): Promise<void> {
    await new Promise<void>(resolve => this.#server.listen(0, '127.0.0.1', resolve))
  }
  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }
  url(path = '/events'): string {
    return `http://127.0.0.1:${this.port}${path}`
  }
  async close(): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise(resolve => this.#server.close(resolve))
  }
}

let broker: TestBroker
let receiver: Receiver
beforeEach(async () => {
  receiver = new Receiver()
  await receiver.listen()
  broker = await openTestBroker()
  await configure(broker, { auth: { webhook_networks: '127.0.0.0/8' } })
  await enrol(broker, machine)
})
afterEach(async () => {
  await broker[Symbol.asyncDispose]()
  await receiver.close()
})

const write = (path: string, data: object) => broker.ask('update', `auth/tpm-quote/${path}`, data)
const reattest = (reason = 'an alert') => broker.ask('update', `${tpm}/reattest`, { reason })
const fail = async () => {
  await write('reference/good', { pcrs: OTHER })
  await outcomeOf(broker.ask('update', 'auth/tpm-quote/login', await evidence(broker, machine), nobody))
  await write('reference/good', { pcrs: REFERENCE })
}
const pushed = (count: number) => until(`${count} pushes`, async () => receiver.pushes.length >= count)
const open = () => [...broker.vault.state.kv.keys()].filter(path => path.includes('/open/'))
const settled = () => until('nothing to be left to do', async () => open().length === 0)
const counted = async (outcome: string) =>
  Number(
    new RegExp(`assay_webhook_pushes_total\\{outcome="${outcome}"\\} (\\d+)`).exec(await broker.broker.metrics.text())?.[1] ?? 0,
  )

/** The broker knows it, too: before it does, a clock that is moved on is moved on before the pause begins. */
const failedOnce = () => until('a try to have failed', async () => (await counted('failed')) + (await counted('refused')) >= 1)

/** Verified as a subscriber does, with the keys that the mount publishes. */
async function eventOf({ jwt }: Push, audience = receiver.url()): Promise<JWTPayload & Record<string, unknown>> {
  const outcome = await broker.ask('read', 'auth/tpm-quote/.well-known/jwks.json', {}, nobody)
  const { bare } = ('reply' in outcome ? outcome.reply : {}) as { bare: JSONWebKeySet }
  const rules = { issuer: 'https://assay.example/v1/auth/tpm-quote', audience, typ: 'secevent+jwt', algorithms: ['ES256'] }
  return (await jwtVerify(jwt, createLocalJWKSet(bare), { ...rules, currentDate: new Date(broker.world.now()) })).payload
}

describe('a security event', () => {
  test('says what happened, to which machine, and what became of what it had', async () => {
    await write('webhook/soc', { url: receiver.url() })
    await logIn(broker, machine)
    await logIn(broker, machine)
    await fail()
    await pushed(1)
    const [push] = receiver.pushes as [Push]
    expect(push.headers).toMatchObject({ 'content-type': 'application/secevent+jwt', accept: 'application/json' })
    const now = broker.world.now() / 1000
    expect(await eventOf(push)).toEqual({
      iss: 'https://assay.example/v1/auth/tpm-quote',
      aud: receiver.url(),
      iat: now,
      toe: now,
      jti: expect.stringMatching(/^[\w-]{22}\.soc$/) as string,
      sub_id: { format: 'opaque', id: machine.tpmId },
      events: {
        [`${CAEP}/device-compliance-change`]: {
          previous_status: 'compliant',
          current_status: 'not-compliant',
          event_timestamp: now,
          initiating_entity: 'policy',
          reason_admin: { en: 'the machine failed its attestation: PCR_POLICY' },
          reason: 'failed',
          epoch: 1,
          sequence: 1,
          revoked: 2,
          complete: true,
        },
      },
    })
    await settled()
  })

  test('goes over TLS in which no server chooses the prime', async () => {
    const { all, dhe } = await offered(async port => {
      await write('webhook/soc', { url: `https://127.0.0.1:${port}/` })
      await reattest()
      await until('a try to have failed', async () => (await counted('unreachable')) >= 1)
    })
    expect(all).toBeGreaterThan(3)
    expect(dhe).toEqual([])
  })

  test('comes in order, each with the next number', async () => {
    await write('webhook/soc', { url: receiver.url() })
    await fail()
    await broker.ask('update', `${tpm}/clear`, { reason: 'our mistake' })
    await reattest()
    await broker.ask('update', tpm, { disabled: true })
    await pushed(4)
    const events = await Promise.all(
      receiver.pushes.map(async push => Object.values((await eventOf(push))['events'] as object)[0]),
    )
    expect(events.map(({ reason, sequence }) => [reason, sequence])).toEqual([
      ['failed', 1],
      ['cleared', 2],
      ['reattest', 3],
      ['disabled', 4],
    ])
    expect(events[1]).toMatchObject({
      current_status: 'compliant',
      reason_admin: { en: 'an operator cleared the machine: our mistake' },
    })
  })

  test('goes to those who want it, each with its own audience', async () => {
    await write('webhook/all', { url: receiver.url('/all'), audience: 'https://soc.example' })
    await write('webhook/boots', { url: receiver.url('/boots'), reasons: 'rebooted,failed' })
    await reattest()
    await settled()
    expect(receiver.pushes.map(({ path }) => path)).toEqual(['/all'])
    expect(await eventOf(receiver.pushes[0] as Push, 'https://soc.example')).toMatchObject({ aud: 'https://soc.example' })
  })
})

describe('a receiver that is down', () => {
  test.each([500, 503, 400, 307])(
    'with %d: is told later, the same event, and no redirect is followed',
    async status => {
      await write('webhook/soc', { url: receiver.url() })
      receiver.answer = () => (receiver.pushes.length < 1 ? status : 202)
      await reattest()
      await failedOnce()
      broker.world.pass(2_000)
      await pushed(2)
      await settled()
      const [first, second] = await Promise.all(receiver.pushes.map(push => eventOf(push)))
      expect(second?.jti).toBe(first?.jti)
      expect(receiver.pushes.map(({ path }) => path)).toEqual(['/events', '/events'])
      expect(await counted('ok')).toBe(1)
    },
    20_000,
  )

  test('does not keep others from being told, and hears everything in order when it is back', async () => {
    await write('webhook/down', { url: receiver.url('/down') })
    await write('webhook/up', { url: receiver.url('/up') })
    receiver.answer = path => (path === '/down' ? 503 : 202)
    await reattest('one')
    await pushed(2)
    await reattest('two')
    const atUp = () => new Set(receiver.pushes.filter(({ path }) => path === '/up').map(({ jwt }) => jwt)).size
    await until('the other to be told of both', async () => atUp() === 2)
    await failedOnce()
    receiver.answer = () => 202
    broker.world.pass(400_000)
    await settled()
    const told = receiver.pushes.filter(({ path }) => path === '/down').slice(-2)
    const events = await Promise.all(
      told.map(async push => Object.values((await eventOf(push, receiver.url('/down')))['events'] as object)[0]),
    )
    expect(events.map(({ sequence }) => sequence)).toEqual([1, 2])
    expect(atUp()).toBe(2)
  })

  test('takes an event and never answers: is told again', async () => {
    await write('webhook/soc', { url: receiver.url() })
    receiver.answer = () => (receiver.pushes.length < 1 ? 0 : 202)
    await reattest()
    await until('the end of the wait', async () => (await counted('unreachable')) === 1)
    broker.world.pass(2_000)
    await pushed(2)
    await settled()
  })

  test('hears nothing from others: what they make up does not verify with the keys of the mount', async () => {
    await write('webhook/soc', { url: receiver.url() })
    await reattest()
    await pushed(1)
    const [push] = receiver.pushes as [Push]
    const [head, claims, signature] = push.jwt.split('.') as [string, string, string]
    const other = Buffer.from(Buffer.from(claims, 'base64url').toString().replace('reattest', 'cleared')).toString('base64url')
    await expect(eventOf({ ...push, jwt: [head, other, signature].join('.') })).rejects.toThrow(/signature/)
  })

  test('for a day is given up, and costs no writes until then', async () => {
    await write('webhook/soc', { url: receiver.url() })
    receiver.answer = () => 503
    await reattest()
    const versions = () =>
      [...broker.vault.state.kv].flatMap(([path, { version }]) => (path.includes('/machine/') ? [version] : []))
    const before = versions()
    await failedOnce()
    broker.world.pass(2_000)
    await pushed(2)
    // that it was tried is not worth a write
    expect(versions()).toEqual(before)
    broker.world.pass(86_400_001)
    await settled()
    expect(await counted('given up')).toBe(1)
  })

  test('makes nothing else wait: what the machine had is revoked', async () => {
    await write('webhook/soc', { url: receiver.url() })
    receiver.answer = () => 503
    const token = await logIn(broker, machine)
    await fail()
    await until('the token to be revoked', async () => !broker.vault.state.tokens.has(token))
    await pushed(1)
  })

  test('nor anything that comes after what it was not told of', async () => {
    await write('webhook/soc', { url: receiver.url() })
    receiver.answer = () => 503
    await reattest()
    await pushed(1)
    const token = await logIn(broker, machine)
    await broker.ask('update', `${tpm}/reattest`, { reason: 'an attack', revoke: true })
    await until('the token to be revoked', async () => !broker.vault.state.tokens.has(token))
  })

  test('and is removed is waited for no longer', async () => {
    await write('webhook/soc', { url: receiver.url() })
    receiver.answer = () => 503
    await reattest()
    await pushed(1)
    await broker.ask('delete', 'auth/tpm-quote/webhook/soc')
    await settled()
  })
})

describe('where events are sent', () => {
  test.each([
    ['loopback', () => receiver.url()],
    ['a name of it', () => `http://localhost:${receiver.port}/events`],
    ['IPv6', () => `http://[::1]:${receiver.port}/events`],
  ])('not to addresses that are not public, unless they are listed: %s', async (_, url) => {
    await write('config', { webhook_networks: [] })
    await write('webhook/soc', { url: url() })
    await reattest()
    await until('a try', async () => (await counted('unreachable')) > 0)
    expect(receiver.pushes).toEqual([])
  })

  test.each([
    'http://example.com/',
    'https://user:secret@example.com/',
    'https://example.com/#here',
    'ftp://127.0.0.1/',
    'not a URL',
    '',
  ])('not to %j', async url => {
    expect(await outcomeOf(write('webhook/soc', { url }))).toBe('bad_request')
  })

  test('networks are read when they are written', async () => {
    for (const webhook_networks of ['10.0.0.0/33', '10.0.0.0/8/8', 'example.com', '10.0.0', '::1/129', '10.0.0.0/', '10.1.2.3/8'])
      expect(await outcomeOf(write('config', { webhook_networks }))).toBe('bad_request')
    for (const webhook_networks of ['10.0.0.0/8', '::1', '127.0.0.1,fc00::/7']) await write('config', { webhook_networks })
  })
})
