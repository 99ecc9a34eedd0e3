import { LRUCache } from 'lru-cache'
import { type Audit, type AuditRecord, type Holder, type Log, plain, SharedFields } from '#engine'
import type { StreamPorts, StreamSwap } from './connectors/connector.ts'
import type { GatePorts } from './http/gate.ts'
import type { ServerPorts } from './http/server.ts'
import type { ProxyMetrics } from './metrics.ts'
import { accept } from './refusals.ts'
import { type Known, unavailable } from './tokens.ts'

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
  const recordOf = recorderOf(audit.hash)
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

/** Paths that were asked for, with their hash, and what requests of one token have in common: agents ask for the same again and again. */
const PATHS = 1000
const LONGEST_PATH = 512
const KINDS = 20

/** Who swapped what for where; of the token only its id, of the path only its keyed hash and the rule that it fits. */
function recorderOf(hash: Audit['hash']): (swap: StreamSwap, holder: Holder, txn: string) => AuditRecord {
  const paths = new LRUCache<string, string>({ max: PATHS, memoMethod: hash })
  const kinds = new WeakMap<Known, Kinds>()
  const remember = (known: Known) => {
    const made: Kinds = new LRUCache({ max: KINDS, memoMethod: (_, __, { context }) => fieldsOf(context.swap, context.holder) })
    kinds.set(known, made)
    return made
  }
  return (swap, holder, txn) => {
    const { known, service, destination, rule } = swap
    const { scheme, host, port, method, path } = destination
    const ofToken = kinds.get(known) ?? remember(known)
    const kind = `${holder.x5tS256} ${service} ${method} ${scheme}://${host}:${port} ${rule}`
    const fields = ofToken.memo(kind, { context: { swap, holder } })
    return {
      type: 'request',
      txn,
      operation: 'swap',
      mount: 'proxy',
      path: path.length > LONGEST_PATH ? hash(path) : paths.memo(path),
      fields,
    }
  }
}

type Kinds = LRUCache<string, SharedFields, { readonly swap: StreamSwap; readonly holder: Holder }>

function fieldsOf({ known, service, destination, rule }: StreamSwap, { x5tS256 }: Holder): SharedFields {
  const { scheme, host, port, method } = destination
  return new SharedFields({
    agent: plain(known.binding.agent),
    plugin: plain(known.binding.plugin),
    jti: plain(known.jti),
    certificate: plain(x5tS256),
    service: plain(service),
    destination: plain(`${scheme}://${host}:${port}`),
    method: plain(method),
    rule: plain(rule),
  })
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
