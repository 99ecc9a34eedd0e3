import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { AttesterOptions } from '../../agent/attester.ts'
import { handlesFrom } from '../../agent/tpm/commands.ts'
import { type Tpm, tpmOver } from '../../agent/tpm/tpm.ts'
import { openTransport } from '../../agent/tpm/transport.ts'
import type { Swtpm } from '../harness/swtpm.ts'

const run = promisify(execFile)

/** Runs one of tpm2-tools on this TPM, afterwards freeing what it left behind: swtpm has no resource manager. */
export async function tool(swtpm: Swtpm, name: string, ...args: string[]): Promise<string> {
  const env = { ...process.env, TPM2TOOLS_TCTI: swtpm.tcti }
  const { stdout } = await run(name, args, { env })
  await run('tpm2_flushcontext', ['-t'], { env })
  return stdout
}

/** Handles that something left loaded. */
export async function leftovers(swtpm: Swtpm): Promise<string[]> {
  await using tpm = await openTpm(swtpm)
  const handles = [...(await handlesFrom(tpm, TRANSIENT)), ...(await handlesFrom(tpm, LOADED_SESSION))]
  return handles.map(handle => handle.toString(16))
}
const TRANSIENT = 0x80000000
const LOADED_SESSION = 0x02000000

export async function openTpm(swtpm: Swtpm): Promise<Tpm> {
  return tpmOver(await openTransport(swtpm.spec))
}

export const world = { now: Date.now, random: randomBytes } satisfies Partial<AttesterOptions>

/** A private folder for one test file. */
export async function folder(): Promise<{ readonly at: (name: string) => string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), 'assay-agent-test-'))
  return { at: name => join(path, name), [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}
