import { handle } from '#attestation'
import type { EkKind } from './kinds.ts'
import type { Authorization } from './tpm/authorization.ts'
import { createPrimary, type LoadedKey, type NvIndex, readNv, readNvPublic, readPublic } from './tpm/commands.ts'
import { fault, TpmError } from './tpm/errors.ts'
import { hex } from './tpm/response_codes.ts'
import { ekTemplates } from './tpm/templates.ts'
import type { Tpm } from './tpm/tpm.ts'

/**
 * The endorsement key: the one that the TPM keeps ready, when it is of the TCG's template, else made from the template, which
 * takes a discrete TPM some seconds for RSA.
 * @param authorization of the endorsement hierarchy
 */
export async function loadEk(tpm: Tpm, kind: EkKind, authorization: Authorization): Promise<LoadedKey> {
  const { head, unique, persistent } = ekTemplates[kind]
  const kept = await orAbsent(readPublic(tpm, persistent))
  if (kept?.public.bytes.subarray(0, head.length).equals(head)) return kept
  return createPrimary(tpm, handle.ENDORSEMENT, Buffer.concat([head, unique]), authorization)
}

/** The maker's certificate of the endorsement key, DER. @throws TpmError of MISSING when the TPM has none */
export async function readEkCertificate(tpm: Tpm, kind: EkKind, authorize: () => Authorization): Promise<Buffer> {
  const { certificate } = ekTemplates[kind]
  const index: NvIndex | undefined = await orAbsent(readNvPublic(tpm, certificate))
  if (index === undefined)
    throw fault('MISSING', `the TPM has no certificate of a ${kind} endorsement key at NV index ${hex(certificate)}`)
  return withoutPadding(await readNv(tpm, index, authorize))
}

/** A DER SEQUENCE says how long it is; makers fill the rest of the index with 0x00 or 0xff. What does not begin like a certificate is given as it is. */
export function withoutPadding(stored: Buffer): Buffer {
  const longForm = stored.length > 4 && stored.readUInt16BE(0) === 0x3082
  return longForm ? stored.subarray(0, 4 + stored.readUInt16BE(2)) : stored
}

/** undefined when the TPM says no; trouble on the way to the TPM is thrown. */
async function orAbsent<T>(found: Promise<T>): Promise<T | undefined> {
  try {
    return await found
  } catch (error) {
    if (error instanceof TpmError && error.code !== 0) return undefined
    throw error
  }
}
