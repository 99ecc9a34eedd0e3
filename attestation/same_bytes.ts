import { timingSafeEqual } from 'node:crypto'

/** Whether both are the same bytes, in a time that tells nothing of where they differ. */
export function sameBytes(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && timingSafeEqual(left, right)
}
