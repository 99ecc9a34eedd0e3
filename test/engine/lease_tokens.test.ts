import { expect, test } from 'vitest'
import type { Ledger } from '../../engine/leases/ledger.ts'
import { openTokenWatch } from '../../engine/leases/tokens.ts'
import { testWorld } from '../fakes/world.ts'

test('who asks waits for one look that began after the question, however many ask after that', async () => {
  const looks: (() => void)[] = []
  const ledger = {
    calendar: { accessors: () => new Map([['tag', 'id']]) },
    read: async () => ({ value: { accessor: 'a' }, version: 1 }),
  } as unknown as Ledger
  const alive = { alive: true, ttlSeconds: 1 } as const
  const tokens = () => new Promise<typeof alive>(resolve => looks.push(() => resolve(alive)))
  const watch = openTokenWatch(ledger, tokens, testWorld(), async () => undefined)
  const answered: string[] = []
  const ask = (name: string) => void watch().then(() => answered.push(name))
  const begun = (count: number) => expect.poll(() => looks.length).toBe(count)

  ask('first')
  await begun(1)
  for (const [look, next, done] of [
    [0, 'second', ['first']],
    [1, 'third', ['first', 'second']],
    [2, 'fourth', ['first', 'second', 'third']],
  ] as const) {
    ask(next)
    expect(answered).toEqual(done.slice(0, -1))
    looks[look]?.()
    await begun(look + 2)
    expect(answered).toEqual(done)
  }
  looks[3]?.()
})
