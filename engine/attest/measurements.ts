import { type BootClaims, type ImaSummary, type QuoteClaims, type Reference, reject, type Shown, verifyQuote } from '#attestation'
import type { Mount } from '../mount_table.ts'
import type { Verdict } from '../refusals.ts'
import type { Evidence } from './appraise.ts'
import { judgeLogs } from './logs/log_job.ts'
import type { LogThread } from './logs/log_thread.ts'
import type { Results, Seen } from './results.ts'
import type { CurrentSet, Rules } from './rules.ts'

/** What a quote and its logs established; `claims.reference` is the set that the machine matches, whole. */
export type Measured = {
  readonly claims: QuoteClaims
  readonly referenceVersion: number
  readonly boot: BootClaims | undefined
  readonly ima: ImaSummary | undefined
}

export type Expected = Parameters<typeof verifyQuote>[1]

/** Whose evidence it is, and what for. */
export type Subject = Pick<Seen, 'tpmId' | 'akName' | 'request' | 'loginRole' | 'nonce'>

/** Judges evidence against the sets of reference values of a role: the quote first, then the logs that it explains. */
export type Measurements = {
  /** What the machine showed is kept, whether it is let in or not, as soon as the quote is known to be its own. */
  readonly judge: (
    mount: Mount,
    subject: Subject,
    evidence: Evidence,
    rules: Rules,
    expected: Omit<Expected, 'references'>,
  ) => Promise<Verdict<Measured>>
}

/** A log of a PC is judged in some milliseconds, here; what is larger has a thread of its own. */
const SMALL_LOG = 65_536

export function openMeasurements(thread: LogThread, results: Results): Measurements {
  const show = async (
    claims: QuoteClaims,
    sets: readonly CurrentSet[],
    evidence: Evidence,
    obfuscated: boolean,
  ): Promise<Shown> => {
    const { eventLog, imaList } = evidence
    const { pcrs, firmwareVersion } = claims
    const job = {
      logs: { ...(eventLog && { eventLog }), ...(imaList && { imaList }) },
      quoted: { pcrs, firmwareVersion, obfuscated },
      references: sets.map(({ wanted }) => wanted),
      listing: sets.some(({ observes }) => observes),
    }
    const large = (eventLog?.length ?? 0) > SMALL_LOG || sets.some(({ wanted }) => wanted.ima)
    return large ? thread.judge(job) : judgeLogs(job, () => new Set())
  }
  const observe: Measurements['judge'] = async (mount, subject, evidence, rules, expected) => {
    const { obfuscated } = expected
    const quote = verifyQuote(evidence, { ...expected, references: [anything(rules)], allowReset: true })
    if (!quote.ok) return quote
    const sets = rules.observing.length > 0 ? rules.observing : rules.deciding
    const { verdict: _, ...shown } = await show(quote.value, sets, evidence, obfuscated)
    const verdict = reject('PCR_POLICY', 'no set of reference values was matched')
    const [first] = sets
    const reference = { name: first?.wanted.name ?? '', version: first?.version ?? 0 }
    const observed = rules.observing.length > 0
    await results.keep(mount, { ...subject, obfuscated, claims: quote.value, reference, shown: { verdict, ...shown }, observed })
    return reject('OBSERVED', `${reference.name} only observes: what the machine shows is under its TPM`)
  }
  return {
    judge: async (mount, subject, evidence, rules, expected) => {
      if (rules.deciding.length === 0) return observe(mount, subject, evidence, rules, expected)
      const quote = verifyQuote(evidence, { ...expected, references: rules.deciding.map(({ wanted }) => wanted) })
      if (!quote.ok) {
        if (quote.code === 'PCR_POLICY') await observe(mount, subject, evidence, rules, expected)
        return quote
      }
      const claims = quote.value
      const candidates = rules.deciding.filter(({ wanted }) => claims.candidates.includes(wanted.name))
      const shown = await show(claims, candidates, evidence, expected.obfuscated)
      const { verdict, boot, ima } = shown
      const decided = candidates.find(({ wanted }) => verdict.ok && wanted.name === verdict.value) ?? candidates[0]
      const reference = { name: decided?.wanted.name ?? '', version: decided?.version ?? 0 }
      await results.keep(mount, { ...subject, obfuscated: expected.obfuscated, claims, reference, shown, observed: false })
      if (!verdict.ok) return verdict
      return {
        ok: true,
        value: { claims: { ...claims, reference: verdict.value }, referenceVersion: reference.version, boot, ima },
      }
    },
  }
}

/** Fits every machine whose quote is its own: for looking at it only. */
function anything({ selection }: Rules): Reference {
  return { name: '', pcrs: new Map(), explained: selection }
}
