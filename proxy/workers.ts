import cluster, { type Worker } from 'node:cluster'
import { parse } from 'node:path'
import { BrokerError } from '#engine'

/** Variable that tells a process which of the workers it is, from 1. */
export const WORKER = 'ASSAY_PROXY_WORKER'

export type Workers = {
  /** Sends a signal to all of them. */
  readonly signal: (name: NodeJS.Signals) => void
  /** Asks them to end, and waits until they have. */
  readonly stop: () => Promise<void>
}

/** The other workers of the same parent. */
export type Others = { readonly tell: (text: string) => void; readonly hear: (heard: (text: string) => void) => void }

const AGAIN_MS = 1000
const SERVES = 'serves'

/** Runs this program as several processes that share their ports; one that ends unasked is started again.
 *  @param onLost told which one ended
 *  @throws BrokerError unavailable when one of them ends before it serves: it has said why */
export async function openWorkers(count: number, onLost: (number: number) => void): Promise<Workers> {
  const running = new Map<number, Worker>()
  let keeping = false
  const begin = (number: number): Worker => {
    const worker = cluster.fork({ [WORKER]: String(number) })
    running.set(number, worker)
    worker.on('message', message => {
      // one that ends meanwhile need not hear it
      if (isTold(message)) for (const other of running.values()) if (other !== worker) other.send(message, () => undefined)
    })
    worker.once('exit', () => {
      running.delete(number)
      if (!keeping) return
      onLost(number)
      setTimeout(() => keeping && begin(number), AGAIN_MS)
    })
    return worker
  }
  const signal = (name: NodeJS.Signals) => {
    for (const worker of running.values()) worker.process.kill(name)
  }
  const numbers = Array.from({ length: count }, (_, at) => at + 1)
  await Promise.all(numbers.map(number => serving(begin(number)))).catch((error: unknown) => {
    signal('SIGTERM')
    throw error
  })
  keeping = true
  return {
    signal,
    stop: async () => {
      keeping = false
      const ends = [...running.values()].map(worker => new Promise<void>(resolve => worker.once('exit', () => resolve())))
      signal('SIGTERM')
      await Promise.all(ends)
    },
  }
}

function serving(worker: Worker): Promise<void> {
  return new Promise((resolve, reject) => {
    worker.on('message', message => message === SERVES && resolve())
    worker.once('exit', () => reject(new BrokerError('unavailable', 'a worker ended before it served')))
  })
}

/** Tells the parent that this worker serves. */
export function sayServing(): void {
  process.send?.(SERVES)
}

type Told = { readonly told: string }
const isTold = (message: unknown): message is Told => typeof message === 'object' && message !== null && 'told' in message

/** As this worker reaches them: through the parent. */
export function openOthers(): Others {
  return {
    tell: told => void process.send?.({ told } satisfies Told),
    hear: heard => process.on('message', message => isTold(message) && heard(message.told)),
  }
}

/** Each worker has a chain of its own: `audit.jsonl` becomes `audit.1.jsonl`. */
export function auditFileOf(file: string, number: string): string {
  const { dir, name, ext } = parse(file)
  return `${dir === '' ? '' : `${dir}/`}${name}.${number}${ext}`
}
