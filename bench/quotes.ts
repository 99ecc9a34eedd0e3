import { randomBytes } from 'node:crypto'
import { admitAk, type Expected, hashes, type QuoteEvidence, qualifiedNameOf, type ReferenceSet } from '#attestation'
import { openAttester } from '../agent/attester.ts'
import type { AkKind } from '../agent/kinds.ts'
import type { Swtpm } from '../test/harness/swtpm.ts'

/** A real quote of nine PCRs, with everything that is expected of it. */
export type Quote = {
  readonly evidence: QuoteEvidence
  readonly expected: Expected
  readonly akPublic: Buffer
  readonly pcrs: readonly number[]
}

const PCRS = [0, 1, 2, 3, 4, 5, 6, 7, 10]

export async function quoteOf(tpm: Swtpm, ak: AkKind): Promise<Quote> {
  await using attester = await openAttester({ tpm: tpm.spec, ak, now: Date.now, random: randomBytes })
  const { public: akPublic, name } = await attester.attestationKey()
  const qualifyingData = randomBytes(32)
  const evidence = await attester.quote({ sha256: PCRS }, qualifyingData)
  const admitted = admitAk(akPublic)
  if (!admitted.ok) throw new Error(admitted.detail)
  const zero = [Buffer.alloc(hashes.sha256.size)]
  const references: readonly ReferenceSet[] = [
    { name: 'base', pcrs: new Map([['sha256', new Map(PCRS.map(pcr => [pcr, zero]))]]) },
  ]
  const qualifiedSigner = qualifiedNameOf('endorsement', name)
  const expected = {
    ak: admitted.value,
    qualifyingData,
    selection: { sha256: PCRS },
    references,
    allowReset: true,
    obfuscated: false,
    qualifiedSigner,
  }
  return { evidence, expected, akPublic, pcrs: PCRS }
}
