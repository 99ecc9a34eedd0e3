import { createHash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { BrokerError } from '../errors.ts'
import { gatherBy, gatherLooks } from '../gather.ts'
import type { Secret } from '../secret.ts'
import { type Vault, VaultRefusal, type VaultReply } from './client.ts'
import { isBadToken, isInvalidToken, type OwnVault } from './own.ts'
import { Presented } from './presented.ts'

/** Who asks, by the token that came with the request. */
export type Caller = { readonly token: Secret | undefined }
export type Capability = 'create' | 'read' | 'update' | 'delete' | 'list' | 'sudo'

/** What Vault knows of a token, without costing it a use. */
export type TokenFacts = {
  readonly accessor: string
  /** as the method of its login made it up, such as `userpass-anna` */
  readonly displayName: string
  /** login path, such as `auth/tpm-quote/login` */
  readonly path: string
  readonly meta: Readonly<Record<string, string>>
  readonly entityId: string
  readonly policies: readonly string[]
  /** whole seconds left; Infinity for a token that does not expire */
  readonly ttlSeconds: number
  readonly numUses: number
}

/** Who a token belongs to. What is awaited before anything is given out is `permitted`: Vault's word on this very request. */
export type Identified = {
  readonly facts: TokenFacts
  /** rejects with BrokerError permission_denied when Vault does not allow it, as `require` does */
  readonly permitted: Promise<void>
}

/** Whether one of these is allowed, and to whom. */
export type Granted = ((anyOf: readonly Capability[]) => boolean) & { readonly facts: TokenFacts }

/** Vault decides who may do what; no permission is remembered from one request to the next, so a revoked token is refused at once. */
export type Authority = {
  /** @returns what Vault knows of the token @throws BrokerError permission_denied when it is bad or Vault does not allow one of these on the path */
  readonly require: (caller: Caller, path: string, anyOf: readonly Capability[]) => Promise<TokenFacts>
  /** What Vault allows on the path, in one question. @throws BrokerError permission_denied when the token is bad */
  readonly granted: (caller: Caller, path: string) => Promise<Granted>
  /** `require`, and what Vault knows of the token. */
  readonly identify: (caller: Caller, path: string, anyOf: readonly Capability[]) => Promise<Identified>
}

const PATHS = 100
const TOKENS = 10_000
/** How long facts are remembered: they do not change while the token lives, but for a renewal, which only makes it live longer. */
const FACTS_MS = 60_000
const DENIED = 'permission denied'

export function openAuthority(vault: Vault, own: OwnVault, monotonic: () => number): Authority {
  const capabilities = gatherBy<Ask, readonly string[]>(
    ask => holderOf(ask.token),
    asks => capabilitiesOf(vault, asks),
    PATHS,
  )
  const factsOf = openFacts(own, monotonic)
  // requests that arrive together with one token ask Vault together; a token with a limited number of uses pays one per request
  const allowed = async (ask: Ask, facts: TokenFacts): Promise<Granted> => {
    const answer = facts.numUses === 0 ? await capabilities(ask) : await spent(vault, own, ask)
    return Object.assign((anyOf: readonly Capability[]) => covers(answer, anyOf), { facts })
  }
  const granted = async (caller: Caller, path: string): Promise<Granted> => {
    const token = present(caller)
    return allowed({ token, path }, await factsOf(token))
  }
  const insist = (may: Granted, anyOf: readonly Capability[]) => {
    if (!may(anyOf)) throw new BrokerError('permission_denied', DENIED)
  }
  return {
    granted,
    require: async (caller, path, anyOf) => {
      const may = await granted(caller, path)
      insist(may, anyOf)
      return may.facts
    },
    identify: async (caller, path, anyOf) => {
      const token = present(caller)
      const facts = await factsOf(token)
      const permitted = allowed({ token, path }, facts).then(may => insist(may, anyOf))
      // whoever asks awaits it later, perhaps after something else has failed
      permitted.catch(() => undefined)
      return { facts, permitted }
    },
  }
}

/** Facts of tokens without a limit of uses, by hash of the token; the rest of its life is counted from when Vault told it. */
function openFacts(own: OwnVault, monotonic: () => number): (token: Secret) => Promise<TokenFacts> {
  const remembered = new LRUCache<string, { facts: TokenFacts; at: number }>({ max: TOKENS })
  const ask = gatherLooks(hashOf, (token: Secret) => lookUp(own, token))
  const young = (token: Secret) => {
    const kept = remembered.get(hashOf(token))
    return kept && monotonic() - kept.at < FACTS_MS ? kept : undefined
  }
  return async token => {
    const kept = young(token)
    if (kept) return { ...kept.facts, ttlSeconds: kept.facts.ttlSeconds - Math.ceil((monotonic() - kept.at) / 1000) }
    const at = monotonic()
    const facts = await ask(token)
    if (facts.numUses === 0) remembered.set(hashOf(token), { facts, at })
    return facts
  }
}

function covers(granted: readonly string[], anyOf: readonly Capability[]): boolean {
  if (granted.includes('deny')) return false
  return granted.includes('root') || anyOf.some(one => granted.includes(one))
}

type Ask = { readonly token: Secret; readonly path: string }

function present(caller: Caller): Secret {
  if (!caller.token) throw new BrokerError('permission_denied', DENIED)
  return caller.token
}

/** Tokens are compared by hash, so that no map of live tokens lies about in memory. */
function hashOf(token: Secret): string {
  return createHash('sha256').update(token.reveal()).digest('base64')
}

/** The same token from another address may have another answer. */
function holderOf(token: Secret): string {
  return token instanceof Presented ? `${hashOf(token)} ${token.from}` : hashOf(token)
}

async function capabilitiesOf(vault: Vault, asks: readonly Ask[]): Promise<readonly (readonly string[])[]> {
  const paths = [...new Set(asks.map(ask => ask.path))]
  const reply = await vault.write('sys/capabilities-self', { paths }, { as: asks[0]?.token }).catch(denied)
  return asks.map(({ path }) => capabilitiesIn(reply, path))
}

/** An answer that cannot be read is no permission. */
function capabilitiesIn(reply: VaultReply | undefined, path: string): readonly string[] {
  const granted = reply?.data?.[path]
  return Array.isArray(granted) ? granted.filter(one => typeof one === 'string') : ['deny']
}

/** What a token with a limited number of uses may do, for one use. Vault refuses the last use to `sys/capabilities-self`, which looks the token up when
 *  it is gone already: so the broker asks, which costs nothing, and the use is spent on a call that needs no more than the default policy. Vault counts
 *  it, and checks the addresses that the token is bound to: of many requests at once as many are let through as the token has uses. */
async function spent(vault: Vault, own: OwnVault, { token, path }: Ask): Promise<readonly string[]> {
  const reply = await own.write('sys/capabilities', { token: token.reveal(), paths: [path] }).catch((error: unknown) => {
    if (isInvalidToken(error)) throw new BrokerError('permission_denied', DENIED, { cause: error })
    throw error
  })
  await vault.write('sys/tools/hash', { input: '' }, { as: token }).catch((error: unknown) => {
    throw error instanceof VaultRefusal
      ? new BrokerError('permission_denied', explain(error, 'sys/tools/hash'), { cause: error })
      : error
  })
  return capabilitiesIn(reply, path)
}

function denied(error: unknown): never {
  if (error instanceof VaultRefusal)
    throw new BrokerError('permission_denied', explain(error, 'sys/capabilities-self'), { cause: error })
  throw error
}

/** A live token without the default policy may not ask what it may do, nor may one whose entity is disabled, and Vault does not say which it is: say so, or its
 *  owner will look for the fault for days. */
function explain(error: VaultRefusal, path: string): string {
  const invalid = error.errors.some(one => one.includes('invalid token') || one.includes('bad token'))
  return invalid ? DENIED : `${DENIED}: the token may not use ${path}, which the default policy allows, or its entity is disabled`
}

async function lookUp(own: OwnVault, token: Secret): Promise<TokenFacts> {
  const reply = await own.write('auth/token/lookup', { token: token.reveal() }).catch((error: unknown) => {
    if (isBadToken(error)) throw new BrokerError('permission_denied', DENIED, { cause: error })
    throw error
  })
  return readFacts(reply?.data)
}

function readFacts(data: Readonly<Record<string, unknown>> | null | undefined): TokenFacts {
  const { accessor, display_name, path, meta, entity_id, policies, identity_policies, ttl, num_uses, expire_time } = data ?? {}
  if (typeof path !== 'string' || typeof ttl !== 'number')
    throw new BrokerError('unavailable', 'vault answered a token lookup without facts')
  return {
    accessor: text(accessor),
    displayName: text(display_name),
    path,
    meta: (meta ?? {}) as Readonly<Record<string, string>>,
    entityId: text(entity_id),
    policies: [...names(policies), ...names(identity_policies)],
    ttlSeconds: expire_time === null ? Number.POSITIVE_INFINITY : ttl,
    numUses: typeof num_uses === 'number' ? num_uses : 0,
  }
}

const text = (value: unknown) => (typeof value === 'string' ? value : '')
const names = (value: unknown): readonly string[] => (Array.isArray(value) ? value.filter(one => typeof one === 'string') : [])
