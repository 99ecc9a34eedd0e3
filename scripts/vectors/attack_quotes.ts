import {
  type AttestationKey,
  admitAk,
  type Bank,
  type Clock,
  type Expected,
  type Hash,
  hashes,
  PCRS,
  parseQuote,
  verifyQuote,
} from '#attestation'
import { bytesIn, type Case, challengeIn, expectationOf, type Fields, idOf, isFields, outcome, Unusable } from './case.ts'
import { isEnrolled } from './enrolled.ts'
import { isBank, pcrsIn, policyOf, referencesOf, tableText } from './pcr_values.ts'

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
  if (hashes[ak.hash].size < sizeOf(policy.minHash)) return 'WEAK_HASH'
  const { session } = verdict.value
  return session === 'REBOOTED' || session === 'RESUMED' ? session : outcome(verdict)
}

function sizeOf(least: unknown = 'sha256'): number {
  if (typeof least !== 'string' || !Object.hasOwn(hashes, least)) throw new Unusable('minHash names no hash')
  return hashes[least as Hash].size
}

function expectedOf(record: Fields, attest: Buffer): Omit<Expected, 'ak'> {
  const policy = policyOf(record)
  const state = record.previous_quote_state ?? undefined
  if (state !== undefined && !isFields(state)) throw new Unusable('previous_quote_state is not an object')
  return {
    qualifyingData: challengeIn(policy, 'nonceHex'),
    selection: selectionOf(policy, attest),
    references: [referencesOf(policy.expected)],
    allowReset: false,
    obfuscated: state?.obfuscated === true,
    ...(state && { previous: clockOf(state) }),
  }
}

/** A policy says what is required. What is signed beside, in banks that may decide, was asked for as well. */
function selectionOf({ requiredBank = 'sha256', requiredPcrs = [] }: Fields, attest: Buffer): Partial<Record<Bank, number[]>> {
  const quote = parseQuote(attest)
  const selection: Partial<Record<Bank, number[]>> = {}
  for (const one of quote.ok ? quote.value.selection : [])
    if (isBank(one.bank) && one.mask !== 0) selection[one.bank] = pcrsIn(one)
  // a bank that may not decide is refused by the verifier
  if (typeof requiredBank !== 'string') throw new Unusable('requiredBank is not a text')
  const signed = isBank(requiredBank) ? (selection[requiredBank] ?? []) : []
  return { ...selection, [requiredBank]: [...new Set([...listOfPcrs(requiredPcrs), ...signed])] }
}

function listOfPcrs(list: unknown): number[] {
  const isPcr = (pcr: unknown) => Number.isInteger(pcr) && Number(pcr) >= 0 && Number(pcr) < PCRS
  if (!Array.isArray(list) || !list.every(isPcr)) throw new Unusable('requiredPcrs is no list of PCRs')
  return list as number[]
}

function clockOf({ clock, resetCount, restartCount, firmwareVersion }: Fields): Clock {
  if (![clock, resetCount, restartCount].every(count => /^[0-9]+$/.test(String(count))))
    throw new Unusable('previous_quote_state lacks a count')
  return {
    clock: BigInt(String(clock)),
    resetCount: Number(resetCount),
    restartCount: Number(restartCount),
    firmwareVersion: String(firmwareVersion),
  }
}
