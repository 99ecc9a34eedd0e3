import { hash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import {
  admits,
  BrokerError,
  type Destination,
  type Holder,
  type Opened,
  type Opener,
  type RevocationWatch,
  ruleText,
} from '#engine'
import { openScrubber, type Scrubber } from './http/scrub.ts'
import { accept, refuse, type Verdict } from './refusals.ts'

/** A token that was opened for whoever holds the connection. */
export type Known = Opened & {
  /** looks for what it holds in answers; made when the first answer comes */
  readonly scrubber: (spelled: readonly string[]) => Scrubber | undefined
}

/** Sealed tokens, opened: what was opened once is remembered by the hash of the whole token and the certificate, while it lives. */
export type Tokens = {
  /** @throws BrokerError unavailable when Vault cannot be asked */
  readonly open: (token: string, holder: Holder) => Promise<Verdict<Known>>
  /** the same, when it is remembered: without waiting */
  readonly remembered: (token: string, holder: Holder) => Known | undefined
  /** Whether it may go there now; the rule that says so. */
  readonly permits: (known: Known, to: Destination) => Verdict<string>
}

export type TokenPorts = {
  readonly opener: Opener
  readonly revocations: RevocationWatch
  readonly now: () => number
  /** Called for each token that had to be opened, as it was not remembered. */
  readonly opened: (outcome: 'ok' | 'refused' | 'unreachable') => void
}

const REMEMBERED = 2000
/** No sealed token lives longer. */
const LONGEST_MS = 3_600_000
/** A clock that is behind by more is wrong. */
const SKEW_SECONDS = 60

export function openTokens({ opener, revocations, now, opened: tell }: TokenPorts): Tokens {
  // what has ended is not kept until somebody asks for it
  const known = new LRUCache<string, Known>({ max: REMEMBERED, ttlAutopurge: true, ttl: LONGEST_MS })
  // what a connection sent last it mostly sends again
  const last = new WeakMap<Holder, { readonly token: string; readonly found: Known }>()
  const live = (found: Known) =>
    now() / 1000 < found.expiresAt && revocations.standing({ ...found.binding, jti: found.jti }) === 'live'
  const lifeMs = ({ expiresAt }: Known) => Math.min(LONGEST_MS, Math.max(1, Math.ceil(expiresAt * 1000 - now())))
  const remembered = (token: string, holder: Holder) => {
    const before = last.get(holder)
    if (before?.token === token && live(before.found)) return before.found
    last.delete(holder)
    const name = nameOf(token, holder)
    const found = known.get(name)
    if (found === undefined) return undefined
    if (live(found)) last.set(holder, { token, found })
    else known.delete(name)
    return found
  }
  return {
    remembered,
    open: async (token, holder) => {
      const opened = await opener(token, holder).catch((error: unknown) => {
        tell('unreachable')
        throw error
      })
      tell(opened.ok ? 'ok' : 'refused')
      if (!opened.ok) return refuse(opened.code, opened.detail)
      const made = knownOf(opened.value)
      if (made.mode === 'datakey' && live(made)) known.set(nameOf(token, holder), made, { ttl: lifeMs(made) })
      return accept(made)
    },
    permits: (found, to) => {
      const second = now() / 1000
      if (second >= found.expiresAt || found.issuedAt > second + SKEW_SECONDS)
        return refuse('TOKEN_EXPIRED', `ended at ${found.expiresAt}`)
      const standing = revocations.standing({ ...found.binding, jti: found.jti })
      if (standing !== 'live') return refuse(standing === 'stale' ? 'REVOCATIONS_STALE' : 'TOKEN_REVOKED', standing)
      const rule = found.binding.destinations.find(one => admits(one, to))
      return rule ? accept(ruleText(rule)) : refuse('TOKEN_DESTINATION', 'no rule of the token fits')
    },
  }
}

function nameOf(token: string, holder: Holder): string {
  return `${hash('sha256', token, 'base64')} ${holder.x5tS256}`
}

function knownOf(opened: Opened): Known {
  let made: { scrubber: Scrubber | undefined } | undefined
  return {
    ...opened,
    scrubber: spelled => {
      made ??= { scrubber: openScrubber([...Object.values(opened.fields).map(field => field.reveal()), ...spelled]) }
      return made.scrubber
    },
  }
}

/** What Vault does not answer is no refusal of the token. */
export function unavailable(error: unknown): Verdict<never> {
  if (error instanceof BrokerError) return refuse('UNAVAILABLE', error.message)
  throw error
}
