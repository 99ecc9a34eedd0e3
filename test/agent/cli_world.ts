import { randomBytes } from 'node:crypto'
import { EventEmitter } from 'node:events'
import { tmpdir } from 'node:os'
import { agentCommand } from '../../agent/cli.ts'

export type Outcome = { readonly code: number; readonly out: string; readonly err: string }

/** Runs `assay agent` with these arguments in this process, as the command line would. */
export async function agent(env: Record<string, string>, ...args: string[]): Promise<Outcome> {
  let [code, out, err] = [-1, '', '']
  const command = agentCommand({
    env: { PATH: process.env['PATH'], ...env },
    program: ['assay'],
    now: Date.now,
    random: randomBytes,
    out: text => {
      out += text
    },
    err: text => {
      err += text
    },
    exit: given => {
      code = given
    },
    terminal: false,
    signals: new EventEmitter(),
    directories: [tmpdir()],
  })
  await command.parseAsync(args, { from: 'user' })
  return { code, out, err }
}
