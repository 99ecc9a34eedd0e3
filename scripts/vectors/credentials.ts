import {
  admitEk,
  type Credential,
  type CredentialInput,
  type EndorsementKey,
  hashes,
  hashOf,
  makeCredential,
  parse,
  reject,
  type Verdict,
} from '#attestation'
import { ekAreaOf, keyOf } from './areas.ts'
import { bytesIn, type Case, type Expectation, expectationOf, type Fields, idOf, outcome, textIn, Unusable } from './case.ts'

/** A credential that another implementation has made of the same secrets: then ours is the same, byte for byte. */
export function credential(record: Fields, place: string): Case {
  const made = () => make(record)
  return { id: idOf(record, place), expected: comparison(record, made), judge: () => outcome(made()) }
}

function make(record: Fields): Verdict<Credential> {
  const ek = ekIn(record)
  if (!ek.ok) return ek
  const [akName, secret] = [bytesIn(record, 'ak_name_hex'), bytesIn(record, 'secret_hex')]
  if (secret.length > hashes[ek.value.nameAlg].size) return reject('LIMIT', `a secret of ${secret.length} bytes`)
  if (!isName(akName)) return reject('BAD_ENCODING', 'ak_name_hex is no TPM2B_NAME.name')
  return { ok: true, value: makeCredential({ ek: ek.value, akName, secret, random: randomOf(record) }) }
}

/** TPM2B_PUBLIC, or a key for which a public area is made. */
function ekIn(record: Fields): Verdict<EndorsementKey> {
  if (record.ek_tpm2b_public_hex !== undefined) {
    const area = parse(bytesIn(record, 'ek_tpm2b_public_hex'), 4096, reader => reader.sized())
    return area.ok ? admitEk(area.value) : area
  }
  return admitEk(ekAreaOf(keyOf(textIn(record, 'ek_spki_pem'))))
}

/** What the other implementation drew: a seed, a private key (of which ours draws the value less one), or zeros. */
function randomOf(record: Fields): CredentialInput['random'] {
  const scalar = record.ephemeral_private_decimal === undefined ? undefined : textIn(record, 'ephemeral_private_decimal')
  if (scalar?.match(/^[1-9][0-9]{0,120}$/) === null) throw new Unusable('ephemeral_private_decimal is no private key')
  if (scalar !== undefined) return size => Buffer.from((BigInt(scalar) - 1n).toString(16).padStart(2 * size, '0'), 'hex')
  return size => (record.seed_hex === undefined ? Buffer.alloc(size) : seedIn(record, size))
}

function seedIn(record: Fields, size: number): Buffer {
  const seed = bytesIn(record, 'seed_hex')
  if (seed.length !== size) throw new Unusable(`seed_hex is not of ${size} bytes`)
  return seed
}

/** nameAlg and a digest of it. */
function isName(name: Buffer): boolean {
  const alg = name.length > 2 ? hashOf(name.readUInt16BE()) : undefined
  return alg !== undefined && name.length === 2 + hashes[alg].size
}

/** tpm2-tools' form of a file: a magic number and a version, then the two structures. */
const FILE_HEAD = Buffer.from('badcc0de00000001', 'hex')

/** The members that name a result, and how much of it is there. */
const results = ['expected_hex', 'expected_first_80_bytes_hex', 'expected_idobject_plus_secret_hex'] as const

function comparison(record: Fields, made: () => Verdict<Credential>): Expectation {
  const own = expectationOf(record)
  if (own.says !== null || results.every(name => record[name] === undefined)) return own
  return { says: 'OK', holds: () => isSame(record, made()) }
}

/** What is random under OAEP, and under a key pair that was drawn otherwise, has to be as long as ours; all else has to be ours. */
function isSame(record: Fields, made: Verdict<Credential>): boolean {
  if (!made.ok) return false
  const { credentialBlob, encryptedSecret } = made.value
  const sealed = Buffer.concat([FILE_HEAD, credentialBlob])
  const ours = Buffer.concat([sealed, encryptedSecret])
  if (record.expected_first_80_bytes_hex !== undefined) {
    const start = bytesIn(record, 'expected_first_80_bytes_hex').subarray(0, 80)
    return start.length >= sealed.length && ours.subarray(0, start.length).equals(start)
  }
  const wanted = bytesWanted(record)
  if (wanted.length !== ours.length) return false
  const ek = ekIn(record)
  const isEcc = ek.ok && ek.value.public.kind === 'ecc'
  if (isEcc && record.rng !== undefined) return true // another implementation makes another key pair of the same zeros
  return isEcc ? wanted.equals(ours) : wanted.subarray(0, sealed.length).equals(sealed)
}

function bytesWanted(record: Fields): Buffer {
  if (record.expected_hex !== undefined) return bytesIn(record, 'expected_hex')
  return Buffer.concat([FILE_HEAD, bytesIn(record, 'expected_idobject_plus_secret_hex')])
}
