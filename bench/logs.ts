import { appraiseEventLogs, type PcrTable, parseEventLog, replayEventLog } from '#attestation'
import { BrokerError, bytes } from '#engine'
import type { LogJob } from '../engine/attest/logs/log_job.ts'
import { openLogThread } from '../engine/attest/logs/log_thread.ts'
import { parseLargeJson } from '../mounts/hosts/large_json.ts'
import { boot, encodeLog, file, type Made } from '../test/attestation/eventlog_maker.ts'
import * as ima from '../test/attestation/ima_maker.ts'
import { limitRow, median, type Row } from './rows.ts'

const ROUNDS = 8
/** The lists of files are read with the first list, and the code of a new thread is as fast as it gets after some. */
const WARM = 4
const EVENTS = 100
const LINES = 50_000

/** B3.log: what a machine measured, judged beside its quote: the boot here, files in a thread of their own. */
export async function benchLogs(): Promise<readonly Row[]> {
  return [benchEventLog(), ...(await benchImaList())]
}

function benchEventLog(): Row {
  const more = Array.from({ length: EVENTS - boot.length }, (_, at): Made => file(`/boot/module-${at}`, `module ${at}`))
  const log = encodeLog([...boot, ...more])
  const parsed = parseEventLog(log)
  if (!parsed.ok) throw new Error(parsed.detail)
  const quoted = replayEventLog(parsed.value, 'sha256')
  if (!quoted.ok) throw new Error(quoted.detail)
  const replay = [...quoted.value.keys()]
  const once = () => {
    const begun = performance.now()
    const verdict = appraiseEventLogs([log], quoted.value, { bank: 'sha256', replay })
    if (!verdict.ok) throw new Error(`a good log was refused: ${verdict.detail}`)
    return performance.now() - begun
  }
  const times = Array.from({ length: 200 }, once).slice(100)
  return limitRow({
    id: 'B3.log.tcg',
    what: `judge an event log of ${EVENTS} events, all PCRs, in ms`,
    ours: median(times),
    limit: 2,
  })
}

async function benchImaList(): Promise<Row[]> {
  const { list, pcr10, files } = measured()
  const body = Buffer.from(JSON.stringify({ role: 'builder', ima_log: list.toString('base64') }))
  const thread = openLogThread()
  const quoted: PcrTable = new Map([['sha256', new Map([[10, pcr10]])]])
  const rules = { bank: 'sha256', extends: 'bank', bootAggregate: 'unchecked', files } as const
  const job: Omit<LogJob, 'logs'> = {
    quoted: { pcrs: quoted, firmwareVersion: '', obfuscated: false },
    references: [{ name: 'bench', pcrs: new Map(), ima: rules }],
    listing: false,
  }
  const costs: Cost[] = []
  for (let round = 0; round < WARM + ROUNDS; round++) {
    const imaList = received(body)
    const cost = costSince()
    const { verdict } = await thread.judge('machine', { ...job, logs: { imaList } })
    costs.push(cost())
    if (!verdict.ok) throw new Error(`a good list was refused: ${verdict.detail}`)
  }
  const taken = costs.slice(WARM)
  const what = `judge a list of IMA of ${LINES} lines against as many listed files`
  const arrival = Array.from({ length: ROUNDS }, () => {
    const cost = costSince()
    received(body)
    return cost().here
  })
  await thread.close()
  return [
    limitRow({
      id: 'B3.log.ima',
      what: `${what}: beside the event loop, in ms of CPU`,
      ours: median(taken.map(one => one.beside)),
      limit: 400,
    }),
    limitRow({
      id: 'B3.log.lag',
      what: `${what}: in the event loop, all in all, in ms of CPU`,
      ours: median(taken.map(one => one.here)),
      limit: 20,
    }),
    limitRow({
      id: 'B3.log.read',
      what: 'read such a list out of the body of a request, in ms of CPU',
      ours: median(arrival),
      limit: 20,
    }),
  ]
}

/** What was used of the CPUs by the thread of the event loop, and by all others, in ms: what else runs on the machine does not count. */
type Cost = { readonly here: number; readonly beside: number }

function costSince(): () => Cost {
  const [all, own] = [process.cpuUsage(), process.threadCpuUsage()]
  return () => {
    const [total, here] = [process.cpuUsage(all), process.threadCpuUsage(own)].map(
      ({ user, system }) => (user + system) / 1000,
    ) as [number, number]
    return { here, beside: total - here }
  }
}

const field = bytes('list', { max: 12 * 2 ** 20 })

function received(body: Buffer): Buffer {
  const { ima_log: sent } = parseLargeJson(body) as { ima_log: unknown }
  return field.read(sent) ?? fail()
}

function fail(): never {
  throw new BrokerError('bad_request', 'there is no list')
}

function measured() {
  const paths = [
    'boot_aggregate',
    ...Array.from({ length: LINES - 1 }, (_, at) => `/usr/lib/x86_64-linux-gnu/package-${at % 400}/file-${at}.so`),
  ]
  const list = ima.encodeList(paths.map(path => ima.entry(path)))
  const pcr10 = ima.pcrOf(paths.map(path => ima.fieldsOf(path)))
  const lines = paths.slice(1).map(path => `${ima.digestOf(path).slice('sha256:'.length)}  ${path}\n`)
  const files = [0, 1, 2, 3, 4, 5, 6, 7].map(part => ({
    key: `part ${part}`,
    text: lines.filter((_, at) => at % 8 === part).join(''),
  }))
  return { list, pcr10, files }
}
