import type { Command } from 'commander'
import { auditCommand } from './cli/audit.ts'
import { serverCommand } from './cli/server.ts'
import { type ReadSetUp, setupCommand } from './cli/setup.ts'

/** `assay server`, `assay setup` and `assay audit`. What they need is loaded when they run.
 *  @param ofProxy reads the configuration of a proxy, which is set up here too */
export function serverCommands(ofProxy: ReadSetUp): Command[] {
  return [serverCommand(), setupCommand(ofProxy), auditCommand()]
}
