import {
  type AttestationKey,
  admitAk,
  type Bank,
  type Clock,
  type Expected,
  type Hash,
  hashes,
  parseQuote,
  verifyQuote,
} from '#attestation'
import { bytesIn, type Case, expectationOf, type Fields, idOf, isFields, outcome } from './case.ts'
import { isEnrolled } from './enrolled.ts'
import { isBank, policyOf, referencesOf, tableText } from './pcr_values.ts'

/** Evidence that was made to be wrong in one way: a quote with what was asked for, or a key that is to be enrolled. */
export function attackQuote(record: Fields, place: string, set: readonly Fields[]): Case {
  return { id: idOf(record, place), expected: expectationOf(record), judge: () => judge(record, set) }
}

function judge(record: Fields, set: readonly Fields[]): string {
  const ak = admitAk(bytesIn(record, 'ak_tpmt_public_hex'))
  if (!ak.ok) return ak.code
  if (record.stage === 'enrolment') return 'OK'
  if (!isEnrolled(record, ak.value, set)) return 'AK_NOT_ENROLLED'
  const first = quoteOutcome(record, ak.value, bytesIn(record, 'tpmt_signature_hex'))
  if (first !== 'OK' || record.companion_signature_hex === undefined) return first
  // both verify, and both answer one challenge, which is taken once
  return quoteOutcome(record, ak.value, bytesIn(record, 'companion_signature_hex')) === 'OK' ? 'OK_BUT_SAME_CHALLENGE' : first
}

function quoteOutcome(record: Fields, ak: AttestationKey, signature: Buffer): string {
  const attest = bytesIn(record, 'attest_hex')
  const policy = policyOf(record)
  const evidence = { attest, signature, pcrs: tableText(record.pcrs) }
  const verdict = verifyQuote(evidence, { ak, ...expectedOf(record, attest) })
  if (!verdict.ok) return verdict.code
  if (isWeaker(ak.hash, policy.minHash)) return 'WEAK_HASH'
  const { session } = verdict.value
  return session === 'REBOOTED' || session === 'RESUMED' ? session : outcome(verdict)
}

function isWeaker(hash: Hash, least: unknown): boolean {
  return typeof least === 'string' && Object.hasOwn(hashes, least) && hashes[hash].size < hashes[least as Hash].size
}

function expectedOf(record: Fields, attest: Buffer): Omit<Expected, 'ak'> {
  const policy = policyOf(record)
  const state = isFields(record.previous_quote_state) ? record.previous_quote_state : undefined
  return {
    qualifyingData: bytesIn(policy, 'nonceHex'),
    selection: selectionOf(policy, attest),
    references: [referencesOf(policy.expected)],
    allowReset: false,
    obfuscated: state?.obfuscated === true,
    ...(state && { previous: clockOf(state) }),
  }
}

/** A policy says what is required. What is signed beside, in banks that may decide, was asked for as well. */
function selectionOf({ requiredBank, requiredPcrs }: Fields, attest: Buffer): Partial<Record<Bank, number[]>> {
  const quote = parseQuote(attest)
  const selection: Partial<Record<Bank, number[]>> = {}
  for (const { bank, mask } of quote.ok ? quote.value.selection : []) {
    const pcrs = Array.from({ length: 24 }, (_, pcr) => pcr).filter(pcr => (mask >> pcr) & 1)
    if (isBank(bank) && pcrs.length > 0) selection[bank] = pcrs
  }
  const required = Array.isArray(requiredPcrs) ? requiredPcrs.filter(pcr => Number.isInteger(pcr) && pcr >= 0 && pcr < 24) : []
  const bank = isBank(requiredBank) ? requiredBank : 'sha256'
  return { ...selection, [bank]: [...new Set([...required, ...(selection[bank] ?? [])])] }
}

function clockOf({ clock, resetCount, restartCount, firmwareVersion }: Fields): Clock {
  return {
    clock: BigInt(String(clock)),
    resetCount: Number(resetCount),
    restartCount: Number(restartCount),
    firmwareVersion: String(firmwareVersion),
  }
}
