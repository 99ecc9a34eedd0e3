import { type Audit, type AuditRecord, type Holder, hashed, type Log, plain } from '#engine'
import type { StreamPorts, StreamSwap } from './connectors/connector.ts'
import type { GatePorts } from './http/gate.ts'
import type { ServerPorts } from './http/server.ts'
import type { ProxyMetrics } from './metrics.ts'
import { accept } from './refusals.ts'
import { unavailable } from './tokens.ts'

/** What is on record, and counted, of swaps and refusals. */
export type Records = {
  readonly record: GatePorts['record']
  readonly recordStream: StreamPorts['record']
  readonly refused: ServerPorts['refused']
}

export type RecordPorts = {
  readonly audit: Audit
  /** whether the record of each request is on disk before it goes out */
  readonly durable: boolean
  readonly log: Log
  readonly metrics: ProxyMetrics
}

/** A request goes out with its record on the way to the disk, unless that is to be there first; what lasts waits for it: there it costs nothing. */
export function openRecords({ audit, durable, log, metrics }: RecordPorts): Records {
  return {
    record: ({ head, service, known, rule }, { holder }, txn, upgrade) => {
      const record = recordOf({ known, service: service.name, destination: head.destination, rule }, holder, txn)
      metrics.swaps.inc({ service: service.name })
      if (!durable && !upgrade) return audit.appendLazy(record)
      return audit.append(record).then(() => undefined)
    },
    recordStream: async (swap, held, txn) => {
      metrics.swaps.inc({ service: swap.service })
      return audit.append(recordOf(swap, held.holder, txn)).then(() => accept(undefined), unavailable)
    },
    refused: refusalsOf({ audit, log, metrics }),
  }
}

/** Who swapped what for where; of the token only its id, of the path only its keyed hash and the rule that it fits. */
function recordOf({ known, service, destination, rule }: StreamSwap, holder: Holder, txn: string): AuditRecord {
  const { scheme, host, port, method, path } = destination
  const { agent, plugin } = known.binding
  return {
    type: 'request',
    txn,
    operation: 'swap',
    mount: 'proxy',
    path: hashed(path),
    fields: {
      agent: plain(agent),
      plugin: plain(plugin),
      jti: plain(known.jti),
      certificate: plain(holder.x5tS256),
      service: plain(service),
      destination: plain(`${scheme}://${host}:${port}`),
      method: plain(method),
      rule: plain(rule),
    },
  }
}

/** A refusal that cannot be recorded is a refusal all the same. */
function refusalsOf({ audit, log, metrics }: Pick<RecordPorts, 'audit' | 'log' | 'metrics'>): Records['refused'] {
  return (code, detail, txn, holder) => {
    metrics.refusals.inc({ code })
    const fields = { code: plain(code), detail: plain(detail), certificate: plain(holder?.x5tS256 ?? '') }
    try {
      audit.appendLazy({ type: 'refusal', txn, operation: 'swap', mount: 'proxy', path: '', fields })
    } catch (error) {
      log.error({ error, code, txn }, 'a refusal could not be recorded')
    }
  }
}
