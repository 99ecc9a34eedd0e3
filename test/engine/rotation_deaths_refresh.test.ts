import { expect, test } from 'vitest'
import { openDeaths, type Provider, rootOf } from './rotation_deaths_world.ts'

// A refresh token that its server replaces whenever it is used, and a process that dies at any step of its rotation: what the server gave is lost, or not.

type Server = Provider & { readonly good: () => string }

function server(): Server {
  let good = 'canary-0'
  let given = 0
  return {
    good: () => good,
    answer: ({ body }) => {
      if (new URLSearchParams(body).get('refresh_token') !== good) return { status: 400, body: { error: 'invalid_grant' } }
      good = `canary-${++given}`
      return { status: 200, body: { access_token: 'upstream', token_type: 'Bearer', expires_in: 300, refresh_token: good } }
    },
    write: (ask, url) =>
      ask('update', 'broker/integration/it', {
        type: 'oauth2',
        settings: { token_url: `${url}/token`, grant: 'refresh_token', client_id: 'broker' },
        secrets: { client_secret: 'canary-of-the-client', refresh_token: good },
      }),
  }
}

async function steps(): Promise<number> {
  await using at = await openDeaths(server)
  return await at.rotate(await at.start())
}

test('whoever clears up says so where the one in use may be worth nothing, and of no other', async () => {
  const seen = new Set<string>()
  const all = await steps()
  for (let step = 1; step <= all; step++) {
    await using at = await openDeaths(server)
    await at.rotate(await at.start(), { step, when: 'after' })
    const process = await at.start()
    at.world.pass(61_000)
    await process.broker.integrations.upkeep.round()
    const used = (await rootOf(process))['refresh_token'] === at.provider.good() ? 'good' : 'lost'
    const records = (await process.records()).filter(one => one['operation'] === 'rotate').map(one => String(one['result']))
    const warned = at.world.lines.some(line => line.includes('a rotation died before it stored what the provider gave'))
    seen.add(`${used}: ${records.join() || 'nothing'}, ${warned ? 'warned' : 'not warned'}`)
  }
  expect([...seen].toSorted()).toEqual([
    'good: nothing, not warned',
    // as far as anybody here knows
    'good: unknown, warned',
    'lost: unknown, warned',
  ])
})

test('whose server said no has nothing to be cleared up', async () => {
  await using at = await openDeaths(() => ({ ...server(), answer: () => ({ status: 400, body: { error: 'invalid_grant' } }) }))
  const process = await at.start()
  await expect(at.rotate(process)).rejects.toMatchObject({ code: 'unavailable' })
  at.world.pass(61_000)
  await process.broker.integrations.upkeep.round()
  const records = (await process.records()).filter(one => one['operation'] === 'rotate')
  expect(records.map(one => one['result'] ?? one['type'])).toEqual(['intent', 'not made'])
})
