import type { Verdict } from '../verdict.ts'
import { parse, type Reader } from './bytes.ts'
import { attestType, GENERATED, type Hash, hashOf, PCRS } from './constants.ts'

/** TPMS_ATTEST is refused above this many bytes; a quote of one bank has about 145. */
const ATTEST_LIMIT = 4096
const BANKS_LIMIT = 16
const SELECT_LIMIT = 4

/** What TPM2_Quote attests (TPM 2.0 Library Part 2, TPMS_ATTEST with TPMS_QUOTE_INFO). Buffers are views of the bytes given. */
export type Quote = {
  readonly qualifiedSigner: Buffer
  /** the qualifyingData of TPM2_Quote */
  readonly extraData: Buffer
  readonly clock: Clock
  /** TPMS_CLOCK_INFO.safe: no older value of the clock was reported before */
  readonly safe: boolean
  /** in the order that the TPM signed, banks with an empty mask included */
  readonly selection: readonly BankSelection[]
  readonly pcrDigest: Buffer
}
/** TPMS_CLOCK_INFO and firmwareVersion: milliseconds, resets of the TPM, resumes since the last reset, and whose firmware. */
export type Clock = {
  readonly clock: bigint
  readonly resetCount: number
  readonly restartCount: number
  /** 16 hexadecimal digits, the vendor's to interpret */
  readonly firmwareVersion: string
}
/** TPMS_PCR_SELECTION; bit n of the mask is PCR n. */
export type BankSelection = { readonly bank: Hash; readonly mask: number }

/**
 * Reads a TPMS_ATTEST to its last byte, which must be a quote. The checks, in order: magic, type, sizes, safe, count of banks,
 * then per bank its algorithm, the highest index and whether it came before, then trailing bytes, then whether any PCR is selected.
 * @returns LIMIT, BAD_MAGIC, NOT_A_QUOTE, TRUNCATED, BAD_ENCODING, EMPTY_SELECTION, UNSUPPORTED_ALG, DUPLICATE_BANK or TRAILING_DATA when refused
 */
export function parseQuote(bytes: Uint8Array): Verdict<Quote> {
  return parse(bytes, ATTEST_LIMIT, readQuote)
}

function readQuote(reader: Reader): Quote {
  const head = readHead(reader, attestType.QUOTE, 'NOT_A_QUOTE')
  const selection = readSelection(reader)
  const pcrDigest = reader.sized()
  reader.end()
  if (selection.every(({ mask }) => mask === 0)) reader.fail('EMPTY_SELECTION', 'no bank has a PCR selected')
  return { ...head, selection, pcrDigest }
}

/** What TPM2_Certify attests (TPM 2.0 Library Part 2, TPMS_ATTEST with TPMS_CERTIFY_INFO): which key is in the same TPM. Buffers are views of the bytes given. */
export type Certification = Attested & {
  /** TPM2B_NAME.name of the key */
  readonly name: Buffer
  readonly qualifiedName: Buffer
}

/**
 * Reads a TPMS_ATTEST to its last byte, which must certify a key.
 * @returns LIMIT, BAD_MAGIC, NOT_A_CERTIFICATION, TRUNCATED, BAD_ENCODING or TRAILING_DATA when refused
 */
export function parseCertification(bytes: Uint8Array): Verdict<Certification> {
  return parse(bytes, ATTEST_LIMIT, reader => {
    const head = readHead(reader, attestType.CERTIFY, 'NOT_A_CERTIFICATION')
    return { ...head, name: reader.sized(), qualifiedName: reader.sized() }
  })
}

/** What every TPMS_ATTEST begins with. */
export type Attested = Pick<Quote, 'qualifiedSigner' | 'extraData' | 'clock' | 'safe'>

function readHead(reader: Reader, wanted: number, otherwise: 'NOT_A_QUOTE' | 'NOT_A_CERTIFICATION'): Attested {
  if (reader.u32() !== GENERATED) reader.fail('BAD_MAGIC', 'TPM_GENERATED_VALUE is not first')
  const type = reader.u16()
  if (type !== wanted) reader.fail(otherwise, `TPMI_ST_ATTEST is 0x${type.toString(16)}`)
  const qualifiedSigner = reader.sized()
  const extraData = reader.sized()
  const [clock, resetCount, restartCount] = [reader.u64(), reader.u32(), reader.u32()]
  const safe = yesOrNo(reader)
  const firmwareVersion = reader.take(8).toString('hex')
  return { qualifiedSigner, extraData, clock: { clock, resetCount, restartCount, firmwareVersion }, safe }
}

/** TPMI_YES_NO: one byte, 0 or 1. */
function yesOrNo(reader: Reader): boolean {
  const value = reader.u8()
  if (value > 1) reader.fail('BAD_ENCODING', `TPMS_CLOCK_INFO.safe is ${value}`)
  return value === 1
}

/** TPML_PCR_SELECTION */
function readSelection(reader: Reader): BankSelection[] {
  const count = reader.u32()
  if (count === 0) reader.fail('EMPTY_SELECTION', 'no bank is selected')
  if (count > BANKS_LIMIT) reader.fail('LIMIT', `${count} banks, at most ${BANKS_LIMIT} are read`)
  const selection: BankSelection[] = []
  while (selection.length < count) selection.push(readBank(reader, selection))
  return selection
}

function readBank(reader: Reader, before: readonly BankSelection[]): BankSelection {
  const id = reader.u16()
  const bank = hashOf(id)
  if (bank === undefined) return reader.fail('UNSUPPORTED_ALG', `PCR bank 0x${id.toString(16)}`)
  const mask = readMask(reader)
  if (before.some(other => other.bank === bank)) reader.fail('DUPLICATE_BANK', `bank ${bank} is selected twice`)
  return { bank, mask }
}

/** sizeofSelect and pcrSelect: octet n holds PCR 8n to 8n + 7, the lowest in its lowest bit. */
function readMask(reader: Reader): number {
  const size = reader.u8()
  if (size > SELECT_LIMIT) reader.fail('LIMIT', `sizeofSelect is ${size}, at most ${SELECT_LIMIT} is read`)
  let mask = 0
  for (let octet = 0; octet < size; octet += 1) mask += reader.u8() * 2 ** (8 * octet)
  if (mask >= 2 ** PCRS) reader.fail('LIMIT', `a PCR above ${PCRS - 1} is selected`)
  return mask
}
