import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { BrokerError } from '../../engine/errors.ts'
import { gather, gatherBy } from '../../engine/gather.ts'

/** A call that ends when the test says so. */
function gated() {
  const calls: { items: readonly string[]; end: (answers?: readonly string[]) => void; fail: (error: Error) => void }[] = []
  const call = (items: readonly string[]) =>
    new Promise<readonly string[]>((resolve, reject) => {
      calls.push({ items, end: (answers = items.map(item => `${item}!`)) => resolve(answers), fail: reject })
    })
  return { calls, call }
}
const turn = () => new Promise(resolve => setImmediate(resolve))

describe('gather', () => {
  test('what is asked in one turn goes together, and each gets its own answer', async () => {
    const { calls, call } = gated()
    const ask = gather(call, 10)
    const answers = Promise.all(['a', 'b', 'c'].map(ask))
    await turn()
    expect(calls.map(one => one.items)).toEqual([['a', 'b', 'c']])
    calls[0]?.end()
    expect(await answers).toEqual(['a!', 'b!', 'c!'])
  })

  test('an answer is never older than its question: who asks during a call waits for the next', async () => {
    const { calls, call } = gated()
    const ask = gather(call, 10)
    const first = ask('a')
    await turn()
    const [second, third] = [ask('a'), ask('a')]
    await turn()
    expect(calls).toHaveLength(1)
    calls[0]?.end(['old'])
    expect(await first).toBe('old')
    await turn()
    expect(calls[1]?.items).toEqual(['a', 'a'])
    calls[1]?.end(['new', 'new'])
    expect(await Promise.all([second, third])).toEqual(['new', 'new'])
  })

  test('no call is longer than the limit', async () => {
    const { calls, call } = gated()
    const ask = gather(call, 2)
    const answers = Promise.all(['a', 'b', 'c', 'd', 'e'].map(ask))
    for (const size of [2, 2, 1]) {
      await turn()
      expect(calls.at(-1)?.items).toHaveLength(size)
      calls.at(-1)?.end()
    }
    expect(await answers).toEqual(['a!', 'b!', 'c!', 'd!', 'e!'])
  })

  test('an error is for those who asked together, and the next call is made all the same', async () => {
    const { calls, call } = gated()
    const ask = gather(call, 10)
    const failed = Promise.allSettled([ask('a'), ask('b')])
    await turn()
    const after = ask('c')
    calls[0]?.fail(new Error('broken'))
    expect((await failed).map(one => one.status)).toEqual(['rejected', 'rejected'])
    await turn()
    calls[1]?.end()
    expect(await after).toBe('c!')
  })

  test('a service that does not answer is heard of by all who wait for it, not one after the other', async () => {
    const { calls, call } = gated()
    const ask = gather(call, 2)
    const asked = Promise.allSettled(['a', 'b', 'c', 'd', 'e'].map(ask))
    await turn()
    calls[0]?.fail(new BrokerError('unavailable', 'no answer'))
    expect((await asked).map(one => one.status)).toEqual(Array(5).fill('rejected'))
    expect(calls).toHaveLength(1)
    const after = ask('f')
    await turn()
    calls[1]?.end()
    expect(await after).toBe('f!')
  })

  test('a call that throws at once, or answers for another number, is an error to all', async () => {
    const throwing = gather<string, string>(() => {
      throw new Error('at once')
    }, 10)
    await expect(throwing('a')).rejects.toThrow('at once')
    const short = gather<string, string>(async () => ['one'], 10)
    const both = await Promise.allSettled([short('a'), short('b')])
    expect(both.map(one => one.status)).toEqual(['rejected', 'rejected'])
  })

  test('in any order of questions and ends, nobody gets the answer of somebody else, or one from before', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(3), { maxLength: 40 }), async steps => {
        let now = 0
        const ends: (() => void)[] = []
        const ask = gather<number, { item: number; begun: number }>(items => {
          const begun = now
          return new Promise(resolve => ends.push(() => resolve(items.map(item => ({ item, begun })))))
        }, 3)
        const asked: Promise<void>[] = []
        for (const step of steps) {
          now += 1
          const item = now
          if (step > 0) asked.push(ask(item).then(answer => expect(answer.item === item && answer.begun >= item).toBe(true)))
          else ends.shift()?.()
          await turn()
        }
        const all = Promise.all(asked)
        for (let left = asked.length; left >= 0; left--) {
          ends.shift()?.()
          await turn()
        }
        await all
      }),
      { numRuns: 50 },
    )
  })
})

describe('gatherBy', () => {
  test('keys do not wait for each other', async () => {
    const { calls, call } = gated()
    const ask = gatherBy<string, string>(item => item[0] ?? '', call, 10)
    const a = ask('a1')
    const b = Promise.all([ask('b1'), ask('b2')])
    await turn()
    expect(calls.map(one => one.items)).toEqual([['a1'], ['b1', 'b2']])
    calls[1]?.end()
    expect(await b).toEqual(['b1!', 'b2!'])
    calls[0]?.end()
    expect(await a).toBe('a1!')
  })

  test('a key that nobody waits for is forgotten, also after an error', async () => {
    let keys = 0
    const ask = gatherBy<string, string>(
      item => item,
      async items => {
        keys += 1
        if (items[0] === 'bad') throw new Error('broken')
        return items
      },
      10,
    )
    await expect(ask('bad')).rejects.toThrow('broken')
    for (let index = 0; index < 1000; index++) await ask(`key ${index}`)
    expect(await ask('key 1')).toBe('key 1')
    expect(keys).toBe(1002)
  })
})
