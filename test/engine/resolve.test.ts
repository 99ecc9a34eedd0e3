import { expect, test } from 'vitest'
import { resolve as ofSystem, openResolve } from '../../engine/resolve.ts'

/** A resolver that answers when it is told to. */
function heldBack() {
  const asked: { host: string; answer: (...answer: [Error | null, string, number]) => void }[] = []
  const resolve = openResolve((host, _, answer) => void asked.push({ host, answer }))
  const want = (host: string, all = false) =>
    new Promise(found => resolve(host, { all }, (error, address) => found(error?.message ?? address)))
  return { asked, want }
}

test('a name is asked for once at a time, however many want it: one that nobody answers for holds one place, and others come through', async () => {
  const { asked, want } = heldBack()
  const dead = Array.from({ length: 100 }, () => want('dead.test'))
  const [good, every] = [want('good.test'), want('good.test', true)]
  expect(asked.map(({ host }) => host)).toEqual(['dead.test', 'good.test', 'good.test'])
  asked[1]?.answer(null, '192.0.2.1', 4)
  asked[2]?.answer(null, '192.0.2.2', 4)
  expect([await good, await every]).toEqual(['192.0.2.1', '192.0.2.2'])
  asked[0]?.answer(new Error('EAI_AGAIN'), '', 0)
  expect(new Set(await Promise.all(dead))).toEqual(new Set(['EAI_AGAIN']))
  void want('dead.test')
  expect(asked).toHaveLength(4)
})

test('the system’s own gives one address, or all', async () => {
  const one = await new Promise(found => ofSystem('127.0.0.1', {}, (_, address, family) => found([address, family])))
  expect(one).toEqual(['127.0.0.1', 4])
  const all = await new Promise(found => ofSystem('127.0.0.1', { all: true }, (_, addresses) => found(addresses)))
  expect(all).toEqual([{ address: '127.0.0.1', family: 4 }])
})
