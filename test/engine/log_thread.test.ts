import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import type { Files, LogJob, Wanted } from '../../engine/attest/logs/log_job.ts'
import { type LogThread, openLogThread } from '../../engine/attest/logs/log_thread.ts'
import type { BrokerError } from '../../engine/errors.ts'
import * as ima from '../attestation/ima_maker.ts'

const PATHS = ['boot_aggregate', '/usr/bin/env', '/usr/bin/true']
const LIST = ima.encodeList(PATHS.map(path => ima.entry(path)))
const quoted = {
  pcrs: new Map([['sha256', new Map([[10, ima.pcrOf(PATHS.map(path => ima.fieldsOf(path)))]])]] as const),
  firmwareVersion: '0'.repeat(16),
  obfuscated: false,
}
const filesOf = (key: string, ...paths: string[]): Files => ({
  key,
  text: paths.map(path => `${ima.digestOf(path)} ${path}\n`).join(''),
})
const all = filesOf('all', ...PATHS.slice(1))

function jobOf(files: readonly Files[], changes: Partial<LogJob> = {}): LogJob {
  const rules = { bank: 'sha256', extends: 'bank', bootAggregate: 'unchecked', files } as const
  const references: readonly Wanted[] = [{ name: 'set', pcrs: new Map(), ima: rules }]
  return { logs: { imaList: Buffer.from(LIST) }, quoted, references, listing: false, ...changes }
}

let thread: LogThread
beforeEach(() => {
  thread = openLogThread()
})
afterEach(() => thread.close())

test('what was shown comes back whole', async () => {
  const { verdict, ima: files, listing } = await thread.judge('machine', jobOf([all], { listing: true }))
  expect(verdict).toEqual({ ok: true, value: 'set' })
  expect(files).toMatchObject({ entries: 3, unlisted: { count: 0 } })
  expect(listing).toBe(all.text)
})

test('a refusal comes back as a value', async () => {
  expect((await thread.judge('machine', jobOf([filesOf('none', '/x')]))).verdict).toMatchObject({ ok: false, code: 'IMA_FILE' })
  expect((await thread.judge('machine', jobOf([all], { logs: {} }))).verdict).toMatchObject({ ok: false, code: 'LOG_MISSING' })
})

test('a list that was written anew under its name counts at once', async () => {
  const judged = async (files: Files) => (await thread.judge('machine', jobOf([files]))).verdict.ok
  expect(await judged(filesOf('list', ...PATHS))).toBe(true)
  expect(await judged(filesOf('list', '/usr/bin/env'))).toBe(false)
  expect(await judged(filesOf('list', ...PATHS))).toBe(true)
})

test('many at a time are answered each with its own, and more than that are told to come again', async () => {
  const jobs = Array.from({ length: 17 }, (_, at) =>
    thread.judge(`machine-${at}`, jobOf([at % 2 === 0 ? all : filesOf('none', '/x')])),
  )
  await expect(thread.judge('one more', jobOf([all]))).rejects.toMatchObject({ code: 'rate_limited' })
  const verdicts = (await Promise.all(jobs)).map(({ verdict }) => verdict.ok)
  expect(verdicts).toEqual(Array.from({ length: 17 }, (_, at) => at % 2 === 0))
  expect((await thread.judge('one more', jobOf([all]))).verdict.ok).toBe(true)
})

test('one machine that takes every place has no other turned away, and none wait behind all that it sent', async () => {
  const ended: string[] = []
  const judged = (who: string) =>
    thread.judge(who, jobOf([all])).then(
      () => void ended.push(who),
      ({ code }: BrokerError) => void ended.push(`${who}: ${code}`),
    )
  const flood = Array.from({ length: 17 }, () => judged('flood'))
  await Promise.all([...flood, judged('one'), judged('two')])
  expect(ended.slice(0, 2)).toEqual(['flood: rate_limited', 'flood: rate_limited'])
  // what is under way, then each in turn
  expect(ended.slice(2, 6)).toEqual(['flood', 'flood', 'one', 'two'])
  expect(ended.slice(6)).toEqual(Array.from({ length: 13 }, () => 'flood'))
})

test('fifty thousand lines are work of the thread: the loop goes on beside it, and spends next to nothing on them', async () => {
  const paths = ['boot_aggregate', ...Array.from({ length: 49_999 }, (_, at) => `/usr/lib/package-${at % 400}/file-${at}.so`)]
  const pcr10 = ima.pcrOf(paths.map(path => ima.fieldsOf(path)))
  const job = jobOf([filesOf('many', ...paths.slice(1))], {
    quoted: { ...quoted, pcrs: new Map([['sha256', new Map([[10, pcr10]])]]) },
    logs: { imaList: ima.encodeList(paths.map(path => ima.entry(path))) },
  })
  let turns = 0
  // seldom enough to cost next to nothing itself, however long the thread waits for a processor
  const turning = setInterval(() => (turns += 1), 10)
  try {
    const [all, own] = [process.cpuUsage(), process.threadCpuUsage()]
    expect((await thread.judge('machine', job)).verdict).toEqual({ ok: true, value: 'set' })
    const [everywhere, here] = [process.cpuUsage(all).user, process.threadCpuUsage(own).user]
    expect(everywhere - here).toBeGreaterThan(4 * here)
  } finally {
    clearInterval(turning)
  }
  expect(turns).toBeGreaterThan(10)
})

describe('a thread that fails', () => {
  test('by a mistake of ours says so, and goes on', async () => {
    await expect(thread.judge('machine', jobOf([{ key: 'unchecked', text: 'x' }]))).rejects.toThrow(
      'the logs could not be judged',
    )
    expect((await thread.judge('machine', jobOf([all]))).verdict.ok).toBe(true)
  })

  test('to end in time is ended, and what waits is judged by the next', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    onTestFinished(() => void vi.useRealTimers())
    const [late, next] = [thread.judge('one', jobOf([all])), thread.judge('two', jobOf([all]))]
    const refused = expect(late).rejects.toMatchObject({ code: 'unavailable' })
    vi.advanceTimersByTime(20_000)
    await refused
    expect((await next).verdict.ok).toBe(true)
  })

  test('as it is closed leaves nobody waiting', async () => {
    const left = [thread.judge('machine', jobOf([all])), thread.judge('machine', jobOf([all]))]
    const refused = Promise.all(left.map(one => expect(one).rejects.toMatchObject({ code: 'unavailable' })))
    await thread.close()
    await refused
  })
})
