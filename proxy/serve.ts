import { randomBytes, randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { isAbsolute, join } from 'node:path'
import {
  authoritiesIn,
  BrokerError,
  endOf,
  type Log,
  type OwnVault,
  openDrain,
  openOpener,
  openOwn,
  openSession,
  openTime,
  openVault,
  type RevocationWatch,
  resolve,
  type Secret,
  type Vault,
  watchRevocations,
} from '#engine'
import manifest from '../package.json' with { type: 'json' }
import { openAuditLog } from './audit_log.ts'
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
  const metrics = openMetrics({ version: manifest.version, now: world.now })
  opening.defer(() => metrics.close())
  const time = openTime(world)
  const vault = await vaultOf(config, read, metrics, time.told)
  opening.defer(() => vault.close())
  const session = await openSession(vault, options.approle, world)
  opening.defer(() => session.stop())
  const own = openOwn(vault, session, log)
  const audit = await openAuditLog(own, inFolder(folder, config.audit.file), config, world, metrics)
  opening.defer(() => audit.close())
  const revocations = await revocationsOf(config, own, world)
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

/** @param told hears each time that Vault says what time it is */
async function vaultOf(
  { vault }: ProxyConfig,
  read: (file: string) => Promise<string>,
  metrics: ProxyMetrics,
  told: (date?: string) => void,
): Promise<Vault> {
  const { address, ca_file, deadline_ms: deadlineMs } = vault
  const ca = ca_file === undefined ? undefined : authoritiesIn(await read(ca_file), 'vault.ca_file')
  if (ca !== undefined) metrics.certificateEnd.set({ setting: 'vault.ca_file' }, endOf(ca))
  return openVault({
    address,
    deadlineMs,
    observe: (method, status, seconds, date) => {
      told(date)
      metrics.upstream(method, status, seconds, date)
    },
    ...(ca === undefined ? {} : { ca }),
  })
}

type World = { readonly monotonic: () => number; readonly log: Log }

function revocationsOf(
  { revocations, places }: ProxyConfig,
  vault: OwnVault,
  { monotonic, log }: World,
): Promise<RevocationWatch> {
  const { poll_ms: pollMs, limit_ms: limitMs } = revocations
  const onError = (error: unknown) =>
    log.warn({ error }, 'what is revoked could not be read: what was known is used up to its limit')
  return watchRevocations({ vault, kv: places.kv, monotonic, pollMs, limitMs, onError })
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
