import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { startVault } from '../test/harness/vault.ts'
import type { Sender } from './flood_sender.ts'
import { type Login, openLogin } from './login.ts'
import { type Machine, type Parts, startParts } from './parts.ts'
import { inTurn, median, type Row, row } from './rows.ts'

const ROUNDS = 4
const SECONDS = 8
const CONNECTIONS = 256

/** flood: what a login takes while others ask for challenges on many connections, each as soon as the last was answered: in names of keys that
 *  nobody has, and in the name of another machine. They come from the same address as the machine that logs in. */
export async function benchFlood(): Promise<readonly Row[]> {
  await using vault = await startVault()
  await using parts = await startParts(vault, 2)
  const [good, other] = parts.machines as [Machine, Machine]
  const akName = (await other.attester.attestationKey()).name.toString('hex')
  const login = await openLogin(good, parts.door.address)
  await logins(login, SECONDS)
  const rows = [
    await compare(parts, login, 'that nobody has', {}),
    await compare(parts, login, 'that another machine has', { akName }),
  ]
  login.close()
  return rows
}

async function compare({ door }: Parts, login: Login, whose: string, names: { akName?: string }): Promise<Row> {
  const sender: Sender = { address: door.address, connections: CONNECTIONS, ...names }
  const flooded = async () => {
    const flood = new Worker(new URL('./flood_sender.ts', import.meta.url), { workerData: sender })
    await once(flood, 'message')
    const p99 = await logins(login, SECONDS)
    await flood.terminate()
    return p99
  }
  const { a, b } = await inTurn(ROUNDS, flooded, () => logins(login, SECONDS))
  return row({
    id: 'flood',
    what: `a login (challenge + login) while ${CONNECTIONS} connections ask for challenges in names of keys ${whose}, against one in peace, p99 in ms`,
    ours: median(a),
    theirs: median(b),
    goal: '<= 3',
  })
}

/** One login after the other; the 99th of a hundred, ms. */
async function logins(login: Login, seconds: number): Promise<number> {
  const times: number[] = []
  for (const until = performance.now() + seconds * 1000; performance.now() < until; ) times.push((await login.once()).requestMs)
  const sorted = times.toSorted((one, other) => one - other)
  return sorted[Math.floor(sorted.length * 0.99)] ?? Number.NaN
}
