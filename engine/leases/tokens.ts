import { gatherCalls } from '../gather.ts'
import { inParallel } from '../parallel.ts'
import { isInvalidAccessor, type OwnVault } from '../vault/own.ts'
import type { World } from '../world.ts'
import type { Ledger } from './ledger.ts'

/** What Vault says of a token, by its accessor. */
export type TokenLife = { readonly alive: false } | { readonly alive: true; readonly ttlSeconds: number }
export type Tokens = (accessor: string) => Promise<TokenLife>

/** @throws BrokerError unavailable when Vault does not say: then nothing is known, and nothing is revoked */
export function openTokens(vault: OwnVault): Tokens {
  return async accessor => {
    try {
      const { ttl, expire_time } = (await vault.write('auth/token/lookup-accessor', { accessor }))?.data ?? {}
      return { alive: true, ttlSeconds: expire_time === null || typeof ttl !== 'number' ? Number.POSITIVE_INFINITY : ttl }
    } catch (error) {
      if (isInvalidAccessor(error)) return { alive: false }
      throw error
    }
  }
}

const AT_ONCE = 16

/** Asks Vault of each token that has leases whether it lives: Vault tells nobody when a token, or a parent of it, is revoked. */
export function openTokenWatch(
  ledger: Ledger,
  tokens: Tokens,
  world: World,
  died: (tag: string) => Promise<unknown>,
): () => Promise<void> {
  const accessors = new Map<string, string>()

  const accessorOf = async (tag: string, id: string): Promise<string | undefined> => {
    const known = accessors.get(tag) ?? (await ledger.read(id))?.value.accessor ?? (await anyOf(ledger, tag))
    if (known !== undefined) accessors.set(tag, known)
    return known
  }
  /** of which Vault said nothing at the last look: the next one begins there, as a Vault that answers so many questions at a time would hear of no others */
  let unsaid: string | undefined
  const look = async ([tag, id]: readonly [string, string]) => {
    try {
      const accessor = await accessorOf(tag, id)
      if (accessor !== undefined && !(await tokens(accessor)).alive) await died(tag)
    } catch (error) {
      unsaid ??= tag
      throw error
    }
  }
  const lookAtAll = async () => {
    const all = [...ledger.calendar.accessors()]
    const from = Math.max(
      0,
      all.findIndex(([tag]) => tag === unsaid),
    )
    const tags = [...all.slice(from), ...all.slice(0, from)]
    unsaid = undefined
    const living = new Set(tags.map(([tag]) => tag))
    for (const tag of accessors.keys()) if (!living.has(tag)) accessors.delete(tag)
    await inParallel(tags, AT_ONCE, look).catch((error: unknown) => {
      world.log.warn({ error }, 'vault did not say whether the tokens of leases live: they are asked about again')
    })
    // it may be this one alone
    if (unsaid === tags[0]?.[0]) unsaid = tags[1]?.[0]
  }
  // who asks while a look is under way waits for the one after it, and for no other: somebody may always be asking
  return gatherCalls(lookAtAll)
}

/** The name that was looked at first may stand for nothing any more. */
async function anyOf(ledger: Ledger, tag: string): Promise<string | undefined> {
  for (const { id } of ledger.calendar.where(({ accessorTag }) => accessorTag === tag)) {
    const kept = await ledger.read(id)
    if (kept) return kept.value.accessor
  }
  return undefined
}
