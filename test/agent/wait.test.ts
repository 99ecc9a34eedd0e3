import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { AgentError } from '../../agent/exits.ts'
import type { Enrolled } from '../../agent/flow.ts'
import { approved } from '../../agent/wait.ts'

const names = { tpm_id: 'sha256-ab', ak_name: '000b' }

/** A machine that an operator approves of at its `turn`th enrolment, in a world where a millisecond passes with each look at the clock. */
async function waiting(turn: number, seconds: number, failures: Readonly<Record<number, AgentError>> = {}) {
  let [now, enrolments] = [0, 0]
  const said: string[] = []
  const world = { err: (text: string) => void said.push(text) }
  const enrol = async (): Promise<Enrolled> => {
    const failure = failures[++enrolments]
    if (failure) throw failure
    return { status: enrolments < turn ? 'pending' : 'enrolled', ...names }
  }
  return { ...(await approved(world, seconds, enrol, () => (now += 1))), enrolments, said }
}

describe('a machine that an operator has to approve of', () => {
  test('enrols once where nobody has to, and says nothing', async () => {
    expect(await waiting(1, 60)).toMatchObject({ status: 'enrolled', enrolments: 1, said: [] })
  })
  test('does not wait unless it was told to, and says that it would have to', async () => {
    const { status, enrolments, said } = await waiting(2, 0)
    expect([status, enrolments, said]).toEqual(['pending', 1, ['assay agent: sha256-ab waits for the approval of an operator\n']])
  })
  test('waits on where the service cannot answer for a while, and no longer where it refuses', async () => {
    expect(await waiting(3, 0.01, { 2: new AgentError('unavailable', 'sealed') })).toMatchObject({
      status: 'enrolled',
      enrolments: 3,
    })
    await expect(waiting(3, 0.01, { 1: new AgentError('unavailable', 'sealed') })).rejects.toThrow('sealed')
    await expect(waiting(3, 0.01, { 2: new AgentError('refused', 'denied') })).rejects.toThrow('denied')
  })
  test('waits for so long by a clock that nobody sets', async () => {
    vi.useFakeTimers({ toFake: ['Date', 'performance'] })
    onTestFinished(() => void vi.useRealTimers())
    let enrolments = 0
    const enrol = async (): Promise<Enrolled> => {
      vi.setSystemTime(Date.now() + 31_536_000_000)
      return { status: ++enrolments < 3 ? 'pending' : 'enrolled', ...names }
    }
    const world = { now: Date.now, err: () => {} }
    expect(await approved(world, 0.01, enrol)).toMatchObject({ status: 'enrolled' })
  })
  test('waits for so long', async () => {
    expect(await waiting(9, 0.004)).toMatchObject({ status: 'pending', enrolments: 3 })
    expect(await waiting(3, 0.004)).toMatchObject({ status: 'enrolled', enrolments: 3 })
  })
})
