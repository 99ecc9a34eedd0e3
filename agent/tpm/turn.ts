/** Runs jobs one after another, in the order in which they were given; a job that fails does not stop the next one. */
export function inTurn(): <T>(job: () => Promise<T>) => Promise<T> {
  let last: Promise<unknown> = Promise.resolve()
  return job => {
    const mine = last.then(job)
    last = mine.catch(() => {})
    return mine
  }
}
