import { expect, test } from 'vitest'
import { ignoreConflict, retryConflicts, wasFirst } from '../../engine/conflicts.ts'
import { BrokerError } from '../../engine/errors.ts'

const conflict = new BrokerError('conflict', 'somebody else was faster')
const away = new BrokerError('unavailable', 'the store does not answer')

/** Fails with each of these in turn, and then succeeds. */
function failing(...errors: readonly Error[]) {
  const left = [...errors]
  const work = async () => {
    work.calls += 1
    const error = left.shift()
    if (error) throw error
    return 'done'
  }
  work.calls = 0
  return work
}

test('what somebody else was faster with is done again, up to so many times in all', async () => {
  const work = failing(conflict, conflict)
  expect(await retryConflicts(3, work)).toBe('done')
  const vain = failing(conflict, conflict)
  await expect(retryConflicts(2, vain)).rejects.toBe(conflict)
  expect([work.calls, vain.calls]).toEqual([3, 2])
})

test('what fails otherwise is not done again', async () => {
  const work = failing(away)
  await expect(retryConflicts(3, work)).rejects.toBe(away)
  expect(work.calls).toBe(1)
})

test('a conflict alone is ignored, and says who was first', async () => {
  expect(await failing(conflict)().catch(ignoreConflict)).toBeUndefined()
  await expect(failing(away)().catch(ignoreConflict)).rejects.toBe(away)
  expect(await Promise.all([wasFirst(failing()()), wasFirst(failing(conflict)())])).toEqual([true, false])
  await expect(wasFirst(failing(away)())).rejects.toBe(away)
})
