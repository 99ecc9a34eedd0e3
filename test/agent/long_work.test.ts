import { describe, expect, test } from 'vitest'
import { keepAlive, sayOnce } from '../../agent/long_work.ts'

test('what the broker warns of is said once', () => {
  const said: string[] = []
  const tell = sayOnce(message => void said.push(message))
  tell(['soon', 'sooner'])
  tell(['soon'])
  expect(said).toEqual(['soon', 'sooner'])
})

describe('signs of life', () => {
  /** Runs until the given number of pauses, each of which ends at once. */
  async function run(pauses: number, within: (pause: number) => number | undefined, beat: () => Promise<void>) {
    const waits: number[] = []
    const failures: unknown[] = []
    const ended = new AbortController()
    const pause = async (ms: number) => {
      waits.push(ms)
      if (waits.length > pauses) ended.abort()
    }
    const withinMs = () => within(waits.length)
    await keepAlive({ beat, withinMs, failed: error => void failures.push(error), signal: ended.signal, pause })
    return { waits: waits.slice(0, pauses), failures }
  }

  test('three go into the time that one is wanted in', async () => {
    let beats = 0
    const { waits } = await run(
      4,
      () => 120_000,
      async () => void beats++,
    )
    expect(waits).toEqual([40_000, 40_000, 40_000, 40_000])
    expect(beats).toBe(4)
  })

  test('one that is wanted within years is not given at once and again', async () => {
    const { waits } = await run(
      1,
      () => 1e12,
      async () => undefined,
    )
    expect(waits).toEqual([2 ** 31 - 1])
  })

  test('none is given while none is wanted; it is looked again', async () => {
    let beats = 0
    const { waits } = await run(
      3,
      pause => (pause < 2 ? undefined : 30_000),
      async () => void beats++,
    )
    expect(waits).toEqual([60_000, 60_000, 10_000])
    expect(beats).toBe(1)
  })

  test('one that is not taken is told, and the next is tried', async () => {
    const lost = new Error('down')
    const { failures } = await run(
      2,
      () => 30_000,
      () => Promise.reject(lost),
    )
    expect(failures).toEqual([lost, lost])
  })

  test('nobody hears of one that the end of the work broke off', async () => {
    const ended = new AbortController()
    const failures: unknown[] = []
    const beat = async () => {
      ended.abort()
      throw new Error('broken off')
    }
    const failed = (error: unknown) => void failures.push(error)
    await keepAlive({ beat, withinMs: () => 30_000, failed, signal: ended.signal, pause: async () => undefined })
    expect(failures).toEqual([])
  })

  test('they end with the work', async () => {
    const ended = new AbortController()
    const running = keepAlive({
      beat: async () => undefined,
      withinMs: () => 3_600_000,
      failed: () => undefined,
      signal: ended.signal,
    })
    ended.abort()
    await expect(running).resolves.toBeUndefined()
  })
})
