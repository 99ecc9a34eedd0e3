import { BrokerError, bytes, type KeyOffer, type Values } from '#engine'

const PUBLIC = 2048
const CERTIFICATE = 8192

/** What may be sent of the key to bind, beside its thumbprint, wherever a quote is sent. */
export const keyFields = {
  key_public: bytes('TPMT_PUBLIC of the key to bind, base64.', { max: PUBLIC }),
  key_attest: bytes(
    'TPMS_ATTEST of TPM2_Certify for that key by the attestation key, with the qualifyingData of the quote, base64.',
    { max: 4096 },
  ),
  key_signature: bytes('TPMT_SIGNATURE over it, base64.', { max: 2048 }),
  key_parent: bytes('TPMT_PUBLIC of the primary key that it was made under, when there is one, base64.', { max: PUBLIC }),
  key_certificate: bytes('Certificate for that key, which it shows at mutual TLS: DER, base64.', { max: CERTIFICATE }),
}

/** @throws BrokerError bad_request when only a part of a certification is there */
export function keyOf(values: Values<typeof keyFields>): KeyOffer {
  const { key_public: area, key_attest: attest, key_signature: signature, key_parent: parent } = values
  const certified = area && attest && signature ? { public: area, attest, signature, ...(parent && { parent }) } : undefined
  if (!certified && (area || attest || signature || parent))
    throw new BrokerError(
      'bad_request',
      'a certified key is key_public, key_attest and key_signature: wanted all of them or none',
    )
  return { certified, certificate: values.key_certificate }
}
