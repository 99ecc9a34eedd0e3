import './lib/node.js'
import { Command, InvalidArgumentError } from 'commander'
import fc from 'fast-check'
import { refusals } from '#attestation'
import { changed, logParsers, type Parser, parsers } from '../test/attestation/parsers.ts'
import { signedParsers } from '../test/attestation/signed_parsers.ts'

const all = [...parsers, ...logParsers, ...signedParsers]
const codes = new Set(['OK', ...Object.keys(refusals)])
const ROUND = 200
/** CPU time: what else runs on the machine does not count. */
const SLOW_MS = 1000

await new Command('fuzz')
  .description('Every parser gives a verdict on any bytes, and soon: it neither throws nor hangs.')
  .argument('[parser]', `one of ${all.map(({ name }) => name).join(', ')}; all when left out`, known)
  .option('--seconds <number>', 'for each parser', seconds, 600)
  .option('--seed <number>', 'of the first round, to see a counterexample again', Number, Date.now() & 0x7fffffff)
  .action(run)
  .parseAsync()

function known(name: string): Parser {
  const found = all.find(parser => parser.name === name)
  if (!found) throw new InvalidArgumentError('There is no such parser.')
  return found
}

function seconds(text: string): number {
  if (!/^\d+$/.test(text) || Number(text) === 0) throw new InvalidArgumentError('wanted a whole number of seconds')
  return Number(text)
}

async function run(one: Parser | undefined, options: { seconds: number; seed: number }): Promise<void> {
  for (const parser of one ? [one] : all) if (!(await fuzz(parser, options))) process.exitCode = 1
}

/** @returns whether nothing was found */
async function fuzz(parser: Parser, options: { seconds: number; seed: number }): Promise<boolean> {
  const until = performance.now() + options.seconds * 1000
  const seen = new Map<string, number>()
  let [inputs, told] = [0, performance.now()]
  for (let seed = options.seed; performance.now() < until; seed += 1) {
    const result = await fc.check(fc.asyncProperty(bytesFor(parser), judged(parser, seen)), {
      numRuns: ROUND,
      seed,
      endOnFailure: false,
    })
    inputs += result.numRuns
    if (result.failed) {
      say(`${parser.name}: found with --seed ${seed}: ${Buffer.from(result.counterexample?.[0] ?? []).toString('hex')}`)
      const { errorInstance: thrown } = result
      say(thrown instanceof Error ? String(thrown.stack) : 'it is slow, or gives a verdict that is none')
      return false
    }
    if (performance.now() - told > 10_000) {
      told = performance.now()
      say(`${parser.name}: ${inputs} inputs, ${Math.ceil((until - told) / 1000)} s to go`)
    }
  }
  const outcomes = [...seen].toSorted(([, one], [, other]) => other - one).map(([code, count]) => `${code} ${count}`)
  say(`${parser.name}: ${inputs} inputs, nothing found (${outcomes.join(', ')})`)
  return true
}

/** What the parser takes, changed in a few places, or bytes of any kind. */
function bytesFor({ samples }: Parser): fc.Arbitrary<Uint8Array> {
  return fc.oneof({ weight: 4, arbitrary: changed(samples) }, { weight: 1, arbitrary: fc.uint8Array({ maxLength: 600 }) })
}

function judged({ parse }: Parser, seen: Map<string, number>) {
  return async (bytes: Uint8Array): Promise<boolean> => {
    const begun = process.cpuUsage()
    const verdict = await parse(bytes)
    const { user, system } = process.cpuUsage(begun)
    const code = verdict.ok ? 'OK' : verdict.code
    seen.set(code, (seen.get(code) ?? 0) + 1)
    return codes.has(code) && (user + system) / 1000 < SLOW_MS
  }
}

function say(sentence: string): void {
  process.stdout.write(`${sentence}\n`)
}
