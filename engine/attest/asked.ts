import type { BoundRequest, Hierarchy } from '#attestation'
import { hashed } from '../audit/index.ts'
import type { Mount } from '../mount_table.ts'
import type { Place } from '../refuse.ts'
import type { Caller } from '../vault/authority.ts'
import type { Evidence } from './appraise.ts'
import type { KeyOffer } from './bound_key.ts'
import { hex } from './records.ts'

// What is asked of a `tpm-quote` mount, in the words of its paths, and what the verifier and the audit log make of that.

/** Which request it was, and the address that it came from. */
export type Asked = { readonly txn: string; readonly from: string }
export type OfferFields = {
  readonly ek_certificate: Buffer
  readonly ek_public: Buffer
  readonly ak_public: Buffer
  readonly hierarchy: Hierarchy
  readonly intermediates: readonly string[]
  readonly caller: Caller
}
export type ChallengeFields = {
  readonly operation: string
  readonly ak_name: Buffer
  readonly role: string
  readonly audience: string
  readonly key_thumbprint: string
  readonly mount: string
  readonly creds_role: string
  readonly plugin: string
  readonly action: string
  readonly scope: readonly string[]
}
export type LoginFields = {
  readonly role: string
  readonly ak_name: Buffer
  readonly challenge: Buffer
  readonly attest: Buffer
  readonly signature: Buffer
  readonly pcrs: string
  readonly event_log: Buffer | undefined
  readonly ima_log: Buffer | undefined
  readonly boot_id: string
  readonly key: KeyOffer
  readonly audience: string
  readonly key_thumbprint: string
}
export type DocumentFields = { readonly role: string; readonly audience: string; readonly key_thumbprint: string }

export function evidenceOf({
  challenge,
  attest,
  signature,
  pcrs,
  event_log: eventLog,
  ima_log: imaList,
  boot_id: bootId,
  key,
}: LoginFields): Evidence {
  return { challenge, attest, signature, pcrs, eventLog, imaList, bootId, key }
}

export function placeOf(mount: Mount, path: string, txn: string): Place {
  return { txn, operation: 'update', mount: mount.path, path }
}

/** Where something was asked of an attestation key, in words that whoever asked chose. */
export function akPlaceOf(
  mount: Mount,
  path: string,
  { role, ak_name }: Pick<LoginFields, 'role' | 'ak_name'>,
  txn: string,
): Place {
  return { ...placeOf(mount, path, txn), fields: { role: hashed(role), ak_name: hashed(hex(ak_name)) } }
}

export function loginRequest(
  mount: Mount,
  fields: Pick<LoginFields, 'role' | 'ak_name' | 'audience' | 'key_thumbprint'>,
): BoundRequest {
  const { role, audience, ak_name: akName, key_thumbprint: keyThumbprint } = fields
  return { operation: 'login', mount: mount.path, role, audience, akName, keyThumbprint, plugin: '', action: '', scope: [] }
}

export function credsRequest(fields: ChallengeFields): BoundRequest {
  const { audience, key_thumbprint: keyThumbprint, plugin, action, scope } = fields
  const mount = `${fields.mount.replace(/\/+$/, '')}/`
  return {
    operation: 'creds',
    mount,
    role: fields.creds_role,
    audience,
    akName: fields.ak_name,
    keyThumbprint,
    plugin,
    action,
    scope,
  }
}
