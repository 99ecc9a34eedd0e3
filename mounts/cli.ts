import type { Command } from 'commander'
import { auditCommand } from './cli/audit.ts'
import { serverCommand } from './cli/server.ts'
import { setupCommand } from './cli/setup.ts'

/** `assay server`, `assay setup` and `assay audit`. What they need is loaded when they run. */
export function serverCommands(): Command[] {
  return [serverCommand(), setupCommand(), auditCommand()]
}
