import { setFlagsFromString } from 'node:v8'

/** How V8 is to keep the heap of a process that answers requests: they die young, all of them. */
const flags = [
  // Where much of what one line made outlived a collection, as in a burst it does, V8 makes it among the old from then on. That dies as soon as the rest, but
  // what it points to is taken for alive until the whole heap is collected: the better part of every request.
  '--no-allocation-site-pretenuring',
  // Bodies go through in buffers that lie outside of V8's heap. By default V8 marks all of its heap after every 64 MiB of them, dead though they are by then:
  // with bodies of 1 MB that took more than all else. Counted with the heap, they are collected as it grows.
  '--external-memory-accounted-in-global-limit',
]

/** To be called before the first request. */
export function keepHeapYoung(): void {
  for (const flag of flags) setFlagsFromString(flag)
}
