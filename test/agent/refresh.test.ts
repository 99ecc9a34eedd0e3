import { expect, test } from 'vitest'
import { keepFresh, type Lived } from '../../agent/refresh.ts'

/** A clock that jumps to the end of each pause, and stops the loop after `rounds` of them. */
function clockFor(rounds: number) {
  const ended = new AbortController()
  const pauses: number[] = []
  let now = 0
  const clock = {
    now: () => now,
    sleep: async (ms: number) => {
      pauses.push(ms)
      now += ms
      if (pauses.length > rounds) ended.abort()
    },
  }
  return { clock, pauses, signal: ended.signal }
}

async function refreshed(rounds: number, issue: (round: number) => Lived | Error) {
  const { clock, pauses, signal } = clockFor(rounds)
  const given: (string | undefined)[] = []
  const failures: boolean[] = []
  let round = 0
  const ask = async () => {
    const made = issue(round++)
    if (made instanceof Error) throw made
    return made
  }
  const replace = async (content: string | undefined) => void given.push(content)
  const failed = (_: unknown, expired: boolean) => void failures.push(expired)
  await keepFresh({ content: 'first', lifeMs: 9000 }, 0, { issue: ask, replace, failed, signal, clock })
  return { pauses, given, failures }
}

test('a credential is replaced at two thirds of its life, each by its own life', async () => {
  const lives = [9000, 3000, 300_000]
  const { pauses, given, failures } = await refreshed(3, round => ({ content: `c${round}`, lifeMs: lives[round] ?? 0 }))
  expect(given).toEqual(['c0', 'c1', 'c2'])
  expect(pauses).toEqual([6000, 6000, 2000, 200_000])
  expect(failures).toEqual([])
})

test('a failure is tried again before the old one ends, then the old one is taken away, then the next one is given', async () => {
  const { pauses, given, failures } = await refreshed(5, round =>
    round < 4 ? new Error('no') : { content: 'late', lifeMs: 9000 },
  )
  expect(pauses.slice(0, 5)).toEqual([6000, 1000, 1000, 1000, 30_000])
  expect(failures).toEqual([false, false, false, true])
  expect(given).toEqual([undefined, 'late'])
})

test('after the signal nothing is asked for', async () => {
  const ended = new AbortController()
  ended.abort()
  const asked: string[] = []
  const issue = async () => {
    asked.push('issue')
    return { content: 'y', lifeMs: 1 }
  }
  const replace = async () => void asked.push('replace')
  await keepFresh({ content: 'x', lifeMs: 1 }, 0, { issue, replace, failed: () => {}, signal: ended.signal })
  expect(asked).toEqual([])
})

test('what is given out with hardly any life is asked for once a second, and no more often', async () => {
  const { pauses } = await refreshed(2, () => ({ content: 'short', lifeMs: 1 }))
  expect(pauses).toEqual([6000, 1000, 1000])
})

test('what lives for years is not asked for again at once: no timer counts so far', async () => {
  const { pauses } = await refreshed(2, () => ({ content: 'long', lifeMs: 1e12 }))
  expect(pauses).toEqual([6000, 2 ** 31 - 1, 2 ** 31 - 1])
})
