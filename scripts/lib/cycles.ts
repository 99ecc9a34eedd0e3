/** One shortest cycle through each node that closes one, each cycle told once: `[a, b, a]`. */
export function cyclesOf(graph: ReadonlyMap<string, readonly string[]>): string[][] {
  const told = new Set<string>()
  return [...graph.keys()].flatMap(node => {
    const cycle = told.has(node) ? undefined : shortestBack(graph, node)
    for (const member of cycle ?? []) told.add(member)
    return cycle ? [cycle] : []
  })
}

/** Breadth first from `start` to itself. */
function shortestBack(graph: ReadonlyMap<string, readonly string[]>, start: string): string[] | undefined {
  const seen = new Set<string>()
  let paths = [[start]]
  while (paths.length > 0) {
    const longer = paths.flatMap(path => (graph.get(path.at(-1) ?? '') ?? []).map(next => [...path, next]))
    const closed = longer.find(path => path.at(-1) === start)
    if (closed) return closed
    paths = longer.filter(path => isNew(path.at(-1) ?? ''))
  }
  return undefined

  function isNew(node: string): boolean {
    return !seen.has(node) && Boolean(seen.add(node))
  }
}
