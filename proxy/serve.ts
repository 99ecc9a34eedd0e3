import { randomBytes, randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { isAbsolute, join } from 'node:path'
import {
  type Audit,
  absent,
  authoritiesIn,
  BrokerError,
  endOf,
  type Log,
  type OwnVault,
  openAudit,
  openDrain,
  openOpener,
  openOwn,
  openSession,
  openTime,
  openVault,
  resolve,
  Secret,
  VaultRefusal,
  watchRevocations,
} from '#engine'
import manifest from '../package.json' with { type: 'json' }
import type { ProxyConfig } from './config.ts'
import type { Resolve } from './egress/dial.ts'
import { openLookout } from './lookout.ts'
import { openMetrics, type ProxyMetrics } from './metrics.ts'
import { openProxy, type ServedProxy } from './proxy.ts'
import { openMint } from './tls/mint.ts'
import type { Others } from './workers.ts'

export type RunningProxy = ServedProxy & {
  readonly reopenAudit: () => Promise<void>
  /** where operators look; undefined when the configuration does not say */
  readonly lookout: string | undefined
}

export type ServeOptions = {
  readonly config: ProxyConfig
  /** what the names of files in the configuration are relative to */
  readonly folder: string
  readonly approle: { readonly mount: string; readonly roleId: string; readonly secretId: () => Promise<Secret> }
  readonly log: Log
  /** other processes that serve the same, on the same ports */
  readonly others?: Others | undefined
  /** the system's resolver when left out */
  readonly resolve?: Resolve
}

/** Wires the world and listens.
 *  @throws BrokerError unavailable when Vault, the audit log or a file cannot be used: nothing listens then */
export async function serveProxy(options: ServeOptions): Promise<RunningProxy> {
  const { config, log, folder } = options
  const read = (file: string) => textOf(folder, file)
  const world = { now: Date.now, monotonic: () => performance.now(), random: randomBytes, log }
  await using opening = new AsyncDisposableStack()
  const { address, ca_file, deadline_ms: deadlineMs } = config.vault
  const metrics = openMetrics({ version: manifest.version, now: world.now })
  opening.defer(() => metrics.close())
  const ca = ca_file === undefined ? undefined : authoritiesIn(await read(ca_file), 'vault.ca_file')
  if (ca !== undefined) metrics.certificateEnd.set({ setting: 'vault.ca_file' }, endOf(ca))
  const time = openTime(world)
  const vault = openVault({
    address,
    deadlineMs,
    observe: (method, status, seconds, date) => {
      time.told(date)
      metrics.upstream(method, status, seconds, date)
    },
    ...(ca === undefined ? {} : { ca }),
  })
  opening.defer(() => vault.close())
  const session = await openSession(vault, options.approle, world)
  opening.defer(() => session.stop())
  const own = openOwn(vault, session, log)
  const audit = await openLog(own, options, metrics)
  opening.defer(() => audit.close())
  const { poll_ms: pollMs, limit_ms: limitMs } = config.revocations
  const onError = (error: unknown) =>
    log.warn({ error }, 'what is revoked could not be read: what was known is used up to its limit')
  const revocations = await watchRevocations({
    vault: own,
    kv: config.places.kv,
    monotonic: world.monotonic,
    pollMs,
    limitMs,
    onError,
  })
  opening.defer(() => revocations.stop())
  const opener = openOpener({ vault: own, transit: config.places.transit, monotonic: world.monotonic })
  const served = await openProxy({
    config,
    opener,
    revocations,
    audit,
    log,
    metrics,
    read,
    resolve: options.resolve ?? systemResolve,
    others: options.others,
    mint: config.intercept ? openMint(own, config.places.pki, world) : undefined,
    // nothing serves for longer because a clock is behind
    now: time.later,
    newId: randomUUID,
  })
  opening.defer(() => served.close())
  const drain = openDrain(config.drain_seconds)
  const checks = () => ({
    session: session.ready(),
    clock: time.agreed(),
    revocations: revocations.current(),
    audit: audit.healthy(),
    serving: !drain.begun(),
  })
  const lookout = config.metrics && (await openLookout({ listen: config.metrics, metrics, checks }))
  opening.defer(() => lookout?.close())
  const parts = opening.move()
  const close = async () => {
    served.leave()
    await drain.run()
    await parts.disposeAsync()
  }
  return { ...served, lookout: lookout?.url, reopenAudit: () => audit.reopen(), close }
}

const AUDIT_KEY = 'proxy/audit-key'

async function openLog(own: OwnVault, { config, folder, log }: ServeOptions, metrics: ProxyMetrics): Promise<Audit> {
  const key = await auditKey(own, `${config.places.kv}/data/${AUDIT_KEY}`)
  log.hide(key)
  return openAudit({
    file: inFolder(folder, config.audit.file),
    deadlineMs: config.audit.deadline_ms,
    key,
    now: Date.now,
    onBad: fault => {
      metrics.auditProblems.inc({ kind: fault.kind })
      log.error(fault, 'the audit log has a fault')
    },
    ...metrics.audit,
  })
}

/** The key under which what agents chose is hashed: one for all proxies, made by whoever starts first.
 *  @throws BrokerError unavailable when it can be neither read nor made */
async function auditKey(own: OwnVault, path: string): Promise<Secret<Uint8Array>> {
  const kept = await keptKey(own, path)
  if (kept) return kept
  const body = { data: { key: randomBytes(32).toString('base64') }, options: { cas: 0 } }
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

const systemResolve: Resolve = host =>
  new Promise((found, failed) => {
    resolve(host, { all: true }, (error, addresses) => (error ? failed(error) : found(addresses.map(({ address }) => address))))
  })

async function textOf(folder: string, file: string): Promise<string> {
  try {
    return await readFile(inFolder(folder, file), 'utf8')
  } catch (error) {
    throw new BrokerError('unavailable', `the file ${file} cannot be read (${(error as NodeJS.ErrnoException).code})`, {
      cause: error,
    })
  }
}

const inFolder = (folder: string, file: string) => (isAbsolute(file) ? file : join(folder, file))
