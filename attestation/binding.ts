import { createHash } from 'node:crypto'

/** What a quote answers. Every field is in the context, so a quote given for one question is worth nothing for another. */
export type BoundRequest = {
  readonly operation: 'login' | 'creds'
  /** canonical mount path with its trailing slash, `auth/tpm-quote/` or `broker/` */
  readonly mount: string
  /** the role of that mount */
  readonly role: string
  /** who will rely on what is issued; empty for a login without one */
  readonly audience: string
  /** TPM2B_NAME.name of the attestation key */
  readonly akName: Uint8Array
  /** RFC 7638 SHA-256 thumbprint of the key to bind, base64url; empty when none is bound */
  readonly keyThumbprint: string
  readonly plugin: string
  readonly action: string
  readonly scope: readonly string[]
}

/** SHA-256 of the canonical request: a JSON array of a format tag and the fields in one order, the scope sorted. */
export function contextOf(request: BoundRequest): Buffer {
  const fields = [
    'assay-request-v1',
    request.operation,
    request.mount,
    request.role,
    request.audience,
    Buffer.from(request.akName).toString('hex'),
    request.keyThumbprint,
    request.plugin,
    request.action,
    ...request.scope.toSorted(),
  ]
  return sha256(JSON.stringify(fields))
}

/** The qualifyingData of TPM2_Quote: SHA-256(nonce || context), always 32 bytes (some TPMs take no more than their largest digest). */
export function qualifyingData(nonce: Uint8Array, request: BoundRequest): Buffer {
  return sha256(Buffer.concat([nonce, contextOf(request)]))
}

function sha256(data: string | Uint8Array): Buffer {
  return createHash('sha256').update(data).digest()
}
