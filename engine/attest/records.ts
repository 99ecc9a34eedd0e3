import { LRUCache } from 'lru-cache'
import { type AttestationKey, admitAk, type Hierarchy, type Rejection, reject } from '#attestation'
import type { Collection } from '../collection.ts'
import type { Values } from '../fields.ts'
import type { RefusalCode, Verdict } from '../refusals.ts'
import type { Store } from '../vault/store.ts'
import type { tpmFields } from './settings.ts'

/** An enrolled attestation key, one record each, which belongs to one TPM for ever. Byte fields are base64, as JSON keeps them. */
export type AkRecord = {
  readonly tpm_id: string
  readonly ak_public: string
  readonly ek_public: string
  readonly hierarchy: Hierarchy
  readonly enrolled_at: string
}

/** What the last accepted quote of a key said of its boot; written when it changes, so that a replica that starts anew knows it. */
export type BootRecord = {
  readonly resetCount: number
  readonly restartCount: number
  readonly firmwareVersion: string
  /** the key was enrolled again since: the next quote may begin anew */
  readonly anew?: boolean
}

/** The path that a TPM enrolled with, DER in base64, from its certificate to the anchor; `ended`: it was revoked, and the TPM has lost what it had. */
export type EndorsementRecord = { readonly path: readonly string[]; readonly ended?: boolean }

/** An enrolled key, ready to verify with. */
export type EnrolledAk = { readonly record: AkRecord; readonly key: AttestationKey; readonly maker: string }

export const akPath = (mountId: string, akName: Uint8Array) => recordOfKey(mountId, hex(akName))
export const recordOfKey = (mountId: string, akName: string) => `${mountId}/ak/${akName}`
export const bootPath = (mountId: string, akName: Uint8Array) => bootFolder(mountId) + hex(akName)
export const bootFolder = (mountId: string) => `${mountId}/boot/`
export const endorsementFolder = (mountId: string) => `${mountId}/endorsement/`
export const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')

/** What keeps a machine, or one of its keys, out whatever it shows. */
export function outOf(
  tpm: Pick<Values<typeof tpmFields>, 'disabled' | 'disabled_aks' | 'revocation'>,
  tpmId: string,
  akName: string,
): Rejection<RefusalCode> | undefined {
  if (tpm.disabled) return reject('TPM_DISABLED', tpmId)
  if (tpm.revocation === 'revoked') return reject('REVOKED', 'its maker revoked the endorsement certificate')
  if (tpm.disabled_aks.includes(akName)) return reject('AK_DISABLED', akName)
  return undefined
}

export type AkRecords = {
  readonly find: (mountId: string, akName: Uint8Array) => Promise<Verdict<EnrolledAk>>
}

const MAX_PARSED = 10_000

/** Looks keys up by Name. The record is at most as old as the store's cache; the parsed key is the same bytes for ever, as its Name is their hash. */
export function openAkRecords(store: Store, tpms: Collection<typeof tpmFields>): AkRecords {
  const parsed = new LRUCache<string, AttestationKey>({ max: MAX_PARSED })
  const parse = (record: AkRecord): Verdict<AttestationKey> => {
    const known = parsed.get(record.ak_public)
    if (known) return { ok: true, value: known }
    const admitted = admitAk(Buffer.from(record.ak_public, 'base64'))
    if (admitted.ok) parsed.set(record.ak_public, admitted.value)
    return admitted
  }
  return {
    find: async (mountId, akName) => {
      const record = (await store.get<AkRecord>(akPath(mountId, akName)))?.value
      if (!record) return reject('AK_NOT_ENROLLED', 'no record has this name')
      const tpm = await tpms.get(mountId, record.tpm_id)
      if (!tpm) return reject('AK_NOT_ENROLLED', 'the record of the TPM was deleted')
      const out = outOf(tpm, record.tpm_id, hex(akName))
      if (out) return out
      const key = parse(record)
      if (!key.ok) return key
      if (!key.value.name.equals(akName)) return reject('AK_NOT_ENROLLED', 'the record holds another key')
      return { ok: true, value: { record, key: key.value, maker: tpm.maker } }
    },
  }
}
