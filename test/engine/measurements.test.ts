import { beforeEach, describe, expect, test } from 'vitest'
import { accept, type QuoteEvidence, type Reference, type Verdict } from '#attestation'
import type { LogJob } from '../../engine/attest/logs/log_job.ts'
import { openMeasurements } from '../../engine/attest/measurements.ts'
import type { Seen } from '../../engine/attest/results.ts'
import type { CurrentSet, Rules } from '../../engine/attest/rules.ts'
import type { Mount } from '../../engine/mount_table.ts'
import { answer, PCRS, pcrValue } from '../attestation/attester.ts'

const mount = { id: 'mount', path: 'auth/tpm-quote/' } as Mount
const {
  evidence,
  expected: { references: _, ...expected },
} = answer()
const subject = {
  tpmId: 'sha256-ab',
  akName: Buffer.of(1),
  request: { operation: 'login', role: 'r' },
  loginRole: 'r',
  nonce: Buffer.of(2),
} as const

const good = new Map([['sha256', new Map([[0, [pcrValue(0)]]])]] as const)
const bad = new Map([['sha256', new Map([[0, [pcrValue(1)]]])]] as const)
const imaRules = { bank: 'sha256', extends: 'bank', bootAggregate: 'unchecked' } as const
const set = (name: string, wanted: Partial<Reference>, observes = false): CurrentSet => ({
  version: 1,
  observes,
  wanted: { name, pcrs: good, ...wanted },
})
const rulesOf = (...sets: readonly CurrentSet[]): Rules =>
  ({
    deciding: sets.filter(({ observes }) => !observes),
    observing: sets.filter(({ observes }) => observes),
    selection: { sha256: PCRS },
    deniedFirmware: [],
  }) as unknown as Rules

let kept: Seen[]
let jobs: LogJob[]
const judge = (sent: QuoteEvidence & { eventLog?: Buffer }, ...sets: readonly CurrentSet[]) => {
  const thread = {
    judge: async (_machine: string, job: LogJob) => {
      jobs.push(job)
      return { verdict: accept(job.references[0]?.name ?? '') }
    },
    close: async () => {},
  }
  const results = { keep: async (_mount: Mount, seen: Seen) => void kept.push(seen) }
  return openMeasurements(thread, results as never).judge(mount, subject, sent as never, rulesOf(...sets), expected)
}
beforeEach(() => {
  kept = []
  jobs = []
})
const codeOf = (verdict: Verdict<unknown, string>) => (verdict.ok ? 'OK' : verdict.code)

describe('what is kept of a machine', () => {
  test('that is let in: the set that it matched', async () => {
    expect(codeOf(await judge(evidence, set('other', { pcrs: bad }), set('good', {})))).toBe('OK')
    expect(kept).toMatchObject([{ reference: { name: 'good', version: 1 }, refused: undefined, observed: false }])
  })

  test('that is refused: why, against the first set', async () => {
    expect(codeOf(await judge(evidence, set('other', { pcrs: bad }), set('third', { pcrs: bad })))).toBe('PCR_POLICY')
    expect(kept).toMatchObject([{ reference: { name: 'other' }, refused: { code: 'PCR_POLICY' }, observed: false }])
  })

  test('nothing, when the quote is not its own', async () => {
    const { length } = evidence.signature
    const forged = { ...evidence, signature: Buffer.from(evidence.signature).fill(1, length - 8) }
    expect(codeOf(await judge(forged, set('good', {})))).toBe('SIGNATURE')
    expect(codeOf(await judge(forged, set('seen', {}, true)))).toBe('SIGNATURE')
    const table = { ...evidence, pcrs: evidence.pcrs.replace(pcrValue(2).toString('hex'), pcrValue(3).toString('hex')) }
    expect(codeOf(await judge(table, set('seen', {}, true)))).toBe('PCR_DIGEST_MISMATCH')
    expect(kept).toEqual([])
  })

  test('that is only observed: before it hears of it', async () => {
    expect(codeOf(await judge(evidence, set('seen', { pcrs: bad }, true)))).toBe('OBSERVED')
    expect(kept).toMatchObject([{ reference: { name: 'seen' }, refused: { code: 'OBSERVED' }, observed: true }])
  })
})

describe('where logs are judged', () => {
  const boot = { boot: { bank: 'sha256', replay: [0] } } as const
  test('a small one here', async () => {
    expect(codeOf(await judge({ ...evidence, eventLog: Buffer.alloc(65_536) }, set('boot', boot)))).not.toBe('OK')
    expect(jobs).toEqual([])
  })
  test('a large one, and every list of IMA, apart', async () => {
    await judge({ ...evidence, eventLog: Buffer.alloc(65_537) }, set('boot', boot))
    await judge(evidence, set('files', { ima: imaRules }))
    expect(jobs.map(({ listing }) => listing)).toEqual([false, false])
  })
  test('with all files listed where a set observes', async () => {
    await judge(evidence, set('files', { ima: imaRules }), set('seen', { ima: imaRules }, true))
    expect(jobs.map(({ listing }) => listing)).toEqual([true])
  })
  test('against the sets alone whose PCR values fit', async () => {
    await judge(evidence, set('other', { pcrs: bad, ima: imaRules }), set('files', { ima: imaRules }))
    expect(jobs.map(({ references }) => references.map(({ name }) => name))).toEqual([['files']])
  })
})
