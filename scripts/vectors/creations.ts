import { createHash } from 'node:crypto'
import { admitAk, attestType, GENERATED, nameOf, parse, type Reader, verifySignature } from '#attestation'
import { bytesIn, type Case, expectationOf, type Fields, idOf } from './case.ts'

/** TPM2_CertifyCreation: how a key came to be, signed by that key. */
export function creation(record: Fields, place: string): Case {
  return { id: idOf(record, place), expected: expectationOf(record), judge: () => judge(record) }
}

/** What Windows gives the attestation keys that it makes. */
export const WINDOWS_POLICY = Buffer.from('9dffcbf36c383ae699fb9868dc6dcb89d7153884be2803922c124158bfad22ae', 'hex')

function judge(record: Fields): string {
  const area = bytesIn(record, 'tpmt_public_hex')
  const key = admitAk(area, { authPolicies: [WINDOWS_POLICY] })
  if (!key.ok) return key.code
  const attest = bytesIn(record, 'attest_hex')
  const made = parse(attest, 4096, readCreation)
  if (!made.ok) return made.code
  const signed = verifySignature(bytesIn(record, 'tpmt_signature_hex'), attest, key.value)
  if (!signed.ok) return signed.code
  const outside = record.outside_info_hex === undefined ? made.value.extraData : bytesIn(record, 'outside_info_hex')
  if (!made.value.extraData.equals(outside)) return 'NONCE_MISMATCH'
  if (!made.value.objectName.equals(nameOf(area))) return 'BAD_KEY'
  const { nameAlg } = key.value.public
  const digest = createHash(nameAlg).update(bytesIn(record, 'creation_data_hex')).digest()
  return made.value.creationHash.equals(digest) ? 'OK' : 'BAD_ENCODING'
}

type Creation = { readonly extraData: Buffer; readonly objectName: Buffer; readonly creationHash: Buffer }

/** TPMS_ATTEST with TPMS_CREATION_INFO */
function readCreation(reader: Reader): Creation {
  if (reader.u32() !== GENERATED) reader.fail('BAD_MAGIC', 'TPM_GENERATED_VALUE is not first')
  if (reader.u16() !== attestType.CREATION) reader.fail('BAD_ENCODING', 'no attestation of a creation')
  reader.sized() // qualifiedSigner
  const extraData = reader.sized()
  reader.take(8 + 4 + 4 + 1 + 8) // TPMS_CLOCK_INFO and firmwareVersion
  return { extraData, objectName: reader.sized(), creationHash: reader.sized() }
}
