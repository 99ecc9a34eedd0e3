import { createPublicKey, type KeyObject } from 'node:crypto'
import { type CorimKey, verifyCorim } from '#attestation'
import { type Collection, openCollection } from '../collection.ts'
import { BrokerError } from '../errors.ts'
import { bytes, parseFields, required, text, type Values } from '../fields.ts'
import type { Mount } from '../mount_table.ts'
import type { Store } from '../vault/store.ts'
import { type ReferenceRecord, type References, referenceFields } from './references.ts'

const signerFields = {
  public_key: required(text('Public key of who may sign reference values, PEM: P-256, P-384 or Ed25519.', { max: 4096 })),
  description: text('Whose key it is.', { fallback: '' }),
}
export type Signers = Collection<typeof signerFields>

export const corimFields = {
  corim: required(bytes('A signed CoRIM (COSE_Sign1), base64.', { max: 65_536 })),
  owner: text('Who answers for the set.', { fallback: '' }),
  reason: text('Why it was written, such as the number of the change.', { fallback: '' }),
}

/** Keys of those whose signed reference values are taken. */
export function openSigners(store: Store): Signers {
  return openCollection(store, 'signer', signerFields, { check: ({ public_key }) => void keyOf(public_key) })
}

const KINDS = ['prime256v1', 'secp384r1', 'ed25519']

function keyOf(pem: string): KeyObject {
  const key = parsed(pem)
  const kind = key?.asymmetricKeyDetails?.namedCurve ?? key?.asymmetricKeyType ?? ''
  if (key && pem.trim().startsWith('-----BEGIN PUBLIC KEY-----') && KINDS.includes(kind)) return key
  throw new BrokerError('bad_request', 'public_key: wanted a public key in PEM, of P-256, P-384 or Ed25519')
}

function parsed(pem: string): KeyObject | undefined {
  try {
    return createPublicKey(pem)
  } catch {
    return undefined
  }
}

type Kept = { readonly reference: References; readonly signer: Signers }

/** Writes the set that a signed CoRIM says: what was in the set before is gone.
 *  @throws BrokerError bad_request, with the code of the refusal, when it is not taken */
export async function referenceFromCorim(
  { reference, signer }: Kept,
  mount: Mount,
  name: string,
  { corim, ...words }: Values<typeof corimFields>,
  writer: string,
): Promise<ReferenceRecord> {
  const read = verifyCorim(corim, await keysOf(signer, mount))
  if (!read.ok) throw new BrokerError('bad_request', `corim: ${read.code}: ${read.detail}`)
  const { id, signer: by, pcrs, notBefore, notAfter } = read.value
  const set = {
    ...parseFields(referenceFields, {}).values,
    ...words,
    pcrs,
    not_before: instant(notBefore),
    not_after: instant(notAfter),
    description: `CoRIM ${id}, signed by ${by}`,
  }
  return reference.write(mount.id, name, set, writer)
}

async function keysOf(signer: Signers, mount: Mount): Promise<CorimKey[]> {
  const names = await signer.list(mount.id)
  const records = await Promise.all(names.map(async name => ({ name, record: await signer.get(mount.id, name) })))
  return records.flatMap(({ name, record }) => (record ? [{ name, key: keyOf(record.public_key) }] : []))
}

function instant(seconds: number | undefined): string {
  return seconds === undefined ? '' : new Date(seconds * 1000).toISOString()
}
