import { parse, type Reader } from '../tpm2/bytes.ts'
import { reject, type Verdict } from '../verdict.ts'
import { u32 } from './little_endian.ts'

/** UEFI_VARIABLE_DATA: a variable of the firmware as it was measured. */
export type EfiVariable = {
  /** VendorGuid, as text */
  readonly guid: string
  readonly name: string
  readonly value: Buffer
}

export const GLOBAL_VARIABLE = '8be4df61-93ca-11d2-aa0d-00e098032b8c'
export const IMAGE_SECURITY_DATABASE = 'd719b2cb-3d3a-4596-a3bc-dad00e67656f'

const GUID_SIZE = 16

/**
 * Reads the data of an EV_EFI_VARIABLE event to its last byte (TCG PC Client Platform Firmware Profile, UEFI_VARIABLE_DATA).
 * @returns BAD_ENCODING when refused
 */
export function readEfiVariable(data: Uint8Array): Verdict<EfiVariable> {
  return nested('UEFI_VARIABLE_DATA', parse(data, data.length, readVariable))
}

function readVariable(reader: Reader): EfiVariable {
  const guid = readGuid(reader)
  const [characters, size] = [u64(reader), u64(reader)]
  const name = reader.take(2 * characters).toString('utf16le')
  return { guid, name, value: reader.take(size) }
}

/** What a list of trusted or forbidden keys holds: a certificate, a digest of an image, or what else `type` says. */
export type EfiSignature = {
  /** SignatureType and SignatureOwner, as text */
  readonly type: string
  readonly owner: string
  readonly data: Buffer
}

export const CERT_X509 = 'a5c059a1-94e4-4aa7-87b5-ab155c2bf072'
export const CERT_SHA256 = 'c1c41626-504c-4092-aca9-41f936934328'

/** SignatureListSize, SignatureHeaderSize and SignatureSize come after the type. */
const LIST_HEADER = 28

/**
 * Reads the value of PK, KEK, db or dbx to its last byte: EFI_SIGNATURE_LISTs, none of which may be empty of what it declares
 * (UEFI Specification, Signature Database).
 * @returns BAD_ENCODING when refused
 */
export function readSignatureLists(value: Uint8Array): Verdict<EfiSignature[]> {
  return nested('EFI_SIGNATURE_LIST', parse(value, value.length, readLists))
}

function readLists(reader: Reader): EfiSignature[] {
  const signatures: EfiSignature[] = []
  while (reader.left > 0) for (const one of readList(reader)) signatures.push(one)
  return signatures
}

function readList(reader: Reader): EfiSignature[] {
  const type = readGuid(reader)
  const [listSize, headerSize, size] = [u32(reader), u32(reader), u32(reader)]
  const room = listSize - LIST_HEADER - headerSize
  if (room < 0 || size <= GUID_SIZE || room % size !== 0)
    reader.fail('BAD_ENCODING', `a list of ${listSize} bytes with a header of ${headerSize} and signatures of ${size}`)
  if (type === CERT_SHA256 && size !== GUID_SIZE + 32)
    reader.fail('BAD_ENCODING', `a SHA-256 digest of ${size - GUID_SIZE} bytes`)
  reader.take(headerSize)
  const end = reader.left - room
  if (end < 0) reader.fail('BAD_ENCODING', `a list of ${listSize} bytes, which are not there`)
  const signatures: EfiSignature[] = []
  while (reader.left > end) signatures.push({ type, owner: readGuid(reader), data: reader.take(size - GUID_SIZE) })
  return signatures
}

/** The structure is inside of an event that is whole, so what it lacks or has too much is its own fault. */
function nested<T>(structure: string, read: Verdict<T>): Verdict<T> {
  return read.ok ? read : reject('BAD_ENCODING', `${structure}: ${read.detail}`)
}

/** EFI_GUID: its first three fields are little-endian numbers. */
function readGuid(reader: Reader): string {
  const hex = reader.take(GUID_SIZE).toString('hex')
  const octets = (...places: number[]) => places.map(place => hex.slice(2 * place, 2 * place + 2)).join('')
  return [octets(3, 2, 1, 0), octets(5, 4), octets(7, 6), hex.slice(16, 20), hex.slice(20)].join('-')
}

/** A UINT64 that counts bytes which are there, so that it is a small number. */
function u64(reader: Reader): number {
  const value = reader.take(8).readBigUInt64LE()
  return value <= BigInt(reader.left)
    ? Number(value)
    : reader.fail('BAD_ENCODING', `a size of ${value}, ${reader.left} bytes are left`)
}
