import { styleText } from 'node:util'

/** A check of the story that did not come out as told. */
export class Untold extends Error {}

/** Tells a story on a terminal and insists that it happens: `so` throws when it did not. */
export type Narrator = {
  readonly chapter: (title: string) => void
  readonly says: (text: string) => void
  readonly shows: (command: string, outcome?: string) => void
  readonly so: (what: string, holds: boolean, otherwise?: string) => void
  readonly told: () => number
}

export function openNarrator(write: (text: string) => void): Narrator {
  let chapters = 0
  let told = 0
  return {
    chapter: title => {
      chapters += 1
      write(`\n${styleText('bold', `${chapters}. ${title}`)}\n`)
    },
    says: text => write(`   ${text}\n`),
    shows: (command, outcome) => {
      write(`   ${styleText('cyan', `$ ${command}`)}\n`)
      if (outcome) for (const line of outcome.trim().split('\n')) write(`     ${styleText('dim', line)}\n`)
    },
    so: (what, holds, otherwise) => {
      if (!holds) throw new Untold(`not so: ${what}${otherwise === undefined ? '' : `\n${otherwise}`}`)
      told += 1
      write(`   ${styleText('green', '✓')} ${what}\n`)
    },
    told: () => told,
  }
}
