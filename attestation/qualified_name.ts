import { createHash } from 'node:crypto'
import { Writer } from './tpm2/bytes.ts'
import { handle, hashes, hashOf } from './tpm2/constants.ts'
import { nameOf } from './tpm2/public.ts'

/** Where an attestation key lives: a primary of the endorsement or the owner hierarchy, or a child of the endorsement key. */
export const hierarchies = ['endorsement', 'ek', 'owner'] as const
export type Hierarchy = (typeof hierarchies)[number]

/**
 * The qualifiedSigner of what a key attests: nameAlg || H(qualified name of the parent || Name), where a hierarchy's own is its
 * handle (TPM 2.0 Library Part 1, Names). It shows under which parent a key was made.
 * @param akName TPM2B_NAME.name
 * @param ekPublic TPMT_PUBLIC of the parent, for `ek` alone
 */
export function qualifiedNameOf(hierarchy: Hierarchy, akName: Uint8Array, ekPublic?: Uint8Array): Buffer {
  if (hierarchy === 'owner') return qualifiedUnder(new Writer().u32(handle.OWNER).done(), akName)
  const endorsement = new Writer().u32(handle.ENDORSEMENT).done()
  if (hierarchy === 'endorsement') return qualifiedUnder(endorsement, akName)
  if (!ekPublic) throw new TypeError('the qualified name of a child of the EK needs the public area of the EK')
  return qualifiedUnder(qualifiedUnder(endorsement, nameOf(ekPublic)), akName)
}

/** The qualified name of a key under a parent with this one. */
export function qualifiedUnder(parent: Uint8Array, name: Uint8Array): Buffer {
  const nameAlg = name.subarray(0, 2)
  const hash = hashOf(Buffer.from(nameAlg).readUInt16BE())
  if (hash === undefined || name.length !== 2 + hashes[hash].size) throw new TypeError('not a Name of a known hash')
  return Buffer.concat([nameAlg, createHash(hash).update(parent).update(name).digest()])
}
