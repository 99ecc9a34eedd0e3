import { randomBytes, randomUUID } from 'node:crypto'
import { lookup } from 'node:dns/promises'
import { readFile } from 'node:fs/promises'
import { isAbsolute, join } from 'node:path'
import {
  type Audit,
  absent,
  BrokerError,
  hashed,
  type Log,
  type OwnVault,
  openAudit,
  openOpener,
  openOwn,
  openSession,
  openVault,
  plain,
  Secret,
  VaultRefusal,
  watchRevocations,
} from '#engine'
import type { DeclaredService, ProxyConfig } from './config.ts'
import type { ConnectorPorts, OpenService } from './connectors/connector.ts'
import { connectors } from './connectors/index.ts'
import type { Resolve } from './egress/dial.ts'
import { openGate } from './http/gate.ts'
import { openServer, type ServerPorts } from './http/server.ts'
import { openServices, type Services } from './http/service.ts'
import { openMint } from './tls/mint.ts'
import { openTokens } from './tokens.ts'

export type Proxy = {
  readonly url: string
  /** Serves these services from now on; what is under way ends as it began. @throws BrokerError when one cannot be opened: then all stays as it is */
  readonly reload: (services: readonly DeclaredService[]) => Promise<void>
  readonly reopenAudit: () => Promise<void>
  readonly close: () => Promise<void>
}

export type ServeOptions = {
  readonly config: ProxyConfig
  /** what the names of files in the configuration are relative to */
  readonly folder: string
  readonly approle: { readonly mount: string; readonly roleId: string; readonly secretId: () => Promise<Secret> }
  readonly log: Log
  /** the system's resolver when left out */
  readonly resolve?: Resolve
}

/** Wires the world and listens.
 *  @throws BrokerError unavailable when Vault, the audit log or a file cannot be used: nothing listens then */
export async function serveProxy(options: ServeOptions): Promise<Proxy> {
  const { config, log, folder } = options
  const read = (file: string) => textOf(folder, file)
  const world = { now: Date.now, monotonic: () => performance.now(), random: randomBytes, log }
  await using opening = new AsyncDisposableStack()
  const { address, ca_file, deadline_ms: deadlineMs } = config.vault
  const vault = openVault({ address, deadlineMs, ...(ca_file === undefined ? {} : { ca: await read(ca_file) }) })
  opening.defer(() => vault.close())
  const session = await openSession(vault, options.approle, world)
  opening.defer(() => session.stop())
  const own = openOwn(vault, session, log)
  const audit = await openLog(own, config, folder, log)
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
  const tokens = openTokens({ opener, revocations, now: world.now })
  const connectorPorts: ConnectorPorts = { resolve: options.resolve ?? systemResolve, read }
  let current = await openAll(config.services, connectorPorts)
  opening.defer(() => closeAll(current.open))
  const services = () => current.services
  const gate = openGate({
    tokens,
    services,
    now: world.now,
    record: (swap, { holder }, txn) => recordSwap(audit, swap, holder.x5tS256, txn),
  })
  const server = await openServer({
    ...(await listenerOf(config, read)),
    services,
    gate,
    mint: config.intercept ? openMint(own, config.places.pki, world.monotonic) : undefined,
    now: world.now,
    newId: randomUUID,
    refused: recorderOf(audit, log),
    failed: () => {},
    broken: error => log.error({ error }, 'a request failed unexpectedly'),
  })
  opening.defer(() => server.close(config.shutdown_seconds * 1000))
  const parts = opening.move()
  return {
    url: server.url,
    reopenAudit: () => audit.reopen(),
    close: () => parts.disposeAsync(),
    reload: async declared => {
      const next = await openAll(declared, connectorPorts)
      const before = current
      current = next
      // requests that are under way hold their connections
      setTimeout(() => void closeAll(before.open), config.shutdown_seconds * 1000).unref()
    },
  }
}

type Open = { readonly services: Services; readonly open: readonly OpenService[] }

async function openAll(declared: readonly DeclaredService[], ports: ConnectorPorts): Promise<Open> {
  const open = await Promise.all(declared.map(one => connectors[one.kind].open(one, ports)))
  return { open, services: openServices(open.map(one => one.http)) }
}

async function closeAll(open: readonly OpenService[]): Promise<void> {
  await Promise.all(open.map(one => one.close()))
}

async function listenerOf(
  { listen, limits }: ProxyConfig,
  read: (file: string) => Promise<string>,
): Promise<Pick<ServerPorts, 'listen' | 'tls' | 'limits'>> {
  const { host, port, cert_file, key_file, client_ca_file } = listen
  const [cert, key, clientCa] = await Promise.all([read(cert_file), read(key_file), client_ca_file && read(client_ca_file)])
  return {
    listen: { host, port },
    tls: { cert, key, clientCa },
    limits: {
      headBytes: limits.head_bytes,
      heldBodyBytes: limits.held_body_bytes,
      headWithinMs: limits.head_within_ms,
      stallMs: limits.stall_ms,
      idleMs: limits.idle_ms,
      connections: limits.connections,
    },
  }
}

/** Who swapped what for where; of the token only its id, of the path only its keyed hash and the rule that it fits. */
function recordSwap(
  audit: Audit,
  { head, service, known, rule }: Parameters<Parameters<typeof openGate>[0]['record']>[0],
  x5t: string,
  txn: string,
): void {
  const { scheme, host, port, method, path } = head.destination
  const { agent, plugin, tenant } = known.binding
  audit.appendLazy({
    type: 'request',
    txn,
    operation: 'swap',
    mount: 'proxy',
    path: hashed(path),
    fields: {
      agent: plain(agent),
      plugin: plain(plugin),
      tenant: plain(tenant),
      jti: plain(known.jti),
      issue_txn: plain(known.txn),
      certificate: plain(x5t),
      service: plain(service.name),
      destination: plain(`${scheme}://${host}:${port}`),
      method: plain(method),
      rule: plain(rule),
    },
  })
}

/** A refusal that cannot be recorded is a refusal all the same. */
function recorderOf(audit: Audit, log: Log): ServerPorts['refused'] {
  return (code, detail, txn, holder) => {
    const fields = { code: plain(code), detail: plain(detail), certificate: plain(holder?.x5tS256 ?? '') }
    try {
      audit.appendLazy({ type: 'refusal', txn, operation: 'swap', mount: 'proxy', path: '', fields })
    } catch (error) {
      log.error({ error, code, txn }, 'a refusal could not be recorded')
    }
  }
}

const AUDIT_KEY = 'proxy/audit-key'

async function openLog(own: OwnVault, config: ProxyConfig, folder: string, log: Log): Promise<Audit> {
  const key = await auditKey(own, `${config.places.kv}/data/${AUDIT_KEY}`)
  log.hide(key)
  return openAudit({
    file: inFolder(folder, config.audit.file),
    key,
    now: Date.now,
    onBad: fault => log.error(fault, 'the audit log has a fault'),
  })
}

/** The key under which what agents chose is hashed: one for all proxies, made by whoever starts first. */
async function auditKey(own: OwnVault, path: string): Promise<Secret<Uint8Array>> {
  const kept = await absent(own.read(path))
  const key = (kept?.data?.['data'] as { key?: unknown } | undefined)?.key
  if (typeof key === 'string') return new Secret(Buffer.from(key, 'base64'))
  const body = { data: { key: randomBytes(32).toString('base64') }, options: { cas: 0 } }
  await own.write(path, body).catch((error: unknown) => {
    if (!(error instanceof VaultRefusal)) throw error
  })
  return auditKey(own, path)
}

const systemResolve: Resolve = async host => {
  const found = await lookup(host, { all: true, verbatim: true })
  return found.map(({ address }) => address)
}

async function textOf(folder: string, file: string): Promise<string> {
  try {
    return await readFile(inFolder(folder, file), 'utf8')
  } catch (error) {
    throw new BrokerError('unavailable', `the file ${file} cannot be read`, { cause: error })
  }
}

const inFolder = (folder: string, file: string) => (isAbsolute(file) ? file : join(folder, file))
