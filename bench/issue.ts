import { login } from '../agent/flow.ts'
import { startVault } from '../test/harness/vault.ts'
import { type Measured, measure, post } from './load.ts'
import { type Parts, startParts } from './parts.ts'
import { inTurn, median, type Row, row } from './rows.ts'

const ROUNDS = 6
const SECONDS = 2
// the batch is what makes more than raw single calls possible at all
const GOALS: readonly (readonly [number, string])[] = [
  [1, '>= 0.5'],
  [32, '>= 0.5'],
  [64, '>= 1.2'],
]

/** B1: issuing a JWT, durable audit on, against raw `transit/sign` of as many bytes with the same key and token. */
export async function benchIssue(): Promise<readonly Row[]> {
  await using vault = await startVault()
  await using parts = await startParts(vault, 1)
  const sides = await sidesOf(parts)
  // both sides warm before anything counts
  await Promise.all([
    measure({ ...sides.ours, connections: 8, seconds: 2 }),
    measure({ ...sides.theirs, connections: 8, seconds: 2 }),
  ])
  const rows: Row[] = []
  for (const [connections, goal] of GOALS) {
    const { a, b } = await inTurn(
      ROUNDS,
      () => measure({ ...sides.ours, connections, seconds: SECONDS }),
      () => measure({ ...sides.theirs, connections, seconds: SECONDS }),
    )
    const what = `issue a JWT against transit/sign, ${connections} connections, per second (p50 ${spoken(a)} against ${spoken(b)} ms)`
    rows.push(
      row({ id: 'B1', what, ours: median(a.map(one => one.perSecond)), theirs: median(b.map(one => one.perSecond)), goal }),
    )
  }
  return rows
}

const spoken = (measured: readonly Measured[]) => median(measured.map(one => one.p50Ms)).toFixed(2)

async function sidesOf({ vault, door, machines }: Parts) {
  const [machine] = machines
  if (!machine) throw new Error('wanted a machine')
  const { token } = await login(machine.service, machine.attester, { role: 'service', bind: true })
  const asked = { plugin: 'kubernetes', action: 'deploy', scope: ['apps:write'] }
  const issue = post(door.address, 'broker/creds/deploy', asked, token)
  const keys = await vault.api('GET', 'transit/keys?list=true')
  const key = (keys.body.data.keys as string[]).find(name => name.startsWith('assay-issue-'))
  const input = Buffer.alloc(600, 'a').toString('base64')
  const sign = post(
    vault.address,
    `transit/sign/${key}`,
    { input, hash_algorithm: 'sha2-256', marshaling_algorithm: 'jws' },
    token,
  )
  return { ours: { address: door.address, request: () => issue }, theirs: { address: vault.address, request: () => sign } }
}
