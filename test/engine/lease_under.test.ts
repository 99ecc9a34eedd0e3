import { randomUUID } from 'node:crypto'
import { expect, test } from 'vitest'
import { asked, type Death, type Outside, openProcess, outside, passes, rest, turning } from '../fakes/leases.ts'
import { testWorld } from '../fakes/world.ts'

// Leases of what hangs under something that was made before, as what an engine of Vault makes does under a token: that is what is revoked.

/** What an engine made lives as long as the token under which it was made; of the engine nobody can ask what it made. */
const engine = (out: Outside) => {
  out.findable = false
  const made: string[] = []
  return { make: (token: string) => void made.push(token), living: () => made.filter(token => out.alive.get(token)).length }
}

async function issue(out: Outside, { make }: ReturnType<typeof engine>, death?: Death) {
  const process = await openProcess(out, death ? { death } : {}).catch(() => undefined)
  if (!process) return { got: undefined, steps: 0, world: testWorld() }
  const got = await (async () => {
    const txn = randomUUID()
    const under = await process.provide(txn)
    const begun = await process.leases.begin(asked({ txn, request: 'r', under }))
    make(under['credential'] ?? '')
    return begun.confirm(under, process.world.now() / 1000 + 3600)
  })().catch(() => undefined)
  return { got, steps: process.steps(), world: process.world }
}

test.each(['before', 'after'] as const)(
  'a process that dies %s any step leaves nothing that the same request would double',
  async when => {
    const { steps } = await issue(outside(), engine(outside()))
    expect(steps).toBeGreaterThan(5)
    for (let step = 1; step <= steps; step++) {
      const out = outside()
      const books = engine(out)
      const { world } = await issue(out, books, { step, when })
      const next = await openProcess(out, { world })
      // within the minute it is told to wait, or what it got before is ended first
      const again = await turning(next, next.leases.begin(asked({ request: 'r', under: { credential: 'second' } }))).catch(
        () => undefined,
      )
      if (again) expect({ step, living: books.living() }).toEqual({ step, living: 0 })
      await again?.abandon(true)
      await passes(next, 1800)
      expect({ step, living: books.living(), rest: rest(out) }).toEqual({ step, living: 0, rest: [] })
    }
  },
)

test('it is revoked when nothing can be made under it any more, and not before', async () => {
  const out = outside()
  const process = await openProcess(out)
  const begun = await process.leases.begin(asked({ under: { credential: 'token' } }))
  await process.leases.revoke(begun.leaseId)
  await passes(process, 50)
  expect(out.revocations).toBe(0)
  await passes(process, 30)
  expect([out.revocations, out.alive.get('token')]).toEqual([1, false])
})
