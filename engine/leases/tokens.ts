import { gather } from '../gather.ts'
import { isInvalidAccessor, type OwnVault } from '../vault/own.ts'
import type { World } from '../world.ts'
import type { Ledger } from './ledger.ts'
import { inParallel } from './parallel.ts'

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
  const look = async ([tag, id]: readonly [string, string]) => {
    const accessor = await accessorOf(tag, id)
    if (accessor === undefined || (await tokens(accessor)).alive) return
    await died(tag)
  }
  const lookAtAll = async () => {
    const tags = [...ledger.calendar.accessors()]
    const living = new Set(tags.map(([tag]) => tag))
    for (const tag of accessors.keys()) if (!living.has(tag)) accessors.delete(tag)
    await inParallel(tags, AT_ONCE, look).catch((error: unknown) => {
      world.log.warn({ error }, 'vault did not say whether the tokens of leases live: they are asked about again')
    })
  }
  // who asks while a look is under way waits for the one after it, and for no other: somebody may always be asking
  const ask = gather<undefined, undefined>(async askers => {
    await lookAtAll()
    return askers.map(() => undefined)
  }, Number.POSITIVE_INFINITY)
  return async () => ask(undefined)
}

/** The name that was looked at first may stand for nothing any more. */
async function anyOf(ledger: Ledger, tag: string): Promise<string | undefined> {
  for (const { id } of ledger.calendar.where(({ accessorTag }) => accessorTag === tag)) {
    const kept = await ledger.read(id)
    if (kept) return kept.value.accessor
  }
  return undefined
}
