import { Worker } from 'node:worker_threads'
import type { Shown } from '#attestation'
import { BrokerError } from '../../errors.ts'
import { openFairQueue } from './fair_queue.ts'
import type { LogJob } from './log_job.ts'

/** Judges logs in a thread of their own, one after another, so that nobody else waits: a list of IMA takes hundreds of milliseconds. */
export type LogThread = {
  /** Logs are given away: their bytes are gone afterwards. @param machine whose logs they are: none waits behind all that another one sent
   *  @throws BrokerError rate_limited when too many wait already, unavailable when it takes too long */
  readonly judge: (machine: string, job: LogJob) => Promise<Shown>
  readonly close: () => Promise<void>
}

const WAITING = 16
const LONGEST_MS = 20_000
/** A list of the largest size takes some 100. */
const MOST_MB = 512

type Waiting = PromiseWithResolvers<Shown> & { readonly job: LogJob }
type Answer = { readonly shown?: Shown; readonly failed?: string }

/** The thread starts with the first log, and anew after it failed. */
export function openLogThread(): LogThread {
  const queue = openFairQueue<Waiting>(WAITING)
  let worker: Worker | undefined
  /** what the thread is at */
  let current: Waiting | undefined
  let timer: NodeJS.Timeout | undefined

  const settle = (act: (one: Waiting) => void) => {
    clearTimeout(timer)
    if (current) act(current)
    current = queue.next()
    if (current) begin(current.job)
    else worker?.unref()
  }
  const fail = (error: Error) => {
    const broken = worker
    worker = undefined
    settle(one => one.reject(error))
    return broken?.terminate()
  }
  const started = () => {
    const next = new Worker(new URL('./log_worker.ts', import.meta.url), { resourceLimits: { maxOldGenerationSizeMb: MOST_MB } })
    next.on('message', ({ shown, failed }: Answer) => {
      if (worker !== next) return
      settle(one => (shown ? one.resolve(shown) : one.reject(new Error(`the logs could not be judged: ${failed}`))))
    })
    next.on('error', error => {
      if (worker === next) void fail(error)
    })
    return next
  }
  const begin = ({ logs, ...job }: LogJob) => {
    worker ??= started()
    worker.ref()
    timer = setTimeout(() => void fail(new BrokerError('unavailable', 'the logs took too long to judge: try again')), LONGEST_MS)
    const given = {
      ...(logs.eventLog && { eventLog: ownOf(logs.eventLog) }),
      ...(logs.imaList && { imaList: ownOf(logs.imaList) }),
    }
    worker.postMessage(
      { ...job, logs: given },
      Object.values(given).map(({ buffer }) => buffer),
    )
  }
  return {
    judge: (machine, job) => {
      const one = { ...Promise.withResolvers<Shown>(), job }
      const lost = queue.add(machine, one)
      lost?.reject(new BrokerError('rate_limited', 'too many logs are being judged: try again in some seconds'))
      if (!current) settle(() => {})
      return one.promise
    },
    close: async () => {
      const stopping = new BrokerError('unavailable', 'the service is stopping')
      for (let one = queue.next(); one; one = queue.next()) one.reject(stopping)
      await fail(stopping)
    },
  }
}

/** Bytes that can be given away: themselves when they have their memory for themselves, as large ones do, else a copy. */
function ownOf(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const { buffer, byteLength } = bytes
  const alone = buffer instanceof ArrayBuffer && buffer.byteLength === byteLength
  return alone ? new Uint8Array(buffer) : new Uint8Array(bytes)
}
