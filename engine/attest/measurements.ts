import {
  accept,
  type BootClaims,
  type ImaSummary,
  type QuoteClaims,
  type QuoteEvidence,
  type Reference,
  type Rejection,
  reject,
  verifyQuote,
} from '#attestation'
import type { Mount } from '../mount_table.ts'
import type { RefusalCode, Verdict } from '../refusals.ts'
import { deniedFirmware } from './denied_firmware.ts'
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
type Judging = Omit<Expected, 'references'>

type Evidence = QuoteEvidence & { readonly eventLog?: Uint8Array | undefined; readonly imaList?: Uint8Array | undefined }

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
    expected: Judging,
  ) => Promise<Verdict<Measured>>
}

/** A log of a PC is judged in some milliseconds, here; what is larger has a thread of its own. */
const SMALL_LOG = 65_536

export function openMeasurements(thread: LogThread, results: Results): Measurements {
  const show = async (
    claims: QuoteClaims,
    sets: readonly CurrentSet[],
    evidence: Evidence,
    rules: Rules,
    expected: Judging,
    { tpmId }: Subject,
  ) => {
    const { eventLog, imaList } = evidence
    const { pcrs, firmwareVersion } = claims
    const job = {
      logs: { ...(eventLog && { eventLog }), ...(imaList && { imaList }) },
      quoted: { pcrs, firmwareVersion, obfuscated: expected.obfuscated },
      references: sets.map(({ wanted }) => wanted),
      listing: rules.observing.length > 0,
    }
    const large = (eventLog?.length ?? 0) > SMALL_LOG || sets.some(({ wanted }) => wanted.ima)
    return large ? thread.judge(tpmId, job) : judgeLogs(job, () => new Set())
  }
  const observe: Observe = async (mount, subject, evidence, rules, expected, refused) => {
    const quote = verifyQuote(evidence, { ...expected, references: [anything(rules)], allowReset: true })
    if (!quote.ok) return quote
    const sets = rules.observing.length > 0 ? rules.observing : rules.deciding
    const { verdict: _, ...shown } = await show(quote.value, sets, evidence, rules, expected, subject)
    const { obfuscated } = expected
    const of = among(sets, sets[0]?.wanted.name)
    const observed = rules.observing.length > 0
    await results.keep(mount, { ...subject, ...of, shown, refused, obfuscated, claims: quote.value, observed })
    return refused
  }
  return {
    judge: async (mount, subject, evidence, rules, expected) => {
      if (rules.deciding.length === 0) return observe(mount, subject, evidence, rules, expected, OBSERVED)
      const quote = verifyQuote(evidence, { ...expected, references: rules.deciding.map(({ wanted }) => wanted) })
      if (!quote.ok) {
        const state = quote.code === 'PCR_POLICY'
        return state ? observe(mount, subject, evidence, rules, expected, quote) : quote
      }
      const claims = quote.value
      const candidates = rules.deciding.filter(({ wanted }) => claims.candidates.includes(wanted.name))
      const { verdict, ...shown } = await show(claims, candidates, evidence, rules, expected, subject)
      const of = among(candidates, verdict.ok ? verdict.value : candidates[0]?.wanted.name)
      const refused = deniedFirmware(rules.deniedFirmware, claims, expected.obfuscated) ?? (verdict.ok ? undefined : verdict)
      const observed = refused !== undefined && rules.observing.length > 0
      await results.keep(mount, { ...subject, ...of, shown, refused, obfuscated: expected.obfuscated, claims, observed })
      if (refused) return refused
      const { name: reference, version: referenceVersion } = of.reference
      return accept({ claims: { ...claims, reference }, referenceVersion, boot: shown.boot, ima: shown.ima })
    },
  }
}

type Observe = (
  ...given: [...Parameters<Measurements['judge']>, refused: Rejection<RefusalCode>]
) => ReturnType<Measurements['judge']>

const OBSERVED = reject('OBSERVED' as const, 'what the machine shows is kept under its TPM')

function among(sets: readonly CurrentSet[], name: string | undefined): Pick<Seen, 'reference'> {
  const version = sets.find(({ wanted }) => wanted.name === name)?.version ?? 0
  return { reference: { name: name ?? '', version } }
}

/** Fits every machine whose quote is its own: for looking at it only. */
function anything({ selection }: Rules): Reference {
  return { name: '', pcrs: new Map(), explained: selection }
}
