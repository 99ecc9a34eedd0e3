import { createSecretKey, type KeyObject } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { BrokerError } from '../errors.ts'
import { isBadCiphertext, type OwnVault } from '../vault/own.ts'
import { contextOf, SEALING_KEY, sealingVersion, versionOf } from './keys.ts'

/** A key that transit made and wrapped. The wrapped form travels in every token, so whoever may unwrap needs no list of keys. */
export type DataKey = {
  readonly key: KeyObject
  /** `vault:vN:...` */
  readonly wrapped: string
  /** version of the transit key that wrapped it */
  readonly version: number
}

/** How long one key seals. */
const SEALS_MS = 5 * 60_000
/** How long an unwrapped key is held. */
const HELD_MS = 10 * 60_000
const TENANTS = 1000
const HELD = 256

/** Keys to seal with: one per tenant, made anew after five minutes; what older ones sealed still opens.
 *  @throws BrokerError unavailable when transit makes none, or the key above them is not what it has to be */
export function openDataKeys(vault: OwnVault, transit: string, monotonic: () => number): (tenant: string) => Promise<DataKey> {
  const current = new LRUCache<string, Promise<DataKey>>({ max: TENANTS, ...clockOf(monotonic, SEALS_MS) })
  return tenant => {
    const kept = current.get(tenant)
    if (kept) return kept
    const made = makeKey(vault, transit, tenant)
    current.set(tenant, made)
    made.catch(() => current.delete(tenant))
    return made
  }
}

async function makeKey(vault: OwnVault, transit: string, tenant: string): Promise<DataKey> {
  // what it is may have been changed since the last one was made
  await sealingVersion(vault, transit)
  const body = { context: contextOf(tenant), bits: 256 }
  const { plaintext, ciphertext } = (await vault.write(`${transit}/datakey/plaintext/${SEALING_KEY}`, body))?.data ?? {}
  return { key: keyOf(plaintext), wrapped: String(ciphertext), version: versionOf(ciphertext) }
}

/** Keys to open with, by their wrapped form. Undefined when transit does not unwrap it for this tenant.
 *  @throws BrokerError unavailable when transit cannot be asked */
export function openWrappedKeys(
  vault: OwnVault,
  transit: string,
  monotonic: () => number,
): (tenant: string, wrapped: string) => Promise<KeyObject | undefined> {
  const held = new LRUCache<string, Promise<KeyObject | undefined>>({ max: HELD, ...clockOf(monotonic, HELD_MS) })
  return (tenant, wrapped) => {
    const name = JSON.stringify([tenant, wrapped])
    const kept = held.get(name)
    if (kept) return kept
    const asked = unwrap(vault, transit, tenant, wrapped)
    held.set(name, asked)
    // what did not open is not remembered: the place is for keys
    asked.then(key => key || held.delete(name)).catch(() => held.delete(name))
    return asked
  }
}

async function unwrap(vault: OwnVault, transit: string, tenant: string, wrapped: string): Promise<KeyObject | undefined> {
  const text = await decrypt(vault, transit, { ciphertext: wrapped, context: contextOf(tenant) })
  return text ? keyOf(text) : undefined
}

/** Base64 of the plaintext, undefined when transit says that this is no ciphertext of its own. */
export async function decrypt(vault: OwnVault, transit: string, body: Record<string, string>): Promise<string | undefined> {
  try {
    const plaintext = (await vault.write(`${transit}/decrypt/${SEALING_KEY}`, body))?.data?.['plaintext']
    return typeof plaintext === 'string' ? plaintext : undefined
  } catch (error) {
    if (isBadCiphertext(error)) return undefined
    throw error
  }
}

function keyOf(plaintext: unknown): KeyObject {
  const bytes = Buffer.from(typeof plaintext === 'string' ? plaintext : '', 'base64')
  if (bytes.length !== 32) throw new BrokerError('unavailable', 'transit answered without a data key')
  const key = createSecretKey(bytes)
  bytes.fill(0)
  return key
}

/** What is over is dropped by itself, not when somebody asks for it. */
function clockOf(monotonic: () => number, ttl: number) {
  return { ttl, perf: { now: monotonic }, ttlResolution: 0, ttlAutopurge: true }
}
