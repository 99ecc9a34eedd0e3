import { hash } from 'node:crypto'
import { withOsSeparator } from './os_separator.ts'
import type { PcrTable } from './pcr_table.ts'
import { initialValue, isDynamic, localities } from './pcr_values.ts'
import { sameBytes } from './same_bytes.ts'
import type { BankSelection, Quote } from './tpm2/attest.ts'
import { type Hash, PCRS } from './tpm2/constants.ts'
import type { SigningKey } from './tpm2/signature.ts'
import { accept, type Rejection, reject, type Verdict } from './verdict.ts'

/** The PCR banks that may decide: SHA-1 may not. */
export const banks = ['sha256', 'sha384', 'sha512'] as const satisfies readonly Hash[]
export type Bank = (typeof banks)[number]
/** PCR indices by bank, at least one. */
export type Selection = { readonly [bank in Bank]?: readonly number[] }
/** A named set of reference values: the digests that a PCR may hold, any of them, by bank and index. At least one, other PCRs are free. */
export type ReferenceSet = {
  readonly name: string
  readonly pcrs: ReferenceValues
  /** PCRs that logs have to explain, or that these are tied to: they have to be signed, and extended since the reset */
  readonly explained?: Selection
}
export type ReferenceValues = ReadonlyMap<Bank, ReadonlyMap<number, readonly Uint8Array[]>>

export type PcrRules = {
  readonly ak: Pick<SigningKey, 'hash'>
  /** the PCRs that the challenge asked for; exactly these must be signed */
  readonly selection: Selection
  /** the machine has to match one of them, whole */
  readonly references: readonly ReferenceSet[]
  /** whether a PCR with reference values may hold what a reset leaves in it: only for software TPMs that no firmware measures into */
  readonly allowReset: boolean
}

/**
 * Judges the PCR values that came with a quote. The checks, in order: every signed PCR is in the table; every bank asked for is
 * signed; every PCR asked for is signed; nothing else is signed; nothing else is in the table; the values hash to the signed
 * digest; every PCR of one of the reference sets holds a value that the set allows, and none that a reset leaves.
 * @returns the names of all sets of which that is true, in their order
 *   PCR_SELECTION_MISMATCH, WEAK_BANK, PCR_NOT_QUOTED, PCR_DIGEST_MISMATCH or PCR_POLICY when refused
 */
export function appraisePcrs(quote: Quote, table: PcrTable, rules: PcrRules): Verdict<readonly string[]> {
  const values = signedValues(quote.selection, table)
  if (values === undefined) return reject('PCR_SELECTION_MISMATCH', 'a PCR was signed that the table does not list')
  const fault =
    wrongSelection(quote.selection, rules.selection) ??
    unsignedValues(table, values.length) ??
    wrongDigest(values, quote.pcrDigest, rules.ak.hash)
  return fault ?? matchReferences(table, rules)
}

type Fault = Rejection | undefined

/** The signed values in the order in which the TPM hashes them: banks as listed, indices ascending (Part 2, TPMS_QUOTE_INFO). */
function signedValues(selection: readonly BankSelection[], table: PcrTable): Buffer[] | undefined {
  const values: Buffer[] = []
  for (const { bank, mask } of selection) {
    const listed = table.get(bank)
    for (let index = 0; mask >> index !== 0; index += 1) {
      if (((mask >> index) & 1) === 0) continue
      const value = listed?.get(index)
      if (value === undefined) return undefined
      values.push(value)
    }
  }
  return values
}

/** A TPM quotes a bank that it does not have as an empty mask, so what was signed is compared with what was asked for. */
function wrongSelection(signed: readonly BankSelection[], asked: Selection): Fault {
  const wanted = Object.entries(asked).map(([bank, indices]) => ({ bank, mask: maskOf(indices) }))
  const weak = wanted.find(({ bank }) => !(banks as readonly string[]).includes(bank) || masked(signed, bank) === undefined)
  if (weak) return reject('WEAK_BANK', `bank ${weak.bank} is not signed`)
  for (const { bank, mask } of wanted) {
    const missing = mask & ~(masked(signed, bank) ?? 0)
    if (missing !== 0) return reject('PCR_NOT_QUOTED', `PCR ${lowest(missing)} of ${bank} is not signed`)
  }
  for (const { bank, mask } of signed) {
    const extra = mask & ~(masked(wanted, bank) ?? 0)
    if (extra !== 0) return reject('PCR_SELECTION_MISMATCH', `PCR ${lowest(extra)} of ${bank} is signed, but was not asked for`)
  }
  return undefined
}

function masked(selection: readonly { bank: string; mask: number }[], bank: string): number | undefined {
  return selection.find(one => one.bank === bank)?.mask
}

/** @throws RangeError when what was asked for is no PCR: that is our own mistake */
function maskOf(indices: readonly number[]): number {
  let mask = 0
  for (const index of indices) {
    if (!Number.isInteger(index) || index < 0 || index >= PCRS) throw new RangeError(`there is no PCR ${index}`)
    mask |= 1 << index
  }
  return mask
}

/** The lowest bit that is set. */
function lowest(mask: number): number {
  return 31 - Math.clz32(mask & -mask)
}

/** All signed PCRs are listed, so a longer table lists one that is not signed. */
function unsignedValues(table: PcrTable, signed: number): Fault {
  let listed = 0
  for (const values of table.values()) listed += values.size
  return listed === signed ? undefined : reject('PCR_SELECTION_MISMATCH', `the table lists ${listed} PCRs, ${signed} are signed`)
}

/** The hash is the one of the signing scheme, whatever the banks are (Part 2, TPMS_QUOTE_INFO.pcrDigest). */
function wrongDigest(values: readonly Buffer[], signed: Buffer, algorithm: Hash): Fault {
  const digest = hash(algorithm, Buffer.concat(values), 'buffer')
  if (sameBytes(digest, signed)) return undefined
  return reject('PCR_DIGEST_MISMATCH', `the values hash to ${digest.toString('hex')}, signed is ${signed.toString('hex')}`)
}

/**
 * The names of the sets that fit values which are known to be signed.
 * @returns PCR_NOT_QUOTED or PCR_POLICY when none does
 */
export function matchReferences(
  table: PcrTable,
  { references, allowReset }: Pick<PcrRules, 'references' | 'allowReset'>,
): Verdict<readonly string[]> {
  const faults: Rejection[] = []
  const fitting: string[] = []
  for (const { name, pcrs, explained = {} } of references) {
    const fault = wrongValues(table, pcrs, allowReset) ?? unmeasured(table, explained, allowReset) ?? boundless(pcrs, explained)
    if (fault === undefined) fitting.push(name)
    else faults.push(reject(fault.code, `${name}: ${fault.detail}`))
  }
  if (fitting.length > 0) return accept(fitting)
  return reject(faults[0]?.code ?? 'PCR_POLICY', faults.map(fault => fault.detail).join('; ') || 'there are no reference values')
}

function wrongValues(table: PcrTable, pcrs: ReferenceValues, allowReset: boolean): Fault {
  for (const [bank, values] of pcrs) {
    for (const [index, allowed] of values) {
      const value = table.get(bank)?.get(index)
      if (value === undefined) return reject('PCR_NOT_QUOTED', `PCR ${index} of ${bank} has reference values, but is not signed`)
      if (!allowed.some(one => value.equals(one)))
        return reject('PCR_POLICY', `PCR ${index} of ${bank} is ${value.toString('hex')}`)
      if (!allowReset && isReset(bank, index, value)) return neverExtended(bank, index)
    }
  }
  return undefined
}

function unmeasured(table: PcrTable, explained: Selection, allowReset: boolean): Fault {
  for (const [bank, indices] of Object.entries(explained)) {
    for (const index of indices) {
      const value = table.get(bank as Bank)?.get(index)
      if (value === undefined) return reject('PCR_NOT_QUOTED', `PCR ${index} of ${bank} has to be explained, but is not signed`)
      if (!allowReset && isReset(bank as Bank, index, value)) return neverExtended(bank, index)
    }
  }
  return undefined
}

const neverExtended = (bank: string, index: number) => reject('PCR_POLICY', `PCR ${index} of ${bank} was never extended`)

/** A set that looks at nothing would let everything in. */
function boundless(pcrs: ReferenceValues, explained: Selection): Fault {
  const looked =
    [...pcrs.values()].some(values => values.size > 0) || Object.values(explained).some(indices => indices.length > 0)
  return looked ? undefined : reject('PCR_POLICY', 'no PCR has a reference value')
}

/**
 * PCR 0 to 7 start at zero, but for the locality in the last byte of PCR 0; 17 to 22 are all ones without a dynamic launch. Who
 * finds them so can extend them at will (CVE-2021-42299), and an operating system that does so with its separator puts nothing there.
 */
export function isReset(bank: Bank, index: number, value: Uint8Array): boolean {
  if (index <= 7) return value.subarray(0, -1).every(byte => byte === 0) || untouched[bank].some(one => one?.equals(value))
  return isDynamic(index) && value.every(byte => byte === 0xff)
}

function untouchedOf(bank: Bank): (Buffer | undefined)[] {
  return localities.map(locality => withOsSeparator(bank, 0, initialValue(bank, 0, locality)))
}

const untouched = { sha256: untouchedOf('sha256'), sha384: untouchedOf('sha384'), sha512: untouchedOf('sha512') }
