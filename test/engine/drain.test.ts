import { afterEach, expect, test, vi } from 'vitest'
import { openDrain } from '../../engine/drain.ts'

afterEach(() => void vi.useRealTimers())

test('who was told to stop says so, and goes on for as long as was configured', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout'] })
  const drain = openDrain(7)
  const said: string[] = []
  expect(drain.begun()).toBe(false)
  const run = drain.run().then(() => said.push('over'))
  expect(drain.begun()).toBe(true)
  await vi.advanceTimersByTimeAsync(6999)
  expect(said).toEqual([])
  await vi.advanceTimersByTimeAsync(1)
  expect(said).toEqual(['over'])
  await run
})

test('no time is none', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout'] })
  await openDrain(0).run()
})
