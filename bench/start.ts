import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { login } from '../agent/flow.ts'
import { assay } from '../test/harness/assay.ts'
import { freePort, type Ran, run, start } from '../test/harness/process.ts'
import { discard, scratch } from '../test/harness/scratch.ts'
import { startVault, type Vault } from '../test/harness/vault.ts'
import { open, post } from './load.ts'
import { startParts } from './parts.ts'
import { limitRow, median, type Row } from './rows.ts'

const ROUNDS = 9
const LIMIT_MS = 600
const bundler = join(import.meta.dirname, '../scripts/bundle.ts')

/** B7: from spawning a second replica beside a running Vault to the first credential that it issues; set up and started as in production, as one
 *  file with a compile cache. */
export async function benchStart(): Promise<readonly Row[]> {
  await using vault = await startVault()
  await using parts = await startParts(vault, 1)
  const [machine] = parts.machines
  if (!machine) throw new Error('wanted a machine')
  const { token } = await login(machine.service, machine.attester, { role: 'service', bind: true })
  const folder = await scratch('assay-start-')
  try {
    const program = join(folder, 'assay.mjs')
    await succeeded(run(process.execPath, [bundler, program]))
    const configure = await setUp(vault, folder)
    const times: number[] = []
    // the first start fills the compile cache, as the first on any machine does
    for (let round = 0; round <= ROUNDS; round++) times.push(await firstCredential({ program, configure, folder, token }))
    const what = 'server start to first credential beside a running Vault, ms (lower is better)'
    return [limitRow({ id: 'B7', what, ours: median(times.slice(1)), limit: LIMIT_MS })]
  } finally {
    await discard(folder)
  }
}

type Configure = (port: number) => Promise<string>

/** What an operator does once: the AppRole and its secret id; then a configuration for each port. */
async function setUp(vault: Vault, folder: string): Promise<Configure> {
  const secretIdFile = join(folder, 'secret-id')
  const stdout = await succeeded(assay(['setup', '--apply', '--secret-id-file', secretIdFile], vault.env))
  const roleId = /role_id: (\S+)/.exec(stdout)?.[1] ?? ''
  return async port => {
    const file = join(folder, `${port}.yaml`)
    const config = {
      vault: { address: vault.address, approle: { role_id: roleId, secret_id_file: secretIdFile } },
      listen: { port },
      audit: { file: join(folder, `${port}.jsonl`) },
      log_level: 'error',
    }
    await writeFile(file, JSON.stringify(config))
    return file
  }
}

async function succeeded(running: Promise<Ran>): Promise<string> {
  const { code, stdout, stderr } = await running
  if (code !== 0) throw new Error(stderr)
  return stdout
}

type Started = { readonly program: string; readonly configure: Configure; readonly folder: string; readonly token: string }

async function firstCredential({ program, configure, folder, token }: Started): Promise<number> {
  const port = await freePort()
  const address = `http://127.0.0.1:${port}`
  const config = await configure(port)
  const request = post(address, 'broker/creds/deploy', { plugin: 'kubernetes', action: 'deploy', scope: ['apps:write'] }, token)
  const begun = performance.now()
  const env = { PATH: process.env['PATH'], HOME: folder, NODE_COMPILE_CACHE: join(folder, 'cache') }
  await using server = await start(process.execPath, [program, 'server', '--config', config], { env })
  await server.line(/^assay serves /, 30_000)
  const connection = await open(address)
  const { status } = await connection.exchange(request)
  const took = performance.now() - begun
  connection.close()
  if (status !== 200) throw new Error(`the first request was answered with ${status}`)
  return took
}
