import { setImmediate as turn } from 'node:timers/promises'
import type { Dispatcher } from 'undici'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { BrokerError } from '../../engine/errors.ts'
import { Secret } from '../../engine/secret.ts'
import { openVault } from '../../engine/vault/client.ts'
import { openWays } from '../../engine/ways.ts'
import { openUpstream, type Upstream } from '../../mounts/hosts/upstream.ts'
import { type Balancer, startBalancer } from '../fakes/balancer.ts'
import { type FakeVault, startFakeVault } from '../fakes/vault.ts'

// Several servers behind one address. Connections that are kept lead to the one that they were made to, whatever is to be said of it by now.

const DEADLINE_MS = 600_000

/** What the resolver gives, always in this order. */
const SEVERAL = ['127.0.0.1', '127.0.0.2'].map(address => ({ address, family: 4 }))
vi.mock('node:dns', async original => ({
  ...(await original<typeof import('node:dns')>()),
  lookup: (_: string, __: object, found: (error: null, all: object) => void) => found(null, SEVERAL),
}))

let passed = 0
const passes = (ms: number) => {
  passed += ms
}
let one: FakeVault
let other: FakeVault
let balancer: Balancer
beforeEach(async () => {
  const now = performance.now.bind(performance)
  vi.spyOn(performance, 'now').mockImplementation(() => now() + passed)
  ;[one, other] = await Promise.all([startFakeVault(), startFakeVault()])
  balancer = await startBalancer(one.address)
})
afterEach(async () => {
  vi.restoreAllMocks()
  vi.useRealTimers()
  await balancer[Symbol.asyncDispose]()
  await Promise.all([one, other].map(fake => fake[Symbol.asyncDispose]()))
})

/** Connections that end when a test says so, and say what was done to them. */
function counted() {
  const made: { readonly done: string[]; readonly end: () => void }[] = []
  const ways = openWays(() => {
    const { promise, resolve } = Promise.withResolvers<void>()
    const done: string[] = []
    made.push({ done, end: resolve })
    const close = () => {
      done.push('closed')
      return promise
    }
    return { close, destroy: () => void done.push('destroyed') } as unknown as Dispatcher
  })
  return { ways, made, of: () => made.map(({ done }) => done.join(' ')) }
}

describe('the connections that are left', () => {
  test('are closed, and destroyed with the others while something is under way on them', () => {
    const { ways, of } = counted()
    ways.doubt()
    passes(1000)
    ways.current()
    expect(of()).toEqual(['closed', ''])
    ways.destroy()
    expect(of()).toEqual(['closed destroyed', 'destroyed'])
  })

  test('are forgotten once they ended, and waited for until then', async () => {
    const { ways, made, of } = counted()
    for (let time = 0; time < 2; time++) {
      ways.doubt()
      passes(1000)
      ways.current()
    }
    made[0]?.end()
    await turn()
    let closed = false
    const close = ways.close().then(() => {
      closed = true
    })
    made[2]?.end()
    await turn()
    expect([closed, of()]).toEqual([false, ['closed', 'closed', 'closed']])
    ways.destroy()
    expect(of()).toEqual(['closed', 'closed destroyed', 'closed destroyed'])
    made[1]?.end()
    await close
  })

  test('put no doubt on those that are in use', () => {
    const { ways } = counted()
    const first = ways.current()
    ways.doubt(first)
    passes(1000)
    const second = ways.current()
    expect(second).not.toBe(first)
    ways.doubt(first)
    passes(1000)
    expect(ways.current()).toBe(second)
  })
})

type Ask = () => Promise<unknown>

/** Ends when the connection may be used again, which is a moment after the answer. */
const settled =
  (ask: Ask): Ask =>
  async () => {
    const answer = await ask()
    await turn()
    return answer
  }

const ways = [
  [
    'what is asked in the name of the service, or of a caller',
    (address = balancer.address) => {
      const vault = openVault({ address, deadlineMs: DEADLINE_MS })
      const ask: Ask = () =>
        vault.read('sys/mounts', { as: new Secret(one.rootToken) }).then(
          () => 'answered',
          (error: unknown) => (error instanceof BrokerError ? 'unavailable' : 'answered'),
        )
      return { ask: settled(ask), close: vault.close }
    },
  ],
  [
    'what is passed on',
    (address = balancer.address) => {
      const upstream = openUpstream({ url: address, answerWithinMs: DEADLINE_MS })
      return { ask: settled(() => passOn(upstream)), close: async () => upstream.close() }
    },
  ],
] as const

function passOn(upstream: Upstream): Promise<string> {
  return new Promise(resolve => {
    let status = 0
    upstream.ask(
      { method: 'GET', target: '/v1/sys/mounts', headers: [], from: '127.0.0.1', length: 0, body: undefined },
      {
        head: reply => {
          status = reply.status
        },
        data: () => true,
        end: () => resolve([307, 500, 503].includes(status) ? 'unavailable' : 'answered'),
        failed: () => resolve('unavailable'),
      },
    )
  })
}

describe.each(ways)('%s', (_, open) => {
  test.each([
    ['is sealed', 503],
    ['has no leader', 500],
    ['is a standby that does not reach its leader', 307],
  ])('leaves a server that %s (%d) when the balancer leads to another one', async (_, status) => {
    const { ask, close } = open()
    expect(await ask()).toBe('answered')
    balancer.to = other.address
    expect(await ask(), 'what is kept is used').toBe('answered')
    expect(other.asked).toEqual([])
    passes(1000)
    one.fault = () => ({ status, body: { errors: ['not here'] }, headers: { Location: `${other.address}/v1/sys/mounts` } })
    expect(await ask()).toBe('unavailable')
    expect(await ask()).toBe('answered')
    expect(other.asked).toHaveLength(1)
    await close()
  })

  test('leaves a server that is sealed for the next address of its name', async () => {
    const { port } = new URL(balancer.address)
    await using _next = await startBalancer(other.address, '127.0.0.2', Number(port))
    const { ask, close } = open(`http://vaults.test:${port}`)
    expect(await ask()).toBe('answered')
    expect(other.asked).toEqual([])
    one.fault = () => ({ status: 503, body: { errors: ['Vault is sealed'] } })
    expect(await ask()).toBe('unavailable')
    expect(await ask()).toBe('answered')
    expect(other.asked).toHaveLength(1)
    await close()
  })

  test('is not asked over a new connection each time by a server that goes on saying that it is sealed', async () => {
    const { ask, close } = open()
    one.fault = () => ({ status: 503, body: { errors: ['Vault is sealed'] } })
    passes(1000)
    for (let time = 0; time < 10; time++) expect(await ask()).toBe('unavailable')
    expect(one.connections()).toBeLessThanOrEqual(2)
    await close()
  })

  test('does not try each kept connection when one of them says nothing any more', async () => {
    const { ask, close } = open()
    await Promise.all(Array.from({ length: 8 }, ask))
    balancer.swallow()
    balancer.to = other.address
    passes(1000)
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const first = ask()
    vi.advanceTimersByTime(DEADLINE_MS)
    expect(await first).toBe('unavailable')
    vi.useRealTimers()
    expect(new Set(await Promise.all(Array.from({ length: 8 }, ask)))).toEqual(new Set(['answered']))
    await close()
  })

  test('lets what is under way come to its end', async () => {
    const { ask, close } = open()
    const held = Promise.withResolvers<void>()
    const arrived = Promise.withResolvers<void>()
    one.fault = () => {
      arrived.resolve()
      return { after: held.promise }
    }
    const slow = ask()
    await arrived.promise
    passes(1000)
    one.fault = () => ({ status: 503, body: { errors: ['Vault is sealed'] } })
    expect(await ask()).toBe('unavailable')
    held.resolve()
    expect(await slow).toBe('answered')
    await close()
  })
})
