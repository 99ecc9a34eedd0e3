import { parentPort, workerData } from 'node:worker_threads'
import { open, post } from './load.ts'

/** Who floods, in a thread of its own until that is ended: asks for challenges on all its connections, each as soon as the last was answered,
 *  whatever the answer is. Says so once when each of them was answered or closed for the first time. */
export type Sender = {
  readonly address: string
  readonly connections: number
  /** in whose name; a made-up one each when left out */
  readonly akName?: string
}

const { address, connections, akName } = workerData as Sender
let names = 0

function request(): Buffer {
  const made = `000b${(names++).toString(16).padStart(64, '0')}`
  return post(address, 'auth/tpm-quote/challenge', { role: 'service', ak_name: akName ?? made })
}

async function flood(first: () => void): Promise<void> {
  for (;;) {
    const connection = await open(address)
    try {
      for (;;) {
        await connection.exchange(request())
        first()
      }
    } catch {
      // a front door may close what floods it; whoever floods comes again
      first()
    } finally {
      connection.close()
    }
  }
}

const begun = Array.from({ length: connections }, () => new Promise<void>(resolve => void flood(resolve)))
void Promise.all(begun).then(() => parentPort?.postMessage('floods'))
