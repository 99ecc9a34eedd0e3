import { BrokerError } from './errors.ts'

/**
 * Answers many askers with one call, without ever answering from before the question: those who ask while a call is under way
 * wait together for the next one. So a decision is never older than the request that it is for, and a busy broker asks Vault
 * once for many. A service that does not answer those who asked does not let those wait who came after: they hear the same.
 * @param limit how many go into one call
 */
export function gather<Item, Answer>(
  call: (items: readonly Item[]) => Promise<readonly Answer[]>,
  limit = Number.POSITIVE_INFINITY,
): (item: Item) => Promise<Answer> {
  type Asker = { item: Item; resolve: (answer: Answer) => void; rejectWith: (error: unknown) => void }
  let waiting: Asker[] = []
  let running = false

  const run = async (batch: readonly Asker[]) => {
    try {
      const answers = await call(batch.map(asker => asker.item))
      if (answers.length !== batch.length) throw new Error('a gathered call answered for another number of items')
      for (const [index, asker] of batch.entries()) asker.resolve(answers[index] as Answer)
    } catch (error) {
      const others = error instanceof BrokerError && error.code === 'unavailable' ? waiting.splice(0) : []
      for (const asker of [...batch, ...others]) asker.rejectWith(error)
    }
  }

  const drain = async () => {
    running = true
    while (waiting.length > 0) {
      const batch = waiting.slice(0, limit)
      waiting = waiting.slice(limit)
      await run(batch)
    }
    running = false
  }

  return item => {
    const answer = new Promise<Answer>((resolve, rejectWith) => waiting.push({ item, resolve, rejectWith }))
    // a microtask later, so that what arrives in one turn of the event loop goes together from the start
    if (!running) {
      running = true
      queueMicrotask(() => void drain())
    }
    return answer
  }
}

/** `gather`, apart per key; a key that nobody waits for costs nothing. */
export function gatherBy<Item, Answer>(
  keyOf: (item: Item) => string,
  call: (items: readonly Item[]) => Promise<readonly Answer[]>,
  limit = Number.POSITIVE_INFINITY,
): (item: Item) => Promise<Answer> {
  const gathered = new Map<string, { ask: (item: Item) => Promise<Answer>; askers: number }>()
  return async item => {
    const key = keyOf(item)
    const one = gathered.get(key) ?? { ask: gather(call, limit), askers: 0 }
    gathered.set(key, one)
    one.askers += 1
    try {
      return await one.ask(item)
    } finally {
      one.askers -= 1
      if (one.askers === 0) gathered.delete(key)
    }
  }
}

/** `gatherBy` where one look answers all who ask by the same key. */
export function gatherLooks<Item, Answer>(
  keyOf: (item: Item) => string,
  look: (item: Item) => Promise<Answer>,
): (item: Item) => Promise<Answer> {
  return gatherBy(keyOf, async items => {
    const answer = await look(items[0] as Item)
    return items.map(() => answer)
  })
}

/** `gather` where nothing is asked but that it is done: once for all who asked before it began. */
export function gatherCalls(call: () => Promise<void>): () => Promise<void> {
  const ask = gatherLooks<undefined, void>(() => '', call)
  return () => ask(undefined)
}
