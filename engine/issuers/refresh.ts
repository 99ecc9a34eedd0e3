import type { Hold, Root, RootCredential } from '../integrations/port.ts'
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
