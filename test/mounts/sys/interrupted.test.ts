import { describe, expect, test } from 'vitest'
import { openTestBroker, type TestBroker } from '../../fakes/broker.ts'
import type { Fault } from '../../fakes/vault.ts'

// Each call to Vault that a change of mounts makes fails once, or is done and its answer is lost; then the operator asks again.

type Step = (at: TestBroker) => Promise<unknown>
type Ids = readonly string[]
type Story = {
  readonly before: readonly Step[]
  readonly step: Step
  /** `hit`: what failed */
  readonly holds: (at: TestBroker, ids: Ids, hit: string) => Promise<void> | void
}

const enableBroker: Step = at => at.sys('POST', 'sys/mounts/team', { type: 'broker' })
const enableAuth: Step = at => at.sys('POST', 'sys/auth/machines', { type: 'tpm-quote' })
const configureBroker: Step = at => at.ask('update', 'team/config', { actions: 'deploy' })
const configureAuth: Step = at => at.ask('update', 'auth/machines/config', { enrollment: 'any' })

const named = (all: ReadonlyMap<string, unknown>, ids: Ids) => [...all.keys()].filter(name => ids.some(id => name.includes(id)))

function nothingIsLeft({ vault, broker }: TestBroker, ids: Ids, hit: string): void {
  expect([...broker.mounts.ofType('broker'), ...broker.mounts.ofType('tpm-quote')]).toEqual([])
  expect(named(vault.state.kv, ids)).toEqual([])
  // a key that could not be destroyed is named in the log, and signs for nobody
  if (!hit.includes('transit/keys')) expect(named(vault.state.transit, ids)).toEqual([])
}

const stories: Readonly<Record<string, Story>> = {
  'to enable a secrets engine': {
    before: [],
    step: enableBroker,
    holds: async at => {
      await configureBroker(at)
      await expect(at.ask('read', 'team/.well-known/jwks.json')).resolves.toMatchObject({ reply: { bare: { keys: [{}] } } })
    },
  },
  'to enable an auth method': {
    before: [],
    step: enableAuth,
    holds: async at => {
      await configureAuth(at)
      expect(at.vault.state.jwt.get('machines')?.config.jwt_validation_pubkeys).toHaveLength(1)
    },
  },
  'to disable a secrets engine': {
    before: [enableBroker, configureBroker],
    step: at => at.sys('DELETE', 'sys/mounts/team'),
    holds: nothingIsLeft,
  },
  'to disable an auth method': {
    before: [enableAuth, configureAuth],
    step: at => at.sys('DELETE', 'sys/auth/machines'),
    holds: nothingIsLeft,
  },
  'to move a secrets engine': {
    before: [enableBroker, configureBroker],
    step: at => at.sys('POST', 'sys/remount', { from: 'team', to: 'there' }),
    holds: async at => {
      await expect(at.ask('read', 'there/config')).resolves.toMatchObject({ reply: { data: { actions: ['deploy'] } } })
    },
  },
}

const faults: readonly (readonly [string, Fault])[] = [
  ['done, and its answer is lost', 'lost'],
  ['refused for now', { status: 500, body: { errors: ['internal error'] } }],
]

describe.each(Object.entries(stories))('%s, while one call to Vault is', (_, story) => {
  test.each(faults)('%s', async (_name, fault) => {
    let call = 0
    while (await interrupted(story, call, fault)) call += 1
    expect(call).toBeGreaterThan(2)
  })
})

/** Answers whether there is a call of that number. */
async function interrupted({ before, step, holds }: Story, call: number, fault: Fault): Promise<boolean> {
  await using here = await openTestBroker()
  for (const one of before) await one(here)
  const { mounts } = here.broker
  const ids = [...mounts.ofType('broker'), ...mounts.ofType('tpm-quote')].map(({ id }) => id)
  let calls = 0
  let hit = ''
  here.vault.fault = ({ method, path }) => {
    if (calls++ !== call) return undefined
    hit = `${method} ${path}`
    return fault
  }
  await step(here).catch(() => undefined)
  here.vault.fault = () => undefined
  await mounts.refresh()
  await step(here).catch(() => undefined) // what is there already is refused
  await holds(here, ids, hit)
  return hit !== ''
}
