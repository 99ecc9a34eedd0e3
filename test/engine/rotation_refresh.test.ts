import { randomUUID } from 'node:crypto'
import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { openTestBroker } from '../fakes/broker.ts'
import type { Fault } from '../fakes/vault.ts'
import { until } from '../harness/process.ts'
import { outcome } from './integration_world.ts'
import { rotationWorld } from './rotation_world.ts'

const world = rotationWorld()

describe('a refresh token', () => {
  const record = () => ({
    type: 'oauth2',
    settings: {
      token_url: `${world.provider.url}/token`,
      grant: 'refresh_token',
      client_id: 'broker',
      client_auth: 'client_secret_post',
    },
    secrets: { client_secret: 'canary-client', refresh_token: 'canary-0' },
  })
  /** Rotates tokens, and takes a second use of one for theft. */
  let current: string
  beforeEach(async () => {
    current = 'canary-0'
    world.answer = ({ body }) => {
      if (new URLSearchParams(body).get('refresh_token') !== current)
        return { status: 400, body: { error: 'invalid_grant', error_description: body } }
      current = `canary-${randomUUID()}`
      return { status: 200, body: { access_token: 'upstream', token_type: 'Bearer', expires_in: 300, refresh_token: current } }
    }
    await world.write(record())
  })

  test('is replaced on demand, and the next one serves', async () => {
    expect(await world.rotate()).toMatchObject({ state: 'done' })
    expect(await world.root()).toEqual({ client_secret: 'canary-client', refresh_token: current })
    await world.rotate()
    expect(await world.root()).toMatchObject({ refresh_token: current })
    expect(await world.results()).toEqual(['intent', 'rotated', 'intent', 'rotated'])
  })

  test('is replaced also by an answer of which nothing else can be used: the one before is worth nothing now', async () => {
    const whole = world.answer
    world.answer = async arrived => ({ ...(await whole(arrived)), status: 201 })
    expect(await world.rotate()).toMatchObject({ state: 'done' })
    world.answer = whole
    expect(await world.root()).toMatchObject({ refresh_token: current })
    expect(await world.rotate()).toMatchObject({ state: 'done' })
  })

  test('is kept although nothing else can be written when it comes: the one before is worth nothing now', async () => {
    world.broker.vault.fault = ({ method, path }) =>
      method !== 'GET' && path.endsWith('/rotation/it') && world.provider.arrived.length > 0
        ? { status: 500, body: {} }
        : undefined
    expect(await outcome(world.rotate())).not.toBe('done')
    expect(await world.root()).toMatchObject({ refresh_token: current })
    world.broker.vault.fault = () => undefined
    expect(await outcome(world.rotate())).toBe('done')
  })

  test('is kept by a Vault that does not answer twice, the second time because its answer is lost', async () => {
    const faults: Fault[] = [{ status: 500, body: {} }, 'lost']
    world.broker.vault.fault = ({ method, path }) => (method !== 'GET' && path.endsWith('/root/it') ? faults.shift() : undefined)
    expect(await world.rotate()).toMatchObject({ state: 'done' })
    expect(faults).toEqual([])
    expect(await world.root()).toMatchObject({ refresh_token: current })
  })

  test('is kept beside what an operator wrote while it was on its way', async () => {
    const whole = world.answer
    world.answer = async arrived => {
      await world.write({ secrets: { client_secret: 'canary-next' } })
      return whole(arrived)
    }
    expect(await world.rotate()).toMatchObject({ state: 'done' })
    expect(await world.root()).toEqual({ client_secret: 'canary-next', refresh_token: current })
  })

  test('does not take the place of one that an operator wrote while it was on its way', async () => {
    const whole = world.answer
    world.answer = async arrived => {
      await world.write({ secrets: { refresh_token: 'canary-by-hand' } })
      return whole(arrived)
    }
    expect(await outcome(world.rotate())).toMatch(/somebody else changed/)
    expect(await world.root()).toMatchObject({ refresh_token: 'canary-by-hand' })
  })

  test('is replaced once by eight who order it at once, one after the other', async () => {
    expect(await Promise.all(Array.from({ length: 8 }, () => outcome(world.rotate())))).toEqual(
      Array.from({ length: 8 }, () => 'done'),
    )
    expect(await world.root()).toMatchObject({ refresh_token: current })
  })

  test('is used once, however long its server takes: who waits at another replica waits on', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    onTestFinished(() => void vi.useRealTimers())
    const [reached, go, whole] = [Promise.withResolvers<void>(), Promise.withResolvers<void>(), world.answer]
    world.answer = async arrived => {
      reached.resolve()
      await go.promise
      return whole(arrived)
    }
    const { vault, world: clocks } = world.broker
    const here = outcome(world.rotate())
    await reached.promise
    await using other = await openTestBroker({ beside: world.broker })
    const at = (method: string) => vault.asked.filter(one => one.method === method && one.path.endsWith('/lock/it')).length
    const there = outcome(other.ask('update', 'broker/integration/it/rotate'))
    for (let renewal = 0; renewal < 7; renewal++) {
      const [looked, written] = [at('GET'), at('POST')]
      clocks.pass(5_000)
      vi.advanceTimersByTime(5_000)
      await until('it is written again, and looked at', async () => at('POST') > written && at('GET') > looked + 2)
    }
    expect(world.provider.arrived).toHaveLength(1)
    go.resolve()
    expect([await here, await there]).toEqual(['done', 'done'])
    expect(await world.root()).toMatchObject({ refresh_token: current })
  })

  test('that the server does not take stays, and the error tells why without it', async () => {
    current = 'another'
    const said = await outcome(world.rotate())
    expect(said).toBe('it: invalid_grant: the refresh token was not replaced')
    expect(await world.root()).toMatchObject({ refresh_token: 'canary-0' })
  })

  test('is replaced when it is due, by one of two replicas', async () => {
    await world.write({ rotate_every: '1h' })
    await world.upkeep()
    expect(world.provider.arrived).toEqual([])
    world.broker.world.pass(3_600_000)
    await Promise.all([world.upkeep(), world.upkeep()])
    expect(world.provider.arrived).toHaveLength(1)
    expect(await world.root()).toMatchObject({ refresh_token: current })
    await world.upkeep()
    expect(world.provider.arrived).toHaveLength(1)
  })

  test('whose server is down is due again at the next look', async () => {
    await world.write({ rotate_every: '1h' })
    world.broker.world.pass(3_600_000)
    world.provider.trouble = () => 'reset'
    await world.upkeep()
    expect(world.broker.world.lines.join('\n')).toMatch('could not be rotated')
    world.provider.trouble = () => undefined
    await world.upkeep()
    expect(await world.root()).toMatchObject({ refresh_token: current })
    expect([...world.broker.world.lines, JSON.stringify(await world.broker.records())].join('\n')).not.toMatch('canary')
  })
})
