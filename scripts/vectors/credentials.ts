import { admitEk, type Credential, type CredentialInput, type EndorsementKey, makeCredential, type Verdict } from '#attestation'
import { ekAreaOf, keyOf } from './areas.ts'
import { bytesIn, type Case, type Expectation, expectationOf, type Fields, idOf, textIn } from './case.ts'

/** A credential that another implementation has made of the same secrets: then ours is the same, byte for byte. */
export function credential(record: Fields, place: string): Case {
  const made = () => make(record)
  return { id: idOf(record, place), expected: comparison(record, made), judge: () => (made().ok ? 'OK' : codeOf(made())) }
}

function codeOf(verdict: Verdict<unknown>): string {
  return verdict.ok ? 'OK' : verdict.code
}

function make(record: Fields): Verdict<Credential> {
  const ek = ekIn(record)
  if (!ek.ok) return ek
  const [akName, secret] = [bytesIn(record, 'ak_name_hex'), bytesIn(record, 'secret_hex')]
  return { ok: true, value: makeCredential({ ek: ek.value, akName, secret, random: randomOf(record) }) }
}

/** TPM2B_PUBLIC, or a key for which a public area is made. */
function ekIn(record: Fields): Verdict<EndorsementKey> {
  if (record.ek_tpm2b_public_hex !== undefined) return admitEk(bytesIn(record, 'ek_tpm2b_public_hex').subarray(2))
  return admitEk(ekAreaOf(keyOf(textIn(record, 'ek_spki_pem'))))
}

/** What the other implementation drew: a seed, a private key (of which ours draws the value less one), or zeros. */
function randomOf(record: Fields): CredentialInput['random'] {
  const scalar = record.ephemeral_private_decimal
  if (typeof scalar === 'string') return size => Buffer.from((BigInt(scalar) - 1n).toString(16).padStart(2 * size, '0'), 'hex')
  return size => (record.seed_hex === undefined ? Buffer.alloc(size) : bytesIn(record, 'seed_hex'))
}

/** tpm2-tools' form of a file: a magic number and a version, then the two structures. */
const FILE_HEAD = Buffer.from('badcc0de00000001', 'hex')
/** TPM2B_ID_OBJECT of a SHA-256 name and 32 bytes: what follows is random under OAEP, and under a key pair that was drawn otherwise. */
const ID_OBJECT = 70

function comparison(record: Fields, made: () => Verdict<Credential>): Expectation {
  const own = expectationOf(record)
  const wanted = bytesWanted(record)
  if (own.says !== null || wanted === undefined) return own
  return { says: 'OK', holds: () => isSame(wanted, made(), isDrawnOtherwise(record)) }
}

/** The result that the set names, of which the first bytes have to be ours. */
function bytesWanted(record: Fields): Buffer | undefined {
  if (record.expected_hex !== undefined) return bytesIn(record, 'expected_hex')
  if (record.expected_first_80_bytes_hex !== undefined) return bytesIn(record, 'expected_first_80_bytes_hex').subarray(0, 80)
  if (record.expected_idobject_plus_secret_hex === undefined) return undefined
  return Buffer.concat([FILE_HEAD, bytesIn(record, 'expected_idobject_plus_secret_hex')])
}

/** Another implementation makes another key pair of the same zeros. */
function isDrawnOtherwise(record: Fields): boolean {
  const ek = ekIn(record)
  return record.rng !== undefined && ek.ok && ek.value.public.kind === 'ecc'
}

function isSame(wanted: Buffer, made: Verdict<Credential>, drawnOtherwise: boolean): boolean {
  if (!made.ok) return false
  const ours = Buffer.concat([FILE_HEAD, made.value.credentialBlob, made.value.encryptedSecret])
  if (drawnOtherwise) return ours.length === wanted.length
  const end = ours.length > FILE_HEAD.length + 200 ? FILE_HEAD.length + ID_OBJECT : wanted.length // RSA
  return ours.subarray(0, Math.min(end, wanted.length)).equals(wanted.subarray(0, end))
}
