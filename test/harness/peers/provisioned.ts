import { join } from 'node:path'
import { run } from '../process.ts'

const setup = join(import.meta.dirname, '../../../scripts/lib/setup.sh')

/** What a function of setup.sh found or made, by the name of the variable that it sets. */
export async function provisioned(need: string, variable: string): Promise<string> {
  const { code, stdout, stderr } = await run('bash', ['-c', `set -eu; . "$0"; ${need}; printf %s "$${variable}"`, setup], {
    withinMs: 600_000,
  })
  if (code !== 0) throw new Error(`${need} ended with ${code}: ${stderr}`)
  return stdout
}
