import { hash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import {
  admits,
  BrokerError,
  type Destination,
  type DestinationRule,
  type Holder,
  type Opened,
  type Opener,
  type RevocationWatch,
  ruleText,
} from '#engine'
import type { Injection } from './http/injection.ts'
import { openScrubber, type Scrubber } from './http/scrub.ts'
import { accept, refuse, type Verdict } from './refusals.ts'
import { type Held, isInForce } from './tls/holder.ts'

/** A token that was opened for whoever holds the connection. */
export type Known = Opened & {
  /** looks for what it holds in answers, in the spellings of these injections too; made when the first answer of a service comes */
  readonly scrubber: (injections: readonly Injection[]) => Scrubber | undefined
  /** Overwrites what can be overwritten of what it held; no answer may need it any more. */
  readonly forget: () => void
}

/** Sealed tokens, opened: what was opened once is remembered by the hash of the whole token and the certificate, while it lives. */
export type Tokens = {
  /** @throws BrokerError unavailable when Vault cannot be asked */
  readonly open: (token: string, holder: Holder) => Promise<Verdict<Known>>
  /** the same, when it is remembered: without waiting */
  readonly remembered: (token: string, holder: Holder) => Known | undefined
  /** Whether it may go there now; the rule that says so. */
  readonly permits: (known: Known, to: Destination) => Verdict<string>
  /** Drops what is expired or revoked, and forgets what was dropped the last time. Called as often as what is under way is looked at. */
  readonly sweep: () => void
}

export type TokenPorts = {
  readonly opener: Opener
  readonly revocations: RevocationWatch
  readonly now: () => number
  /** Called for each token that had to be opened, as it was not remembered. */
  readonly opened: (outcome: 'ok' | 'refused' | 'unreachable') => void
}

const REMEMBERED = 2000
/** A clock that is behind by more is wrong. */
const SKEW_SECONDS = 60

export function openTokens({ opener, revocations, now, opened: tell }: TokenPorts): Tokens {
  const known = new LRUCache<string, Known>({ max: REMEMBERED })
  // what a connection sent last it mostly sends again: its name is remembered with it, what it holds is not
  const last = new WeakMap<Holder, { readonly token: string; readonly name: string }>()
  const isOver = ({ expiresAt, binding, jti }: Known) =>
    now() / 1000 >= expiresAt || revocations.standing({ ...binding, jti }) === 'revoked'
  const remembered = (token: string, holder: Holder) => {
    const before = last.get(holder)
    const same = before?.token === token
    const name = same ? before.name : nameOf(token, holder)
    const found = known.get(name)
    if (found !== undefined && !same) last.set(holder, { token, name })
    return found
  }
  let over: readonly Known[] = []
  return {
    remembered,
    open: async (token, holder) => {
      const opened = await opener(token, holder).catch((error: unknown) => {
        tell('unreachable')
        throw error
      })
      tell(opened.ok ? 'ok' : 'refused')
      if (!opened.ok) return refuse(opened.code, opened.detail)
      const name = nameOf(token, holder)
      // of requests that come at once one remembers it for all: what is remembered is forgotten when that is due
      const before = known.get(name)
      if (before !== undefined) return accept(before)
      const made = knownOf(opened.value)
      if (made.mode === 'datakey' && !isOver(made)) known.set(name, made)
      return accept(made)
    },
    permits: (found, to) => {
      const second = now() / 1000
      if (second >= found.expiresAt || found.issuedAt > second + SKEW_SECONDS)
        return refuse('TOKEN_EXPIRED', `ended at ${found.expiresAt}`)
      const standing = revocations.standing({ ...found.binding, jti: found.jti })
      if (standing !== 'live') return refuse(standing === 'stale' ? 'REVOCATIONS_STALE' : 'TOKEN_REVOKED', standing)
      const rule = found.binding.destinations.find(one => admits(one, to))
      return rule ? accept(textOf(rule)) : refuse('TOKEN_DESTINATION', 'no rule of the token fits')
    },
    sweep: () => {
      // what is under way with them has ended since
      for (const found of over) found.forget()
      const ended = [...known].filter(([, found]) => isOver(found))
      for (const [name] of ended) known.delete(name)
      over = ended.map(([, found]) => found)
    },
  }
}

/** Whether what was let through would still be: by the certificate of its connection, and by its token. */
export function stillPermitted(
  { tokens, now }: { readonly tokens: Tokens; readonly now: () => number },
  { held, known, destination }: { readonly held: Held; readonly known: Known; readonly destination: Destination },
): Verdict<string> {
  return isInForce(held, now()) ? tokens.permits(known, destination) : refuse('NO_CERTIFICATE', 'it is not in force any more')
}

/** Of a rule that is held for as long as its token is. */
const texts = new WeakMap<DestinationRule, string>()

function textOf(rule: DestinationRule): string {
  const known = texts.get(rule)
  if (known !== undefined) return known
  const text = ruleText(rule)
  texts.set(rule, text)
  return text
}

function nameOf(token: string, holder: Holder): string {
  return `${hash('sha256', token, 'base64')} ${holder.x5tS256}`
}

function knownOf(opened: Opened): Known {
  const { fields } = opened
  // services may send it in spellings of their own, and are made anew with the configuration
  const made = new Map<string, Scrubber | undefined>()
  const found = new WeakMap<readonly Injection[], Scrubber | undefined>()
  const make = (injections: readonly Injection[]) => {
    const spelled = injections.flatMap(one => one.spelled?.(fields) ?? [])
    const name = JSON.stringify(spelled)
    if (!made.has(name)) made.set(name, openScrubber([...Object.values(fields).map(field => field.reveal()), ...spelled]))
    found.set(injections, made.get(name))
    return made.get(name)
  }
  return {
    ...opened,
    scrubber: injections => (found.has(injections) ? found.get(injections) : make(injections)),
    forget: () => {
      for (const scrubber of made.values()) scrubber?.wipe()
    },
  }
}

/** What Vault does not answer is no refusal of the token. */
export function unavailable(error: unknown): Verdict<never> {
  if (error instanceof BrokerError) return refuse('UNAVAILABLE', error.message)
  throw error
}
