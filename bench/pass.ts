import { startAssay } from '../test/harness/assay.ts'
import { startVault, type Vault } from '../test/harness/vault.ts'
import { get, type Measured, measure } from './load.ts'
import { startNginx } from './nginx.ts'
import { inTurn, limitRow, median, type Row, row } from './rows.ts'

const ROUNDS = 6
const SECONDS = 2
/** until the compiler has done its best for what is asked again and again: some 20,000 requests */
const WARM_SECONDS = 5
const ADDED_MS = 0.3

/** pass: a read that goes through the front door to Vault, against the same read at Vault itself and through nginx. */
export async function benchPass(): Promise<readonly Row[]> {
  await using vault = await startVault()
  await using door = await startAssay(vault)
  await using nginx = await startNginx(vault.address)
  await vault.api('POST', 'secret/data/app', { data: { user: 'app', password: 'something of a usual length' } })
  const load = (address: string, connections: number) => () => loadOf(vault, address, connections)
  for (const address of [door.address, nginx.address, vault.address]) await loadOf(vault, address, 8, WARM_SECONDS)
  const one = await inTurn(ROUNDS, load(door.address, 1), load(vault.address, 1))
  const nginxOne = await inTurn(ROUNDS, load(nginx.address, 1), load(vault.address, 1))
  const many = await inTurn(ROUNDS, load(door.address, 32), load(nginx.address, 32))
  const direct = await inTurn(ROUNDS, load(door.address, 32), load(vault.address, 32))
  const added = p50(one.a) - p50(one.b)
  const byNginx = p50(nginxOne.a) - p50(nginxOne.b)
  return [
    limitRow({
      id: 'pass',
      what: `a read, 1 connection: ms added to ${p50(one.b).toFixed(2)} at the median (nginx adds ${byNginx.toFixed(2)})`,
      ours: added,
      limit: ADDED_MS,
    }),
    row({ id: 'pass', what: 'a read, 32 connections, against nginx, per second', ...rates(many), goal: '>= 0.7' }),
    row({ id: 'pass', what: 'a read, 32 connections, against Vault itself, per second', ...rates(direct), goal: '>= 0.5' }),
  ]
}

function loadOf(vault: Vault, address: string, connections: number, seconds = SECONDS): Promise<Measured> {
  const bytes = get(address, 'secret/data/app', vault.rootToken)
  return measure({ address, connections, seconds, request: () => bytes })
}

const p50 = (measured: readonly Measured[]) => median(measured.map(one => one.p50Ms))
const perSecond = (measured: readonly Measured[]) => median(measured.map(one => one.perSecond))
const rates = ({ a, b }: { a: Measured[]; b: Measured[] }) => ({ ours: perSecond(a), theirs: perSecond(b) })
