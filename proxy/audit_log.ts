import { type Audit, absent, BrokerError, type Log, type OwnVault, openAudit, Secret, VaultRefusal } from '#engine'
import type { ProxyConfig } from './config.ts'
import type { ProxyMetrics } from './metrics.ts'

const AUDIT_KEY = 'proxy/audit-key'

type World = {
  readonly now: () => number
  /** unpredictable bytes */
  readonly random: (size: number) => Buffer
  readonly log: Log
}

/** The audit log of this process, under the key that all proxies of a Vault have.
 *  @throws BrokerError unavailable when the key or the file cannot be had */
export async function openAuditLog(
  own: OwnVault,
  file: string,
  config: ProxyConfig,
  { now, random, log }: World,
  metrics: ProxyMetrics,
): Promise<Audit> {
  const key = await auditKey(own, `${config.places.kv}/data/${AUDIT_KEY}`, random)
  log.hide(key)
  return openAudit({
    file,
    deadlineMs: config.audit.deadline_ms,
    key,
    now,
    onBad: fault => {
      metrics.auditProblems.inc({ kind: fault.kind })
      log.error(fault, 'the audit log has a fault')
    },
    ...metrics.audit,
  })
}

/** The key under which what agents chose is hashed: one for all proxies, made by whoever starts first.
 *  @throws BrokerError unavailable when it can be neither read nor made */
async function auditKey(own: OwnVault, path: string, random: World['random']): Promise<Secret<Uint8Array>> {
  const kept = await keptKey(own, path)
  if (kept) return kept
  const body = { data: { key: random(32).toString('base64') }, options: { cas: 0 } }
  // somebody else may have been first: what counts is what is there then
  await own.write(path, body).catch((error: unknown) => {
    if (!(error instanceof VaultRefusal)) throw error
  })
  const made = await keptKey(own, path)
  if (made) return made
  throw new BrokerError('unavailable', `vault keeps no ${path}: start the service, which sets up the mount, before the proxy`)
}

async function keptKey(own: OwnVault, path: string): Promise<Secret<Uint8Array> | undefined> {
  const kept = await absent(own.read(path))
  const key = (kept?.data?.['data'] as { key?: unknown } | undefined)?.key
  return typeof key === 'string' ? new Secret(Buffer.from(key, 'base64')) : undefined
}
