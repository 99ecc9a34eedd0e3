/** Has this process stop when it is told to: once, however often that is. A group of processes hears a signal together, and each hears it from who started
 *  it besides, in another word perhaps. */
export function stopOnSignals(stop: () => Promise<void>): void {
  let isStopping = false
  const end = () => {
    if (isStopping) return
    isStopping = true
    void stop().then(
      () => process.exit(0),
      () => process.exit(1),
    )
  }
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, end)
}
