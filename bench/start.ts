import { join } from 'node:path'
import { login } from '../agent/flow.ts'
import { freePort, start } from '../test/harness/process.ts'
import { startVault } from '../test/harness/vault.ts'
import { open, post } from './load.ts'
import { startParts } from './parts.ts'
import { limitRow, median, type Row } from './rows.ts'

const ROUNDS = 7
const LIMIT_MS = 600
const cli = join(import.meta.dirname, '../scripts/assay.js')

/** B7: from spawning a second replica beside a running Vault to the first credential that it issues. */
export async function benchStart(): Promise<readonly Row[]> {
  await using vault = await startVault()
  await using parts = await startParts(vault, 1)
  const [machine] = parts.machines
  if (!machine) throw new Error('wanted a machine')
  const { token } = await login(machine.service, machine.attester, { role: 'service', bind: true })
  const times: number[] = []
  for (let round = 0; round < ROUNDS; round++) times.push(await firstCredential(vault.env, vault.address, token))
  return [
    limitRow({
      id: 'B7',
      what: 'server start to first credential beside a running Vault, ms (lower is better)',
      ours: median(times),
      limit: LIMIT_MS,
    }),
  ]
}

async function firstCredential(env: NodeJS.ProcessEnv, vaultAddress: string, token: string): Promise<number> {
  const listen = `127.0.0.1:${await freePort()}`
  const address = `http://${listen}`
  const request = post(address, 'broker/creds/deploy', { plugin: 'kubernetes', action: 'deploy', scope: ['apps:write'] }, token)
  const begun = performance.now()
  const args = [
    cli,
    'server',
    '--dev',
    '--vault-addr',
    vaultAddress,
    '--listen',
    listen,
    '--audit-file',
    `${env['HOME']}/${listen}.jsonl`,
  ]
  await using server = await start(process.execPath, args, { env })
  await server.line(/^assay serves /, 10_000)
  const connection = await open(address)
  const { status } = await connection.exchange(request)
  const took = performance.now() - begun
  connection.close()
  if (status !== 200) throw new Error(`the first request was answered with ${status}`)
  return took
}
