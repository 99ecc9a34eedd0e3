import { type LookupAddress, type LookupAllOptions, type LookupOptions, lookup } from 'node:dns'
import type { LookupFunction } from 'node:net'

type Answered = (error: NodeJS.ErrnoException | null, found: string | LookupAddress[], family: number) => void
type Ask = (host: string, options: LookupOptions, answered: Answered) => void
/** As `dns.lookup`, which gives all addresses where it is asked for them. */
export type Resolve = ((host: string, options: LookupAllOptions, answered: AllAnswered) => void) & Ask
type AllAnswered = (error: NodeJS.ErrnoException | null, found: LookupAddress[]) => void

/** Asks for a name once at a time, however many want to go there: a few names can be asked for at once, and one that nobody answers for holds its place for
 *  many seconds, in which Vault's may be wanted. */
export function openResolve(ask: Ask): Resolve {
  const asked = new Map<string, Answered[]>()
  const resolve: Ask = (host, options, answered) => {
    const question = JSON.stringify([host, options])
    const others = asked.get(question)
    if (others) return void others.push(answered)
    const all = [answered]
    asked.set(question, all)
    ask(host, options, (...answer) => {
      asked.delete(question)
      for (const one of all) one(...answer)
    })
  }
  return resolve as Resolve
}

/** The system's resolver. */
export const resolve = openResolve(lookup as Ask)

/** For `net.connect`, which takes the first address that lets it in: of those of a name this one is the first. Resolvers may give them in one order always. */
export function startingAt(turn: number): LookupFunction {
  return (host, options, done) => {
    resolve(host, { ...options, all: true }, (error, found) => {
      if (error) return done(error, '', 0)
      const at = turn % found.length
      const turned = [...found.slice(at), ...found.slice(0, at)]
      if (options.all) done(null, turned)
      else done(null, turned[0]?.address ?? '', turned[0]?.family)
    })
  }
}
