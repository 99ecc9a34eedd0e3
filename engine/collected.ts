/** Bytes that come in pieces, in one buffer. To keep the pieces themselves would cost a hundred bytes for each, and whoever sends decides how
 *  small they are: HTTP's chunks may have one byte. */
export type Collected = {
  readonly add: (piece: Uint8Array) => void
  /** so far */
  readonly size: () => number
  readonly bytes: () => Buffer
}

const LEAST = 1024

export function openCollected(): Collected {
  let held = Buffer.alloc(0)
  let size = 0
  return {
    add: piece => {
      const wanted = size + piece.length
      if (wanted > held.length) {
        const larger = Buffer.allocUnsafeSlow(Math.max(wanted, 2 * held.length, LEAST))
        held.copy(larger, 0, 0, size)
        held = larger
      }
      held.set(piece, size)
      size = wanted
    },
    size: () => size,
    bytes: () => held.subarray(0, size),
  }
}
