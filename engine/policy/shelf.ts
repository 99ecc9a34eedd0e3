import type { Cedar } from './cedar.ts'
import { type Statement, textsOf } from './statements.ts'

type Policies = { readonly version: string; readonly statements: ReadonlyMap<string, Statement> }

/** How many parsed sets stay in memory; the one used longest ago makes room. A mount needs one. */
const PLACES = 16

/** Where parsed policy sets are kept. Cedar keeps each under an id and never lets go of an id, so the ids are a fixed number of places:
 *  a set is dropped by putting another in its place. Each instance of Cedar has its own places. */
class Shelf {
  readonly #kept = new WeakMap<Cedar, Map<string, string>>()

  /** The id under which Cedar has these policies; parses them if they are not there.
   *  @throws Error when Cedar refuses them, which `compile` would have found */
  keep(cedar: Cedar, policies: Policies): string {
    const kept = this.#in(cedar)
    const place = kept.get(policies.version) ?? this.#fill(cedar, kept, policies)
    kept.delete(policies.version)
    kept.set(policies.version, place) // now the last used
    return place
  }

  #in(cedar: Cedar): Map<string, string> {
    const kept = this.#kept.get(cedar) ?? new Map<string, string>()
    this.#kept.set(cedar, kept)
    return kept
  }

  #fill(cedar: Cedar, kept: Map<string, string>, policies: Policies): string {
    const place = freePlace(kept)
    const answer = cedar.preparsePolicySet(place, { staticPolicies: textsOf(policies.statements.values()) })
    if (answer.type === 'failure') throw new Error(`a checked policy does not parse: ${answer.errors[0]?.message}`)
    return place
  }
}

function freePlace(kept: Map<string, string>): string {
  const taken = new Set(kept.values())
  const free = Array.from({ length: PLACES }, (_, index) => `place-${index}`).find(place => !taken.has(place))
  if (free !== undefined) return free
  const [oldest, place] = kept.entries().next().value ?? ['', '']
  kept.delete(oldest)
  return place
}

export const shelf = new Shelf()
