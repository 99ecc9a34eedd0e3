/** Does it for all of them, so many at a time, and answers in their order. After the first failure none is begun any more. */
export async function inParallel<Item, Result>(
  items: readonly Item[],
  atOnce: number,
  make: (item: Item) => Promise<Result>,
): Promise<readonly Result[]> {
  const results: Result[] = []
  const rest = items.entries()
  const work = async () => {
    for (const [index, item] of rest) results[index] = await make(item)
  }
  try {
    await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, work))
  } finally {
    // what others would take is taken
    for (const _ of rest);
  }
  return results
}
