import { type AttestRules, attested, type SignedAttest } from './attested.ts'
import { appraiseClock, type ClockRules, type Session } from './clock.ts'
import { type PcrTable, parsePcrTable } from './pcr_table.ts'
import { appraisePcrs, type PcrRules } from './pcrs.ts'
import { type Clock, parseQuote, type Quote } from './tpm2/attest.ts'
import { accept, type Verdict } from './verdict.ts'

/** What the attester sent, as it came. */
export type QuoteEvidence = SignedAttest & {
  /** the table of PCR values as JSON text, see `parsePcrTable` */
  readonly pcrs: string
}

/** What we asked for and what we know of the key: nothing in here comes from the evidence. */
export type Expected = AttestRules & PcrRules & ClockRules

/** What an accepted quote says. Its clock is to be kept and given as `previous` next time. */
export type QuoteClaims = Clock & {
  /** how this boot of the machine relates to the one of `previous` */
  readonly session: Session
  /** the name of the first set of reference values that the machine matches */
  readonly reference: string
  /** the names of all that it matches, as far as values of PCRs tell */
  readonly candidates: readonly string[]
  readonly safe: boolean
  /** the values that were signed, all of them and none else */
  readonly pcrs: PcrTable
  readonly pcrDigest: Buffer
  readonly qualifiedSigner: Buffer
}

/**
 * Judges the answer to a challenge: a TPM 2.0 quote (TPM 2.0 Library Part 3, TPM2_Quote; Part 2, TPMS_ATTEST, TPMS_QUOTE_INFO).
 * The checks, in order: the structure of the quote, see `parseQuote`; its signature, see `verifySignature`; whether it
 * answers this challenge; where the key lives; the table of PCR values and the PCRs, see `parsePcrTable` and `appraisePcrs`; the
 * clock, see `appraiseClock`. That the challenge is fresh and used once is for the caller to see to, before.
 * @returns what those return when refused, NONCE_MISMATCH or QUALIFIED_SIGNER
 */
export function verifyQuote(evidence: QuoteEvidence, expected: Expected): Verdict<QuoteClaims> {
  const quote = authenticate(evidence, expected)
  if (!quote.ok) return quote
  const table = parsePcrTable(evidence.pcrs)
  if (!table.ok) return table
  const candidates = appraisePcrs(quote.value, table.value, expected)
  if (!candidates.ok) return candidates
  const session = appraiseClock(quote.value, expected)
  if (!session.ok) return session
  return accept(claimsOf(quote.value, session.value, candidates.value, table.value))
}

/** Copies, so that claims outlive the bytes that they were read from. */
function claimsOf(
  { clock, safe, pcrDigest, qualifiedSigner }: Quote,
  session: Session,
  candidates: readonly string[],
  pcrs: PcrTable,
): QuoteClaims {
  const [reference = ''] = candidates
  const signed = { pcrDigest: Buffer.from(pcrDigest), qualifiedSigner: Buffer.from(qualifiedSigner) }
  return { ...clock, session, reference, candidates, safe, pcrs, ...signed }
}

/** Who says it, and to which question: everything but what is said. For those who judge the PCRs by other means, or not at all. */
export function authenticate(evidence: SignedAttest, rules: AttestRules): Verdict<Quote> {
  return attested(parseQuote, evidence, rules)
}
