import { Worker } from 'node:worker_threads'
import type { Shown } from '#attestation'
import { BrokerError } from '../../errors.ts'
import type { LogJob } from './log_job.ts'

/** Judges logs in a thread of their own, so that nobody else waits: a list of IMA takes hundreds of milliseconds. */
export type LogThread = {
  /** Logs are given away: their bytes are gone afterwards.
   *  @throws BrokerError rate_limited when too many wait already, unavailable when it takes too long */
  readonly judge: (job: LogJob) => Promise<Shown>
  readonly close: () => Promise<void>
}

const WAITING = 16
const LONGEST_MS = 20_000
/** A list of the largest size takes some 100. */
const MOST_MB = 512

type Waiting = PromiseWithResolvers<Shown> & { readonly timer: NodeJS.Timeout }
type Answer = { readonly id: number; readonly shown?: Shown; readonly failed?: string }

/** The thread starts with the first log, and anew after it failed. */
export function openLogThread(longestMs: number = LONGEST_MS): LogThread {
  const waiting = new Map<number, Waiting>()
  let worker: Worker | undefined
  let jobs = 0

  const settle = (id: number, act: (one: Waiting) => void) => {
    const one = waiting.get(id)
    waiting.delete(id)
    if (one === undefined) return
    clearTimeout(one.timer)
    act(one)
    if (waiting.size === 0) worker?.unref()
  }
  const fail = (error: Error) => {
    const broken = worker
    worker = undefined
    for (const id of waiting.keys()) settle(id, one => one.reject(error))
    return broken?.terminate()
  }
  const started = () => {
    if (worker) return worker
    const next = new Worker(new URL('./log_worker.ts', import.meta.url), { resourceLimits: { maxOldGenerationSizeMb: MOST_MB } })
    next.on('message', ({ id, shown, failed }: Answer) =>
      settle(id, one => (shown ? one.resolve(shown) : one.reject(new Error(`the logs could not be judged: ${failed}`)))),
    )
    next.on('error', error => {
      if (worker === next) void fail(error)
    })
    worker = next
    return next
  }
  return {
    judge: ({ logs, ...job }) => {
      if (waiting.size >= WAITING)
        return Promise.reject(new BrokerError('rate_limited', 'too many logs are being judged: try again in some seconds'))
      const late = () => void fail(new BrokerError('unavailable', 'the logs took too long to judge: try again'))
      const one = { ...Promise.withResolvers<Shown>(), timer: setTimeout(late, longestMs) }
      jobs += 1
      waiting.set(jobs, one)
      const thread = started()
      thread.ref()
      const given = {
        ...(logs.eventLog && { eventLog: ownOf(logs.eventLog) }),
        ...(logs.imaList && { imaList: ownOf(logs.imaList) }),
      }
      thread.postMessage(
        { id: jobs, job: { ...job, logs: given } },
        Object.values(given).map(({ buffer }) => buffer),
      )
      return one.promise
    },
    close: async () => {
      await fail(new BrokerError('unavailable', 'the service is stopping'))
    },
  }
}

/** Bytes that can be given away: themselves when they have their memory for themselves, as large ones do, else a copy. */
function ownOf(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const { buffer, byteLength } = bytes
  const alone = buffer instanceof ArrayBuffer && buffer.byteLength === byteLength
  return alone ? new Uint8Array(buffer) : new Uint8Array(bytes)
}
