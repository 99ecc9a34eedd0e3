import { sharesPrime } from '#attestation'
import { retryConflicts } from '../conflicts.ts'
import type { Mount } from '../mount_table.ts'
import type { Store } from '../vault/store.ts'

/** The RSA moduli of all endorsement keys that a mount has enrolled, so that a prime which two of them share is found (CVE-2022-26320 and its kin). */
export type Moduli = {
  readonly of: (mount: Mount) => Promise<readonly Buffer[]>
  /** Whether it was added, or is there: one that has a prime in common with another one is not, also when that came in a moment ago.
   *  @throws BrokerError conflict when others add at the same time again and again */
  readonly add: (mount: Mount, modulus: Buffer) => Promise<boolean>
}

/** Many in one record, as a record each would be a call each. */
const PER_CHUNK = 400
const TRIES = 8
type Chunk = { readonly moduli: readonly string[] }

export function openModuli(store: Store): Moduli {
  const decoded = new WeakMap<Chunk, readonly Buffer[]>()
  const folder = (mount: Mount) => `${mount.id}/moduli/`

  const read = async (path: string): Promise<readonly Buffer[]> => {
    const chunk = (await store.get<Chunk>(path))?.value
    if (!chunk) return []
    const known = decoded.get(chunk) ?? chunk.moduli.map(text => Buffer.from(text, 'base64'))
    decoded.set(chunk, known)
    return known
  }
  const add = async (mount: Mount, modulus: string): Promise<boolean> => {
    const last = Math.max(0, (await store.list(folder(mount))).length - 1)
    const kept = await store.fresh<Chunk>(`${folder(mount)}${last}`)
    const moduli = kept?.value.moduli ?? []
    if (moduli.includes(modulus)) return true
    const before = await Promise.all(Array.from({ length: last }, (_, place) => read(`${folder(mount)}${place}`)))
    const others = [...before.flat(), ...moduli.map(text => Buffer.from(text, 'base64'))]
    if (sharesPrime(Buffer.from(modulus, 'base64'), others)) return false
    const full = moduli.length >= PER_CHUNK
    const [place, value, version] = full ? [last + 1, [modulus], 0] : [last, [...moduli, modulus], kept?.version ?? 0]
    await store.put(`${folder(mount)}${place}`, { moduli: value }, version)
    return true
  }

  return {
    of: async mount => {
      const names = await store.list(folder(mount))
      return (await Promise.all(names.map(name => read(folder(mount) + name)))).flat()
    },
    add: async (mount, modulus) => {
      const text = modulus.toString('base64')
      return (await moduliInclude(store, folder(mount), text)) || retryConflicts(TRIES, () => add(mount, text))
    },
  }
}

async function moduliInclude(store: Store, folder: string, modulus: string): Promise<boolean> {
  const chunks = await Promise.all((await store.list(folder)).map(name => store.get<Chunk>(folder + name)))
  return chunks.some(chunk => chunk?.value.moduli.includes(modulus))
}
