import { write, writeSync } from 'node:fs'

/** A collector that does not read costs lines, not memory: what is above the limit is dropped. */
const WAITING_BYTES = 4 * 2 ** 20
const AGAIN_MS = 1000
/** At the end of the process, for a collector that is slow. */
const LAST_TRIES = 50
const LAST_PAUSE_MS = 20

/** Lines to a descriptor, in their order, which nobody waits for. A disk without room ends neither the process nor its end: what waits is tried
 *  again later, and given up when the process ends. */
export function linesTo(descriptor: number): (line: string) => void {
  let waiting: Buffer[] = []
  let size = 0
  let busy = false
  let timer: NodeJS.Timeout | undefined

  const send = () => {
    timer = undefined
    if (busy || waiting.length === 0) return
    const piece = Buffer.concat(waiting)
    waiting = []
    busy = true
    write(descriptor, piece, (error, written) => {
      const taken = error ? 0 : written
      busy = false
      size -= taken
      if (taken < piece.length) waiting.unshift(piece.subarray(taken))
      if (error) timer ??= setTimeout(send, AGAIN_MS).unref()
      else send()
    })
  }
  process.once('exit', () => writeLast(descriptor, Buffer.concat(waiting)))
  return line => {
    const bytes = Buffer.from(line)
    if (size + bytes.length > WAITING_BYTES) return
    waiting.push(bytes)
    size += bytes.length
    if (timer === undefined) send()
  }
}

function writeLast(descriptor: number, bytes: Buffer): void {
  for (let [left, tries] = [bytes, 0]; left.length > 0 && tries < LAST_TRIES; tries++) {
    try {
      left = left.subarray(writeSync(descriptor, left))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LAST_PAUSE_MS)
    }
  }
}
