import { LRUCache } from 'lru-cache'

/** Answers the same question with the same answer for a minute, and those who ask while it is being answered together. */
export type Recent<T> = { readonly once: (question: string, answer: () => Promise<T>) => Promise<T> }

const KEPT_MS = 60_000
const KEPT = 10_000

/** `lives`: whether an answer is still one. Memory of this replica only. */
export function openRecent<T extends object>(monotonic: () => number, lives: (answer: T) => Promise<boolean>): Recent<T> {
  const kept = new LRUCache<string, { readonly answer: Promise<T> }>({
    max: KEPT,
    ttl: KEPT_MS,
    ttlResolution: 0,
    perf: { now: monotonic },
  })
  const anew = (question: string, answer: () => Promise<T>): Promise<T> => {
    const given = answer()
    kept.set(question, { answer: given })
    given.catch(() => kept.delete(question))
    return given
  }
  return {
    once: async (question, answer) => {
      const known = kept.get(question)
      if (!known) return anew(question, answer)
      const same = await known.answer
      if (await lives(same)) return same
      // whoever finds it dead first asks anew, and the others with it
      if (kept.get(question) === known) kept.delete(question)
      return kept.get(question)?.answer ?? anew(question, answer)
    },
  }
}
