import { describe, expect, test } from 'vitest'
import { dataOf } from '../fakes/broker.ts'
import { until } from '../harness/process.ts'
import { rotationWorld } from './rotation_world.ts'

const world = rotationWorld()

describe('upkeep', () => {
  test('counts integrations by state, and warns once a day', async () => {
    const expires_at = new Date(world.broker.world.now() + 3 * 86_400_000).toISOString()
    await world.write({ type: 'static', secrets: { api_key: 'canary' }, expires_at })
    await world.broker.ask('update', 'broker/integration/fine', { type: 'static', secrets: { api_key: 'canary' } })
    await world.broker.ask('update', 'broker/integration/empty', { type: 'static' })
    for (let number = 0; number < 3; number++) await world.upkeep()
    const text = await world.broker.broker.metrics.text()
    for (const line of ['ok"} 1', 'expiring"} 1', 'unreadable"} 1', 'expired"} 0'])
      expect(text).toMatch(`assay_integrations{state="${line}`)
    const warnings = () => world.broker.world.lines.filter(line => line.includes('ends in'))
    expect(warnings()).toHaveLength(1)
    world.broker.world.pass(86_400_000)
    await world.upkeep()
    expect(warnings()).toHaveLength(2)
  })

  test('tells what has ended from what cannot be read', async () => {
    const expires_at = new Date(world.broker.world.now() + 10_000).toISOString()
    await world.write({ type: 'static', secrets: { api_key: 'canary' }, expires_at })
    world.broker.world.pass(10_000)
    await world.upkeep()
    const text = await world.broker.broker.metrics.text()
    for (const line of ['unreadable"} 0', 'expired"} 1']) expect(text).toMatch(`assay_integrations{state="${line}`)
    expect(dataOf(await world.read('broker/integration/it'))).toMatchObject({ root_state: 'expired', secrets: ['api_key'] })
    expect(world.broker.world.lines.join()).toMatch(
      'the root credential of the integration it ended at 2026-06-01T00:00:10.000Z: replace it',
    )
  })

  test('ends what silent agents have, and rotates what is due, while the rotation of something else takes its time', async () => {
    await world.write({ type: 'vault_database', settings: { path: 'database/rotate-root/app' }, rotate_every: '1h' })
    const held = Promise.withResolvers<void>()
    const reached = Promise.withResolvers<void>()
    world.broker.vault.fault = ({ path }) => {
      if (path === 'database/rotate-root/other') return { status: 204 }
      if (path !== 'database/rotate-root/app') return undefined
      reached.resolve()
      return { after: held.promise }
    }
    const other = { type: 'vault_database', settings: { path: 'database/rotate-root/other' }, rotate_every: '1h' }
    await world.broker.ask('update', 'broker/integration/other', other)
    const mount = world.broker.broker.mounts.find('broker/x')
    const used = () => [...world.broker.vault.state.kv.keys()].filter(path => path.includes('/task-used/'))
    world.broker.vault.state.kv.set(`${mount?.id}/task-used/one`, { version: 1, value: { value: { expires_at: 0 } } })
    world.broker.world.pass(3_600_000)
    const round = world.upkeep()
    await reached.promise
    await until('the sweep', async () => used().length === 0)
    await until('the rotation of another', async () =>
      world.broker.vault.asked.some(({ path }) => path === 'database/rotate-root/other'),
    )
    expect(world.broker.world.lines.join()).not.toMatch('could not be rotated')
    held.resolve()
    await round
  })

  test('forgets task tokens that were used and have ended', async () => {
    const mount = world.broker.broker.mounts.find('broker/x')
    const used = () => [...world.broker.vault.state.kv.keys()].filter(path => path.includes('/task-used/'))
    world.broker.vault.state.kv.set(`${mount?.id}/task-used/one`, {
      version: 1,
      value: { value: { expires_at: world.broker.world.now() / 1000 + 10 } },
    })
    await world.upkeep()
    expect(used()).toHaveLength(1)
    world.broker.world.pass(11_000)
    await world.upkeep()
    expect(used()).toEqual([])
  })
})
