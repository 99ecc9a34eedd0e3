import { globSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Command } from 'commander'
import { describe, expect, test } from 'vitest'
import { agentCommand } from '../../agent/cli.ts'
import { exits } from '../../agent/exits.ts'
import { transports } from '../../agent/tpm/transport.ts'

// Every command of the agent that a page shows is one that the agent takes: its options are there, and their values have the form that they want.

const ROOT = join(import.meta.dirname, '../..')
const pages = globSync(['*.md', '*/README.md', 'docs/*.md'], { cwd: ROOT, exclude: ['node_modules/**'] }).toSorted()

/** Words of the shell, as far as our pages need it: quotes, and variables that the page itself sets. */
function wordsOf(line: string): string[] {
  return [...line.matchAll(/'([^']*)'|"((?:[^"\\]|\\.)*)"|([^\s'"]+)/g)].map(
    ([, single, double, bare]) => single ?? double ?? bare ?? '',
  )
}

/** Commands in blocks of code, whole, each without what comes behind it. */
function commandsIn(page: string): string[] {
  const fences = page.replaceAll('\\\n', ' ').split(/^```(.*)\n/m)
  // text, what the block is in, block, what the fence at its end says, text, ...
  const blocks = fences.filter((_, at) => at % 4 === 2 && ['', 'sh', 'sh run'].includes(fences[at - 1] ?? ''))
  return blocks.flatMap(block => {
    const set = Object.fromEntries(
      [...block.matchAll(/^([a-z_]+)="([^"]*)"$/gm)].map(([, name = '', value = '']) => [name, value]),
    )
    const lines = block.split('\n').map(line => line.replace(/\$([a-z_]+)\b/g, (whole, name: string) => set[name] ?? whole))
    return lines.flatMap(line => /(?:^|\s|\()(?:\.\/scripts\/)?assay agent ([a-z][^|>#;&)]*)/.exec(line)?.[1] ?? [])
  })
}

const shown = await Promise.all(
  pages.map(async page => commandsIn(await readFile(join(ROOT, page), 'utf8')).map(command => [page, command.trim()] as const)),
)

describe('the agent takes', () => {
  test('commands of several pages', () => expect(shown.filter(one => one.length > 0).length).toBeGreaterThan(4))

  test.each(shown.flat())('%s: %s', (_, line) => {
    const [name = '', ...words] = wordsOf(line)
    const command = agentCommand().commands.find(one => one.name() === name) as Command
    expect(command?.name()).toBe(name)
    command.exitOverride().configureOutput({ writeErr: () => undefined })
    const end = words.indexOf('--')
    const { unknown } = command.parseOptions(end < 0 ? words : words.slice(0, end))
    expect(unknown).toEqual([])
    const wanting = command.options.filter(one => one.mandatory && command.getOptionValue(one.attributeName()) === undefined)
    expect(wanting).toEqual([])
  })
})

test('the page of the agent has the exit codes and the ways to reach a TPM', async () => {
  const page = await readFile(join(ROOT, 'agent', 'README.md'), 'utf8')
  for (const { code, when } of Object.values(exits)) expect(page).toContain(`| ${code} | ${when} |`)
  for (const { form } of transports.values()) expect(page).toContain(`\`${form}\``)
})
