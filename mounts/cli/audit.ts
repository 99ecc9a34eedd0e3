import { Command } from 'commander'
import { reported } from './reported.ts'

export function auditCommand(): Command {
  const verify = new Command('verify')
    .description('check the hash chain of an audit log; exits 1 and names the first bad record when it does not hold')
    .argument('<file...>', 'the log, or all of its files')
    .option('--json', 'one JSON document')
    .option('--head <hash>', 'hash of the last record, known from elsewhere: only so does it show that the end was cut off')
    .action((files: string[], options: VerifyOptions, command: Command) => reported(command, () => runVerify(files, options)))
  return new Command('audit').description('look after audit logs').addCommand(verify)
}

type VerifyOptions = { json?: true; head?: string }

async function runVerify(files: readonly string[], { json, head }: VerifyOptions): Promise<void> {
  const { faults, inOrder, verifyAudit } = await import('#engine/audit')
  const verified = async () => {
    const ordered = await inOrder(files)
    const found = await verifyAudit(ordered, head === undefined ? {} : { head })
    // files are counted as they were named
    return found.ok ? found : { ...found, at: { ...found.at, file: files.indexOf(ordered[found.at.file] ?? '') } }
  }
  const verdict = await verified().catch(async (error: NodeJS.ErrnoException) => {
    const { BrokerError } = await import('#engine')
    throw new BrokerError('unavailable', `the log cannot be read: ${error.code ?? error.message}`, { cause: error })
  })
  process.stdout.write(json ? `${JSON.stringify(verdict)}\n` : `${described(verdict)}\n`)
  if (!verdict.ok) process.exitCode = 1

  function described(found: typeof verdict): string {
    if (found.ok) return `the chain holds: ${found.records} records, the last is ${found.head.index} with hash ${found.head.hash}`
    const { file, line, index } = found.at
    return `the chain is broken in ${files[file] ?? 'the log'} at line ${line}, where record ${index} was expected: ${faults[found.reason]} (${found.reason})`
  }
}
