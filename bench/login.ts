import { qualifyingData } from '#attestation'
import { startVaultRaft, type Vault } from '../test/harness/vault.ts'
import { type Connection, measure, open, post } from './load.ts'
import { type Machine, type Parts, startParts } from './parts.ts'
import { inTurn, median, type Row, row } from './rows.ts'

const ROUNDS = 4
const SECONDS = 3
const MACHINES = 8

/** B2: an attested login, challenge and login, against an AppRole login; storage is raft, every write synced. What the machine's own TPM
 *  needs for the quote in between is no work of the service: it is not counted, but told. */
export async function benchLogin(): Promise<readonly Row[]> {
  await using vault = await startVaultRaft()
  await using parts = await startParts(vault, MACHINES)
  const appRole = { service: await appRoleLogin(vault, 'service'), batch: await appRoleLogin(vault, 'batch') }
  const rows: Row[] = []
  for (const connections of [1, MACHINES]) {
    rows.push(await compare(parts, appRole.service, connections, 'service', '>= 1.0'))
    rows.push(await compare(parts, appRole.batch, connections, 'batch', '>= 0.5'))
  }
  return rows
}

type Kind = 'service' | 'batch'

async function compare(parts: Parts, theirs: Buffer, connections: number, theirKind: Kind, goal: string): Promise<Row> {
  const { a, b } = await inTurn(
    ROUNDS,
    () => logins(parts.machines.slice(0, connections), parts.door.address),
    async () => (await measure({ address: parts.vault.address, connections, seconds: SECONDS, request: () => theirs })).perSecond,
  )
  const quote = median(a.map(one => one.quoteMs)).toFixed(1)
  const what = `attested login (challenge + login), service token, against AppRole login, ${theirKind} token, ${connections} at a time, per second (a quote took ${quote} ms besides)`
  return row({ id: 'B2', what, ours: median(a.map(one => one.perSecond)), theirs: median(b), goal })
}

type Rate = { readonly perSecond: number; readonly quoteMs: number }
type Run = { readonly count: number; readonly requestMs: number; readonly quoteMs: number }

/** Each machine logs in again and again with its own TPM. */
async function logins(machines: readonly Machine[], address: string): Promise<Rate> {
  const until = performance.now() + SECONDS * 1000
  const runs = await Promise.all(machines.map(machine => loginUntil(machine, address, until)))
  const sum = (of: (run: Run) => number) => runs.reduce((total, run) => total + of(run), 0)
  const count = sum(run => run.count)
  return { perSecond: (machines.length * count * 1000) / sum(run => run.requestMs), quoteMs: sum(run => run.quoteMs) / count }
}

async function loginUntil(machine: Machine, address: string, until: number): Promise<Run> {
  const login = await openLogin(machine, address)
  const spent = { count: 0, requestMs: 0, quoteMs: 0 }
  for (; performance.now() < until; spent.count++) {
    const { requestMs, quoteMs } = await login.once()
    spent.requestMs += requestMs
    spent.quoteMs += quoteMs
  }
  login.close()
  return spent
}

export type Login = { readonly once: () => Promise<Omit<Run, 'count'>>; readonly close: () => void }

/** A machine that logs in again and again over one connection. */
export async function openLogin({ attester }: Machine, address: string): Promise<Login> {
  const role = 'service'
  const { name } = await attester.attestationKey()
  const connection = await open(address)
  const challenge = post(address, 'auth/tpm-quote/challenge', { role, ak_name: name.toString('hex') })
  const once = async () => {
    const spent = { requestMs: 0, quoteMs: 0 }
    const timed = async <T>(what: 'requestMs' | 'quoteMs', work: Promise<T>): Promise<T> => {
      const begun = performance.now()
      const done = await work
      spent[what] += performance.now() - begun
      return done
    }
    const drawn = JSON.parse(await timed('requestMs', ok(connection, challenge))).data
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
    const quote = attester.quote(drawn.pcrs, qualifyingData(Buffer.from(drawn.nonce, 'base64'), context))
    const quoted = await timed('quoteMs', quote)
    const answer = { attest: quoted.attest.toString('base64'), signature: quoted.signature.toString('base64'), pcrs: quoted.pcrs }
    const login = { role, ak_name: name.toString('hex'), challenge: drawn.challenge, ...answer }
    await timed('requestMs', ok(connection, post(address, 'auth/tpm-quote/login', login)))
    return spent
  }
  return { once, close: connection.close }
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
