let waiting = 0

/** A call that one of libuv's threads waits in, which nothing can end before the TPM answers. */
export async function inThread<T>(call: Promise<T>): Promise<T> {
  waiting++
  try {
    return await call
  } finally {
    waiting--
  }
}

/** How many threads wait for a TPM now: while there is one, `process.exit` waits as well, because it joins them. */
export function threadsWaiting(): number {
  return waiting
}
