import { expect, test } from 'vitest'
import { assay } from '../harness/assay.ts'
import { run } from '../harness/process.ts'

// What a shell offers is what the commands have: each of the shells is asked.

const script = async (shell: string) => (await assay(['completion', shell])).stdout

/** What the help of a command lists below `Commands:`. */
async function listed(words: readonly string[]): Promise<string[]> {
  const { stdout } = await assay([...words, '--help'])
  const [, commands = ''] = /\nCommands:\n((?: .*\n)+)/.exec(stdout) ?? []
  return [...commands.matchAll(/^ {2}([a-z]\S*)/gm)].map(([, name = '']) => name).filter(name => name !== 'help')
}

const typed: readonly (readonly string[])[] = [
  [''],
  ['agent', ''],
  ['agent', '--'],
  ['audit', 'v'],
  ['server', '--vault-addr', 'http://v', '--'],
  ['completion', ''],
]

/** What bash offers when TAB is typed after these words. */
async function bash(words: readonly string[]): Promise<string[]> {
  const quoted = ['assay', ...words].map(word => `'${word}'`).join(' ')
  const lines = [
    await script('bash'),
    `COMP_WORDS=(${quoted}); COMP_CWORD=${words.length}; _assay; printf '%s\\n' "\${COMPREPLY[@]}"`,
  ]
  const { code, stdout, stderr } = await run('bash', ['--norc', '-c', lines.join('\n')])
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  return stdout.split('\n').filter(line => line !== '')
}

test('bash offers commands, their commands, and options', async () => {
  expect(await bash([''])).toEqual(expect.arrayContaining(await listed([])))
  expect(await bash(['agent', ''])).toEqual(expect.arrayContaining(await listed(['agent'])))
  expect(await bash(['audit', 'v'])).toEqual(['verify'])
  expect(await bash(['audit', 'verify', '--j'])).toEqual(['--json'])
  expect(await bash(['server', '--vault-addr', 'http://127.0.0.1:8200', '--d'])).toEqual(['--dev', '--deadline'])
  expect(await bash(['completion', ''])).toEqual(['bash', 'zsh', 'fish', '--help'])
})

test('fish offers the same', async () => {
  const source = await script('fish')
  for (const words of typed) {
    const line = ['assay', ...words].join(' ')
    const { stdout } = await run('fish', ['--no-config', '-c', `${source}\ncomplete -C ${JSON.stringify(line)}`])
    const offered = stdout.split('\n').map(one => one.split('\t')[0] ?? '')
    // options are offered when a dash is typed
    const wanted = (await bash(words)).filter(word => (words.at(-1) ?? '').startsWith('-') || !word.startsWith('-'))
    expect(offered, line).toEqual(expect.arrayContaining(wanted))
  }
})

test('zsh offers the same', async () => {
  const source = await script('zsh')
  for (const words of typed) {
    const array = ['assay', ...words].map(word => `'${word}'`).join(' ')
    // compadd tells what it is given, less what does not begin as the word does
    const stub = `compadd() { shift; print -l -- \${(M)@:#\${words[CURRENT]}*} }; words=(${array}); CURRENT=${words.length + 1}; _assay`
    const { stdout, stderr } = await run('zsh', ['-f', '-c', `${source}\n${stub}`])
    expect({ words, stderr, offered: stdout.split('\n').filter(line => line !== '') }).toEqual({
      words,
      stderr: '',
      offered: await bash(words),
    })
  }
})
