import { verifyQuote } from '#attestation'
import { answer, makeAk } from '../test/attestation/attester.ts'

const ROUNDS = 20
const QUOTES = 1000

/** Quotes verified per second of CPU, all checks, by keys that are kept: the best of some rounds, so that what else runs counts least. No TPM is needed. */
export function quoteBench(): { readonly rsa2048: number; readonly p256: number } {
  return { rsa2048: perCpuSecond(answer(makeAk('rsa-2048', 'RSASSA'))), p256: perCpuSecond(answer(makeAk('P-256', 'ECDSA'))) }
}

function perCpuSecond({ evidence, expected }: ReturnType<typeof answer>): number {
  let best = 0
  for (let round = 0; round < ROUNDS; round += 1) {
    const begun = process.cpuUsage()
    for (let turn = 0; turn < QUOTES; turn += 1)
      if (!verifyQuote(evidence, expected).ok) throw new Error('a good quote was refused')
    const { user, system } = process.cpuUsage(begun)
    best = Math.max(best, QUOTES / ((user + system) / 1e6))
  }
  return best
}
