import { createPublicKey } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parsePublic, spkiOf, verifyQuote } from '#attestation'
import { run } from '../test/harness/process.ts'
import { discard, scratch } from '../test/harness/scratch.ts'
import { startSwtpm } from '../test/harness/swtpm.ts'
import { opensslPerCpuSecond } from './machine.ts'
import { type Quote, quoteOf } from './quotes.ts'
import { inTurn, median, type Row, row } from './rows.ts'

const ROUNDS = 5
const BUSY_MS = 700
const PROCESSES = 10

const kinds = [
  { what: 'RSA-2048', ak: 'rsassa-2048', speed: 'rsa2048', openssl: '>= 0.45', tools: '>= 300' },
  { what: 'P-256', ak: 'ecdsa-p256', speed: 'ecdsap256', openssl: '>= 0.55', tools: '>= 150' },
] as const

/** B3: a whole quote verified in process, all checks, on one core: against OpenSSL's verification of one signature, and against a process per quote. */
export async function benchVerify(): Promise<readonly Row[]> {
  await using tpm = await startSwtpm()
  const rows: Row[] = []
  for (const { what, ak, speed, openssl, tools } of kinds) {
    const quote = await quoteOf(tpm, ak)
    const bare = await inTurn(
      ROUNDS,
      async () => verificationsPerCpuSecond(quote),
      () => opensslPerCpuSecond(speed),
    )
    rows.push(
      row({
        id: 'B3',
        what: `verify a quote, ${what}, all checks, against openssl speed ${speed}, per CPU second`,
        ours: median(bare.a),
        theirs: median(bare.b),
        goal: openssl,
      }),
    )
    const processes = await inTurn(
      2,
      async () => verificationsPerCpuSecond(quote),
      () => checkquotePerSecond(quote),
    )
    rows.push(
      row({
        id: 'B3',
        what: `verify a quote, ${what}, against a process of tpm2_checkquote each, per second`,
        ours: median(processes.a),
        theirs: median(processes.b),
        goal: tools,
      }),
    )
  }
  return rows
}

/** CPU time, not wall time: what else runs on the machine does not count. */
function verificationsPerCpuSecond({ evidence, expected }: Quote): number {
  const begun = process.cpuUsage()
  const until = performance.now() + BUSY_MS
  let count = 0
  while (performance.now() < until) {
    for (let turn = 0; turn < 50; turn++) if (!verifyQuote(evidence, expected).ok) throw new Error('a good quote was refused')
    count += 50
  }
  const { user, system } = process.cpuUsage(begun)
  return count / ((user + system) / 1e6)
}

async function checkquotePerSecond({ evidence, expected, akPublic }: Quote): Promise<number> {
  const folder = await scratch('assay-bench-')
  try {
    const args = await checkquoteArgs(folder, { evidence, akPublic, expected })
    const begun = performance.now()
    for (let turn = 0; turn < PROCESSES; turn++) {
      const { code, stderr } = await run('tpm2_checkquote', args)
      if (code !== 0) throw new Error(`tpm2_checkquote refused a good quote: ${stderr}`)
    }
    return PROCESSES / ((performance.now() - begun) / 1000)
  } finally {
    await discard(folder)
  }
}

async function checkquoteArgs(
  folder: string,
  { evidence, akPublic, expected }: Pick<Quote, 'evidence' | 'akPublic' | 'expected'>,
): Promise<string[]> {
  const area = parsePublic(akPublic)
  if (!area.ok) throw new Error(area.detail)
  const pem = createPublicKey({ key: spkiOf(area.value), format: 'der', type: 'spki' }).export({ type: 'spki', format: 'pem' })
  const [key, message, signature] = ['ak.pem', 'quote.msg', 'quote.sig'].map(name => join(folder, name)) as [
    string,
    string,
    string,
  ]
  await Promise.all([writeFile(key, pem), writeFile(message, evidence.attest), writeFile(signature, evidence.signature)])
  return ['-u', key, '-m', message, '-s', signature, '-g', 'sha256', '-q', Buffer.from(expected.qualifyingData).toString('hex')]
}
