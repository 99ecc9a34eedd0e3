import { hash } from 'node:crypto'
import type { PcrTable } from '../pcr_table.ts'
import type { Bank } from '../pcrs.ts'
import { type Hash, hashes } from '../tpm2/constants.ts'
import { accept, type Rejection, reject, type Verdict } from '../verdict.ts'
import { IMA_PCR, type ImaEntry, type ImaEntryRules, type ImaText, readImaLine } from './ima_entry.ts'

/** A list is refused above this many bytes: some 200,000 entries. */
const IMA_LIMIT = 33_554_432
const LINE_LIMIT = 16_384
/** About two milliseconds. */
const LINES_PER_ROUND = 250

export type ImaRules = ImaEntryRules & {
  readonly bank: Bank
  /** what the kernel extends the bank with: the template hash in its algorithm, or that of SHA-1 with zeros after it, as before Linux 5.8 */
  readonly extends: 'bank' | 'padded-sha1'
  /** the PCRs that the first entry is a digest of: 0 to 7, as before Linux 5.8 or with SHA-1, 0 to 9, or it is not looked at */
  readonly bootAggregate: '0-7' | '0-9' | 'unchecked'
  /** accepts that files were changed while they were in use */
  readonly allowViolations?: boolean
  /** the value of PCR 10 that an earlier round ended at, when the list begins where that one stopped */
  readonly from?: Uint8Array
  readonly linesPerRound?: number
}

/** What PCR 10 says of a machine: what was measured up to the quote, and nothing else. */
export type ImaClaims = {
  readonly bank: Bank
  readonly files: readonly ImaFile[]
  /** how many entries say that a file was changed while it was in use: of which, nothing says */
  readonly violations: number
  /** where in the list the next entry begins: what follows was measured after the quote, and is for the next time */
  readonly end: number
  /** PCR 10 there */
  readonly value: Buffer
}
export type ImaFile = Pick<ImaEntry, 'template' | 'digest' | 'path' | 'file' | 'extra'>

/**
 * Judges the measurement list of IMA against a quote. The list of a machine that runs for long takes hundreds of milliseconds: so it
 * is judged in rounds, and the caller lets others run between them. Entries are read and extended until the value is the quoted one
 * of PCR 10, as a list is nearly always longer than what was quoted before it was read; what follows is not looked at. The first
 * entry has to be the boot aggregate.
 * @param quoted the values that the quote was verified over
 * @returns a generator, at whose end is the verdict: what `readImaEntry` returns when refused, PCR_NOT_QUOTED, LIMIT, LOG_MISSING,
 *   LOG_MISMATCH or EVENT_SEMANTICS
 */
export function* appraiseImaList(list: Uint8Array, quoted: PcrTable, rules: ImaRules): Rounds {
  const { bank, from, linesPerRound = LINES_PER_ROUND } = rules
  const goal = quoted.get(bank)?.get(IMA_PCR)?.toString('latin1')
  if (goal === undefined) return reject('PCR_NOT_QUOTED', `PCR ${IMA_PCR} of ${bank} is not signed`)
  if (list.length > IMA_LIMIT) return reject('LIMIT', `an IMA list of ${list.length} bytes, at most ${IMA_LIMIT} are read`)
  if (list.length === 0 && from === undefined) return reject('LOG_MISSING', 'the IMA list is empty')
  const text = { bytes: list, text: Buffer.from(list.buffer, list.byteOffset, list.byteLength).toString('latin1') }
  const extend = extender(bank)
  const files: ImaFile[] = []
  let [value, end, violations] = [Buffer.from(from ?? Buffer.alloc(hashes[bank].size)).toString('latin1'), 0, 0]
  for (let line = 0; value !== goal || (line === 0 && from === undefined); line += 1) {
    if (line > 0 && line % linesPerRound === 0) yield
    const stop = endOfLine(text, end)
    const read = readLine(text, end, stop, rules)
    if (!read.ok) return read
    const entry = read.value
    const fault = line === 0 && from === undefined ? wrongAggregate(entry, quoted, rules) : undefined
    if (fault !== undefined) return fault
    if (entry.violation) violations += 1
    else {
      const { template, digest, path, file, extra } = entry
      files.push({ template, digest, path, file, extra })
    }
    value = extend(value, measuredOf(entry, rules))
    end = Math.min(stop + 1, list.length)
  }
  return accept({ bank, files, violations, end, value: Buffer.from(value, 'latin1') })
}

export type Rounds = Generator<undefined, Verdict<ImaClaims>, undefined>

function endOfLine({ text }: ImaText, at: number): number {
  const newline = text.indexOf('\n', at)
  return newline < 0 ? text.length : newline
}

function readLine(list: ImaText, at: number, end: number, rules: ImaRules): Verdict<ImaEntry> {
  if (at >= list.text.length) return reject('LOG_MISMATCH', `the whole IMA list does not lead to PCR ${IMA_PCR}`)
  if (end - at > LINE_LIMIT) return reject('LIMIT', `a line of the IMA list of ${end - at} bytes`)
  const entry = readImaLine(list, at, end, rules)
  if (entry.ok && entry.value.violation && !rules.allowViolations)
    return reject('EVENT_SEMANTICS', 'a file was changed while it was in use')
  return entry
}

/** Extends values that are strings of one character a byte, as which node:crypto returns them fastest. A shorter digest has zeros after it. */
function extender(bank: Hash): (value: string, digest: string) => string {
  const { size } = hashes[bank]
  const both = Buffer.alloc(2 * size)
  return (value, digest) => {
    if (digest.length < size) both.fill(0, size)
    both.write(value, 0, 'latin1')
    both.write(digest, size, 'latin1')
    return hash(bank, both, 'binary')
  }
}

/** One character a byte. Of a violation the kernel writes zeros into the list, and ones into the PCR. */
function measuredOf({ data, violation }: ImaEntry, rules: ImaRules): string {
  const algorithm = rules.extends === 'bank' ? rules.bank : 'sha1'
  return violation ? '\xff'.repeat(hashes[algorithm].size) : hash(algorithm, data, 'binary')
}

/** The first entry ties the list to the boot: it is the digest of what the firmware and the boot loader extended. */
function wrongAggregate(entry: ImaEntry, quoted: PcrTable, { bootAggregate }: ImaRules): Rejection | undefined {
  const { path, digest, violation } = entry
  if (path !== 'boot_aggregate' || violation)
    return reject('EVENT_SEMANTICS', 'the IMA list does not begin with the boot aggregate')
  if (bootAggregate === 'unchecked') return undefined
  const [bank = '', value] = digest.split(':')
  const pcrs = Array.from({ length: bootAggregate === '0-7' ? 8 : 10 }, (_, pcr) => quoted.get(bank as Hash)?.get(pcr))
  if (!pcrs.every(pcr => pcr !== undefined))
    return reject('PCR_NOT_QUOTED', `the boot aggregate is of PCRs ${bootAggregate} of ${bank}, which are not all signed`)
  if (hash(bank, Buffer.concat(pcrs)) === value) return undefined
  return reject('LOG_MISMATCH', `the boot aggregate is not one of the quoted PCRs ${bootAggregate}`)
}
