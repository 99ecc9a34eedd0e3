import type { Reader } from '../tpm2/bytes.ts'

// unlike what a TPM writes, logs are little-endian

export function u16(reader: Reader): number {
  return reader.take(2).readUInt16LE()
}

export function u32(reader: Reader): number {
  return reader.take(4).readUInt32LE()
}
