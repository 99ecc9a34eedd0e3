import { qualifyingData } from '#attestation'
import { startVaultRaft, type Vault } from '../test/harness/vault.ts'
import { type Connection, measure, open, post } from './load.ts'
import { type Machine, type Parts, startParts } from './parts.ts'
import { inTurn, median, type Row, row } from './rows.ts'

const ROUNDS = 4
const SECONDS = 3
const MACHINES = 8

/** B2: an attested login, challenge and quote and login, against an AppRole login; storage is raft, every write synced. */
export async function benchLogin(): Promise<readonly Row[]> {
  await using vault = await startVaultRaft()
  await using parts = await startParts(vault, MACHINES)
  const appRole = { service: await appRoleLogin(vault, 'service'), batch: await appRoleLogin(vault, 'batch') }
  const rows: Row[] = []
  for (const connections of [1, MACHINES]) {
    rows.push(await compare(parts, appRole.service, connections, 'service', 'service', '>= 1.0'))
    rows.push(await compare(parts, appRole.batch, connections, 'batch', 'batch', '>= 0.5'))
    rows.push(await compare(parts, appRole.service, connections, 'batch', 'service', '>= 1.0'))
  }
  return rows
}

type Kind = 'service' | 'batch'

async function compare(
  parts: Parts,
  theirs: Buffer,
  connections: number,
  ourKind: Kind,
  theirKind: Kind,
  goal: string,
): Promise<Row> {
  const { a, b } = await inTurn(
    ROUNDS,
    () => logins(parts.machines.slice(0, connections), parts.door.address, ourKind),
    async () => (await measure({ address: parts.vault.address, connections, seconds: SECONDS, request: () => theirs })).perSecond,
  )
  const what = `attested login, ${ourKind} token, against AppRole login, ${theirKind} token, ${connections} at a time, per second`
  return row({ id: 'B2', what, ours: median(a), theirs: median(b), goal })
}

/** Each machine logs in again and again with its own TPM: what a quote costs the TPM counts too. */
async function logins(machines: readonly Machine[], address: string, role: Kind): Promise<number> {
  const until = performance.now() + SECONDS * 1000
  const started = performance.now()
  const counts = await Promise.all(machines.map(machine => loginUntil(machine, address, role, until)))
  return counts.reduce((sum, count) => sum + count, 0) / ((performance.now() - started) / 1000)
}

async function loginUntil({ attester }: Machine, address: string, role: Kind, until: number): Promise<number> {
  const { name } = await attester.attestationKey()
  const connection = await open(address)
  const challenge = post(address, 'auth/tpm-quote/challenge', { role, ak_name: name.toString('hex') })
  let count = 0
  for (; performance.now() < until; count++) {
    const drawn = JSON.parse(await ok(connection, challenge)).data
    const context = {
      operation: 'login',
      mount: 'auth/tpm-quote/',
      role,
      audience: '',
      akName: name,
      keyThumbprint: '',
      plugin: '',
      action: '',
      scope: [],
    } as const
    const quoted = await attester.quote(drawn.pcrs, qualifyingData(Buffer.from(drawn.nonce, 'base64'), context))
    const answer = { attest: quoted.attest.toString('base64'), signature: quoted.signature.toString('base64'), pcrs: quoted.pcrs }
    await ok(
      connection,
      post(address, 'auth/tpm-quote/login', { role, ak_name: name.toString('hex'), challenge: drawn.challenge, ...answer }),
    )
  }
  connection.close()
  return count
}

async function ok(connection: Connection, request: Buffer): Promise<string> {
  const { status, body } = await connection.exchange(request)
  if (status !== 200) throw new Error(`a login was answered with ${status}: ${body}`)
  return body
}

async function appRoleLogin(vault: Vault, kind: Kind): Promise<Buffer> {
  const role = `auth/approle/role/bench-${kind}`
  await vault.api('POST', role, { token_policies: 'default', token_ttl: '1h', token_type: kind })
  const [id, secret] = [await vault.api('GET', `${role}/role-id`), await vault.api('POST', `${role}/secret-id`, {})]
  return post(vault.address, 'auth/approle/login', { role_id: id.body.data.role_id, secret_id: secret.body.data.secret_id })
}
