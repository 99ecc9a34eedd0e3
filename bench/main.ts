import '../scripts/lib/node.js'
import { parseArgs } from 'node:util'
import { describeMachine } from './machine.ts'
import type { Row } from './rows.ts'

/** Every benchmark, by the name that the command line takes. */
const benches: Readonly<Record<string, () => Promise<readonly Row[]>>> = {
  B1: async () => (await import('./issue.ts')).benchIssue(),
  B2: async () => (await import('./login.ts')).benchLogin(),
  B3: async () => (await import('./verify.ts')).benchVerify(),
  'B3.log': async () => (await import('./logs.ts')).benchLogs(),
  trust: async () => (await import('./trust.ts')).benchTrust(),
  flood: async () => (await import('./flood.ts')).benchFlood(),
  B4: async () => (await import('./proxy.ts')).benchProxy(),
  B6: async () => (await import('./leases.ts')).benchLeases(),
  B7: async () => (await import('./start.ts')).benchStart(),
  exchange: async () => (await import('./exchange.ts')).benchExchange(),
  pass: async () => (await import('./pass.ts')).benchPass(),
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: 'boolean', default: false }, help: { type: 'boolean', default: false } },
})

if (values.help) {
  process.stdout.write(
    `usage: npm run bench -- [${Object.keys(benches).join(' | ')} ...] [--json]\nEach row compares two sides in one run on this machine; without names all rows run.\n`,
  )
} else {
  const names = positionals.length > 0 ? positionals : Object.keys(benches)
  const unknown = names.find(name => !Object.hasOwn(benches, name))
  if (unknown) throw new Error(`there is no benchmark ${unknown}: wanted ${Object.keys(benches).join(', ')}`)
  await report(names)
}

async function report(names: readonly string[]): Promise<void> {
  const rows: Row[] = []
  process.stderr.write(`${await describeMachine()}\n`)
  for (const name of names) {
    process.stderr.write(`${name} runs …\n`)
    rows.push(...((await benches[name]?.()) ?? []))
  }
  process.stdout.write(values.json ? `${JSON.stringify({ rows })}\n` : table(rows))
  // undici keeps idle connections; everything that was started has been stopped
  process.exit(0)
}

function table(rows: readonly Row[]): string {
  const cells = rows.map(({ id, what, ours, theirs, ratio, goal, holds }) => [
    id,
    String(ours),
    String(theirs),
    String(ratio),
    goal,
    holds ? 'holds' : 'MISSED',
    what,
  ])
  const all = [['id', 'ours', 'theirs', 'ratio', 'goal', '', 'what'], ...cells]
  const widths = all[0]?.map((_, column) => Math.max(...all.map(line => line[column]?.length ?? 0))) ?? []
  return `${all
    .map(line =>
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')}\n`
}
