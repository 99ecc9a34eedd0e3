import './lib/node.js'
import { styleText } from 'node:util'
import { Command, InvalidArgumentError } from 'commander'
import { type Case, Unusable } from './vectors/case.ts'
import { casesIn } from './vectors/folder.ts'

/** What is printed of a case: `holds` is null where nothing is expected. */
type Line = { readonly case: string; readonly expected: string | null; readonly got: string; readonly holds: boolean | null }

// a reader that has seen enough
process.stdout.on('error', () => process.exit(1))

await new Command('conformance')
  .description(
    'Judges vectors of TPM evidence by the verifier of this project: quotes, certificates, logs, keys and credentials.',
  )
  .argument('<folder>', 'with an index.json, with a cases.json, or with vectors of one kind')
  .option('--json', 'one JSON object per case: {"case", "expected", "got", "holds"}')
  .option('--at <date>', 'when certificates are judged that have no time of their own', dateOf, new Date())
  .addHelpText(
    'after',
    '\ngot is OK, REBOOTED, RESUMED, OK_BUT_SAME_CHALLENGE or the code of a refusal.\nEnds with 1 when an outcome is not the expected one.',
  )
  .action(run)
  .parseAsync()

function dateOf(text: string): Date {
  const date = new Date(text)
  if (Number.isNaN(date.getTime())) throw new InvalidArgumentError('write it as 2026-01-31 or 2026-01-31T12:00:00Z.')
  return date
}

async function run(folder: string, { json = false, at }: { json?: boolean; at: Date }): Promise<void> {
  try {
    const { cases, unknown } = casesIn(folder, at)
    for (const sentence of unknown) say(`${sentence}: skipped`)
    const lines: Line[] = []
    for (const one of cases) {
      const line = await judge(one)
      lines.push(line)
      process.stdout.write(json ? `${JSON.stringify(line)}\n` : row(line))
    }
    summarize(lines)
  } catch (error) {
    if (!(error instanceof Unusable)) throw error
    say(error.message)
    process.exitCode = 1
  }
}

/** A case that lacks something is told as such, and does not hold; so is one that the verifier stumbles over, which it never should. */
async function judge({ id, expected, judge: outcomeOf }: Case): Promise<Line> {
  try {
    const got = await outcomeOf()
    return { case: id, expected: expected.says, got, holds: expected.holds(got) }
  } catch (error) {
    say(`${id}: ${error instanceof Error ? error.message : String(error)}`)
    return { case: id, expected: expected.says, got: error instanceof Unusable ? 'UNUSABLE' : 'THROWN', holds: false }
  }
}

function row({ case: id, expected, got, holds }: Line): string {
  const mark = holds === null ? ' ' : holds ? styleText('green', '✓') : styleText('red', '✗')
  return `${mark} ${id.padEnd(60)} ${got.padEnd(24)} ${expected ?? ''}\n`
}

function summarize(lines: readonly Line[]): void {
  const count = (holds: boolean | null) => lines.filter(line => line.holds === holds).length
  say(`${lines.length} cases: ${count(true)} hold, ${count(false)} do not, of ${count(null)} nothing is expected`)
  if (count(false) > 0) process.exitCode = 1
}

function say(sentence: string): void {
  process.stderr.write(`conformance: ${sentence}\n`)
}
