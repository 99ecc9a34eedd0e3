import '../lib/node.js'
import { readFile } from 'node:fs/promises'
import known from './differs.json' with { type: 'json' }

// Two reports of the same tests: what passed straight has to pass through the front door, but for what is listed with a reason.

type Outcome = 'passed' | 'failed' | 'skipped'

/** By the name of the test, how it ended: a report as pytest writes it. */
async function outcomesOf(file: string): Promise<Map<string, Outcome>> {
  const text = await readFile(file, 'utf8')
  const cases = text.matchAll(/<testcase classname="([^"]+)" name="([^"]+)"[^>]*?(?:\/>|>([\s\S]*?)<\/testcase>)/g)
  return new Map(
    Array.from(cases, ([, place = '', name = '', inside = '']) => [
      `${place}.${name}`.replace('tests.integration_tests.', ''),
      outcomeOf(inside),
    ]),
  )
}

function outcomeOf(inside: string): Outcome {
  if (/<(?:failure|error)\b/.test(inside)) return 'failed'
  return inside.includes('<skipped') ? 'skipped' : 'passed'
}

const [straight, through] = await Promise.all(process.argv.slice(2, 4).map(outcomesOf))
if (!straight || !through) throw new Error('wanted two reports')
const passing = straight
  .entries()
  .filter(([, outcome]) => outcome === 'passed')
  .map(([name]) => name)
  .toArray()
const differing = passing.filter(name => through.get(name) !== 'passed')
const reasons: Readonly<Record<string, string>> = known
const surprising = differing.filter(name => !Object.hasOwn(reasons, name))
const outdated = Object.keys(reasons).filter(name => through.get(name) === 'passed')
const lines = [
  `${straight.size} tests: ${passing.length} pass straight, ${passing.length - differing.length} of them through the front door`,
  ...differing.map(name => `  differs  ${name}: ${reasons[name] ?? 'NOT KNOWN'}`),
  ...outdated.map(name => `  listed, but passes: ${name}`),
]
process.stdout.write(`${lines.join('\n')}\n`)
if (surprising.length > 0 || outdated.length > 0 || passing.length === 0) process.exitCode = 1
