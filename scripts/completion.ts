import { Argument, Command } from 'commander'

type Shell = keyof typeof shells

/** `assay completion SHELL`: a script for the shell, read off the commands themselves. */
export function completionCommand(program: Command): Command {
  return new Command('completion')
    .description('print the completion of a shell: source <(assay completion bash)')
    .addArgument(new Argument('<shell>', 'which one').choices(Object.keys(shells)))
    .action((shell: Shell) => void process.stdout.write(shells[shell](tableOf(program, 'assay'))))
}

/** A command and what can be typed after it. */
type Row = { readonly path: string; readonly words: readonly Word[] }
type Word = { readonly text: string; readonly about: string }

/** Every command below one, with its commands, its long options, and what its first argument may be. */
function tableOf(command: Command, path: string): Row[] {
  const commands = command.commands.map(one => ({ text: one.name(), about: one.description() }))
  const options = command.options.flatMap(({ long, description }) => (long ? [{ text: long, about: description }] : []))
  const choices = command.registeredArguments.flatMap(({ argChoices = [] }) => argChoices.map(text => ({ text, about: '' })))
  const own = { path, words: [...commands, ...choices, ...options, { text: '--help', about: 'display help for command' }] }
  return [own, ...command.commands.flatMap(one => tableOf(one, `${path} ${one.name()}`))]
}

const textsOf = ({ words }: Row) => words.map(({ text }) => text).join(' ')
const shells = { bash, zsh, fish }

/** The longest path that the words so far name; what is no command is an option or its value. Files, where no word fits. */
function bash(rows: readonly Row[]): string {
  return `# completion of assay for bash: source <(assay completion bash)
_assay() {
  local current=\${COMP_WORDS[COMP_CWORD]} at=assay word
  local -A words=(
${rows.map(row => `    ['${row.path}']='${textsOf(row)}'`).join('\n')}
  )
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    [[ -v words["$at $word"] ]] && at="$at $word"
  done
  mapfile -t COMPREPLY < <(compgen -W "\${words[$at]}" -- "$current")
}
complete -o default -F _assay assay
`
}

function zsh(rows: readonly Row[]): string {
  return `#compdef assay
# completion of assay for zsh: a file named _assay in a folder of $fpath, or source <(assay completion zsh)
_assay() {
  local at=assay word
  local -A table=(
${rows.map(row => `    '${row.path}' '${textsOf(row)}'`).join('\n')}
  )
  for word in "\${(@)words[2,CURRENT-1]}"; do
    (( \${+table[$at $word]} )) && at="$at $word"
  done
  compadd -- \${=table[$at]} || _files
}
(( \${+functions[compdef]} )) && compdef _assay assay
`
}

function fish(rows: readonly Row[]): string {
  const quoted = (text: string) => `'${text.replaceAll(/['\\]/g, '\\$&')}'`
  const lines = rows.flatMap(({ path, words }) =>
    words.map(({ text, about }) => {
      const what = text.startsWith('--') ? `-l ${text.slice(2)}` : `-f -a ${text}`
      return `complete -c assay -n ${quoted(`__assay_at ${quoted(path)}`)} ${what} -d ${quoted(about)}`
    }),
  )
  return `# completion of assay for fish: assay completion fish | source
function __assay_at
  set -l paths ${rows.map(({ path }) => quoted(path)).join(' ')}
  set -l at assay
  for word in (commandline -opc)[2..]
    contains -- "$at $word" $paths; and set at "$at $word"
  end
  test "$at" = "$argv[1]"
end
${lines.join('\n')}
`
}
