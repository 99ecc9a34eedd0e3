import { expect, test } from 'vitest'
import { openReload } from '../../proxy/reload.ts'

// A signal and a change of the file that come together.

function opened(readings: readonly (() => Promise<string>)[]) {
  const [taken, said]: [string[], string[]] = [[], []]
  let times = 0
  const reload = openReload({
    read: () => readings[times++]?.() ?? Promise.reject(new Error('read once more than it was told to')),
    takeOver: async services => void taken.push(services),
    log: { info: () => void said.push('taken over'), error: () => void said.push('not taken over') },
  })
  return { reload, taken, said, times: () => times }
}

test('what was read later is served, however long the first reading takes', async () => {
  const slow = Promise.withResolvers<string>()
  const { reload, taken, times } = opened([() => slow.promise, async () => 'new'])
  const both = [reload(), reload()]
  // the second one would be over by now
  await new Promise(setImmediate)
  expect(times()).toBe(1)
  slow.resolve('old')
  await Promise.all(both)
  expect(taken).toEqual(['old', 'new'])
})

test('a file with a mistake holds nobody up', async () => {
  const { reload, taken, said } = opened([() => Promise.reject(new Error('a mistake')), async () => 'new'])
  await Promise.all([reload(), reload()])
  expect({ taken, said }).toEqual({ taken: ['new'], said: ['not taken over', 'taken over'] })
})
