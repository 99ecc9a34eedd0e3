import { join } from 'node:path'
import { login } from '../agent/flow.ts'
import { start } from '../test/harness/process.ts'
import { startVault } from '../test/harness/vault.ts'
import { type Measured, measure, post } from './load.ts'
import { type Parts, startParts } from './parts.ts'
import { inTurn, limitRow, median, type Row } from './rows.ts'

const ROUNDS = 6
const SECONDS = 2
const LIMIT_MS = 1.5

/** What asking through the front door, durable audit on, adds to asking the provider directly: OAuth 2.0 client credentials, one request at a time. */
export async function benchExchange(): Promise<readonly Row[]> {
  await using vault = await startVault()
  await using parts = await startParts(vault, 1)
  await using provider = await start(process.execPath, [join(import.meta.dirname, 'token_endpoint.ts')])
  const [, port = ''] = await provider.line(/^listens on (\d+)$/)
  const url = `http://127.0.0.1:${port}`
  const direct = { address: url, request: () => tokenRequest(url) }
  await configure(parts, url)
  return [
    await added('exchange', 'with the default policy', await asking(parts, 'service'), direct),
    await added('exchange.lean', 'without the default policy', await asking(parts, 'lean'), direct),
  ]
}

type Side = { readonly address: string; readonly request: () => Buffer }

async function added(id: string, token: string, through: Side, direct: Side): Promise<Row> {
  await Promise.all([measure({ ...through, connections: 8, seconds: 2 }), measure({ ...direct, connections: 8, seconds: 1 })])
  const at = (side: Side, connections: number) => measure({ ...side, connections, seconds: SECONDS })
  const { a, b } = await inTurn(
    ROUNDS,
    () => at(through, 1),
    () => at(direct, 1),
  )
  const ours = p50(a) - p50(b)
  const both = `${p50(a).toFixed(2)} against ${p50(b).toFixed(2)}`
  const what = `what an exchange for a token ${token} adds to the provider's own answer, p50, ms, lower is better (${both})`
  return limitRow({ id, what, ours, limit: LIMIT_MS })
}

const p50 = (measured: readonly Measured[]) => median(measured.map(one => one.p50Ms))

async function configure({ door }: Parts, url: string): Promise<void> {
  const settings = JSON.stringify({ token_url: `${url}/token`, grant: 'client_credentials', client_id: 'assay' })
  const role = ['plugins=kubernetes', 'actions=deploy', 'scopes=apps:write', 'audiences=https://api.example.com']
  const commands: readonly (readonly string[])[] = [
    ['write', 'broker/integration/bench', 'type=oauth2', `settings=${settings}`, 'secrets={"client_secret":"secret"}'],
    ['write', 'broker/role/exchange', ...role, 'issuer=oauth2', 'integration=bench', 'ttl=10m'],
  ]
  for (const args of commands) {
    const { code, stderr } = await door.vault(args)
    if (code !== 0) throw new Error(stderr)
  }
}

async function asking({ door, machines }: Parts, role: string): Promise<Side> {
  const [machine] = machines
  if (!machine) throw new Error('wanted a machine')
  const { token } = await login(machine.service, machine.attester, { role, bind: true })
  const request = post(door.address, 'broker/creds/exchange', { scope: ['apps:write'] }, token)
  return { address: door.address, request: () => request }
}

/** The bytes of what the front door sends. */
function tokenRequest(url: string): Buffer {
  const body = 'grant_type=client_credentials&scope=apps%3Awrite'
  const lines = [
    'POST /token HTTP/1.1',
    `Host: ${new URL(url).host}`,
    `Authorization: Basic ${Buffer.from('assay:secret').toString('base64')}`,
    'Content-Type: application/x-www-form-urlencoded',
    `Content-Length: ${body.length}`,
  ]
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n${body}`)
}
