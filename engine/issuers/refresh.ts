import { keep } from '../integrations/keep.ts'
import type { Hold, Root, RootCredential } from '../integrations/port.ts'
import type { Secret } from '../secret.ts'
import { ExchangeRefusal } from './refusal.ts'

type Use<T> = (read: RootCredential, hold: Hold) => Promise<T>

/** One at a time, here and at other replicas: a server that rotates refresh tokens takes a second use of one for theft. What the server refuses may have been
 *  replaced meanwhile by somebody who takes no turns with us: what is there then is tried, once. */
export function refreshing<T>(root: Pick<Root, 'alone' | 'fresh'>, use: Use<T>): Promise<T> {
  return root.alone((read, hold) =>
    use(read, hold).catch(async (error: unknown) => {
      if (!(error instanceof ExchangeRefusal) || error.code !== 'EXCHANGE_REFUSED') throw error
      const there = await root.fresh().catch(() => read)
      if (there.version === read.version) throw error
      return use(there, hold)
    }),
  )
}

export type Replaced = (next: Secret | undefined) => Promise<void>

/** What the server gave in place of the refresh token that was read is durable when this resolves. A server that does not rotate gives none, or the same. */
export function replacing(root: Pick<Root, 'fresh' | 'replace'>, read: RootCredential): Replaced {
  return async next => {
    if (next !== undefined && next.reveal() !== read.fields['refresh_token']?.reveal())
      await keep(root, read, { refresh_token: next })
  }
}

/** Why nobody gets an answer that came with a refresh token: that this could not be kept, or what was wrong with the answer. */
export function reasonOf(why: Error, kept: Promise<void>): Promise<unknown> {
  return kept.then(
    () => why,
    (error: unknown) => error,
  )
}
