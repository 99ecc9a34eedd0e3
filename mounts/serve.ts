import { randomBytes, randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import {
  authoritiesIn,
  type Broker,
  BrokerError,
  type Config,
  checkPair,
  endOf,
  type Log,
  type Metrics,
  openBroker,
  openDrain,
  openMetrics,
  outcomeOf,
  PAGE_PATH,
  Secret,
  type World,
  warm,
} from '#engine'
import manifest from '../package.json' with { type: 'json' }
import { tpmQuote } from './auth/tables.ts'
import { openDispatch, type Tables } from './dispatch.ts'
import { openApp } from './hosts/app.ts'
import { forwardBuffered } from './hosts/forward_buffered.ts'
import { holdBack } from './hosts/held.ts'
import { type FrontDoor, openFrontDoor, type TlsOptions } from './hosts/http.ts'
import { addressOf } from './hosts/request_facts.ts'
import { openUpstream } from './hosts/upstream.ts'
import type { CanonicalPath } from './path.ts'
import { brokerPaths } from './secrets/tables.ts'
import { findSys } from './sys/mounts.ts'
import { match, type Path } from './table.ts'

export type Server = {
  readonly url: string
  readonly broker: Broker
  /** Opens the audit log anew, and reads the files of the front door's TLS again. What fails stays as it was. */
  readonly reload: () => Promise<void>
  readonly close: () => Promise<void>
}

/** Read at each login, so that a rotated secret id needs no restart. */
export type SecretId = () => Promise<Secret>

/** Wires the world and opens the front door.
 *  @throws BrokerError unavailable when Vault or the audit log cannot be used: nothing listens then */
export async function serve(config: Config, log: Log, secretId: SecretId): Promise<Server> {
  await using opening = new AsyncDisposableStack()
  const world: World = { now: Date.now, monotonic: () => performance.now(), random: randomBytes, log }
  const metrics = openMetrics({ version: manifest.version, now: world.now })
  const tls = await tlsOf(config, metrics)
  const ca = await authorities(config.vault.ca_file, 'vault.ca_file')
  if (ca !== undefined) metrics.certificateEnd.set({ setting: 'vault.ca_file' }, endOf(ca))
  const upstream = openUpstream({
    url: config.vault.address,
    connectWithinMs: config.vault.deadline_ms,
    answerWithinMs: config.vault.answer_within_ms,
    connections: config.listen.connections,
    strip: config.vault.believed_headers,
    ...(ca === undefined ? {} : { ca }),
  })
  opening.defer(() => upstream.close())
  let ownUrl = config.listen.url ?? ''
  const broker = await openBroker({
    world,
    metrics,
    version: manifest.version,
    vault: { address: config.vault.address, ca, deadlineMs: config.vault.deadline_ms, onDoubt: upstream.renew },
    places: { ...config.places, approle: config.vault.approle.mount, name: 'assay' },
    approle: { mount: config.vault.approle.mount, roleId: config.vault.approle.role_id, secretId },
    auditFile: config.audit.file,
    auditDeadlineMs: config.audit.deadline_ms,
    sealing: config.sealing,
    ownUrl: () => ownUrl,
  })
  opening.defer(() => broker.close())
  const tables: Tables = { 'tpm-quote': tpmQuote(broker), broker: brokerPaths(broker) }
  const dispatch = openDispatch(broker, tables)
  const drain = openDrain(config.drain_seconds)
  const app = openApp({
    broker,
    drain,
    dispatch,
    world,
    newId: randomUUID,
    forward: async (incoming, target, body) => {
      const { method = '', rawHeaders: headers } = incoming
      // what Vault is told to do may take it long; what it only tells may not
      const withinMs = method === 'GET' || method === 'LIST' ? config.vault.deadline_ms : undefined
      const request = { method, target, headers, from: addressOf(incoming), body, withinMs }
      const { status, headers: told, body: raw } = await forwardBuffered(upstream, request)
      return { status, headers: told, raw }
    },
  })
  const door = await openFrontDoor({
    upstream,
    listen: { host: config.listen.host, port: config.listen.port },
    trustedProxies: config.listen.trusted_proxies,
    limits: { connections: config.listen.connections, connectionsPerPeer: config.listen.connections_per_peer },
    ...tls,
    owns: (method, path) => owns(broker, method, path),
    bodyBytes: path => rowOf(broker, tables, path)?.bodyBytes,
    own: holdBack(app.fetch),
    log,
    onPassThrough: ({ status, failure }) =>
      metrics.passed.inc({ outcome: failure === undefined ? outcomeOf(status) : 'unreachable' }),
  })
  opening.defer(() => door.close(config.shutdown_seconds * 1000))
  ownUrl ||= door.url
  // after the door is open: the evaluator takes a tenth of a second, once
  void warm()
  const parts = opening.move()
  const close = async () => {
    door.leave()
    await drain.run()
    await parts.disposeAsync()
  }
  return { url: door.url, broker, reload: () => reload(door, broker, config), close }
}

/** Our mounts, our own root paths, and those of Vault's paths that concern our mounts; everything else is Vault's alone. */
function owns(broker: Broker, method: string, path: CanonicalPath): boolean {
  if (!path.api) return ['metrics', 'healthz', 'readyz'].includes(path.path) || `/${path.path}`.startsWith(PAGE_PATH)
  return broker.mounts.find(path.path) !== undefined || findSys(method, path) !== undefined
}

function rowOf(broker: Broker, tables: Tables, { path }: CanonicalPath): Path | undefined {
  const mount = broker.mounts.find(path)
  return mount && match(tables[mount.type], path.slice(mount.path.length).split('/'))?.row
}

async function reload(door: FrontDoor, broker: Broker, config: Config): Promise<void> {
  const results = await Promise.allSettled([
    broker.audit.reopen(),
    tlsOf(config, broker.metrics).then(({ tls }) => (tls ? door.reloadTls(tls) : undefined)),
  ])
  const failed = results.flatMap(result => (result.status === 'rejected' ? [String((result.reason as Error).message)] : []))
  if (failed.length > 0) throw new BrokerError('unavailable', failed.join('; '))
}

async function tlsOf({ listen: { tls } }: Config, { certificateEnd }: Metrics): Promise<{ tls?: TlsOptions }> {
  if (!tls) return {}
  const [cert, key, clientCa] = await Promise.all([
    text(tls.cert_file),
    text(tls.key_file),
    authorities(tls.client_ca_file, 'listen.tls.client_ca_file'),
  ])
  checkPair(cert, key, 'listen.tls')
  certificateEnd.set({ setting: 'listen.tls.cert_file' }, endOf(cert))
  if (clientCa !== undefined) certificateEnd.set({ setting: 'listen.tls.client_ca_file' }, endOf(clientCa))
  return {
    tls: { cert, key, minVersion: tls.min_version, ...(clientCa === undefined ? {} : { clientCa }) },
  }
}

export const secretIdFrom =
  (file: string): SecretId =>
  async () =>
    new Secret((await text(file)).trim())

async function authorities(file: string | undefined, setting: string): Promise<string | undefined> {
  return file === undefined ? undefined : authoritiesIn(await text(file), setting)
}

async function text(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    throw new BrokerError('unavailable', `the file ${file} cannot be read (${(error as NodeJS.ErrnoException).code})`, {
      cause: error,
    })
  }
}
