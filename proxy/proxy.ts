import { type Audit, authoritiesIn, checkPair, endOf, type Log, type Opener, outcomeOf, type RevocationWatch } from '#engine'
import type { DeclaredService, ProxyConfig } from './config.ts'
import type { ConnectorPorts, OpenService } from './connectors/connector.ts'
import { connectors } from './connectors/index.ts'
import { openGate } from './http/gate.ts'
import { openServer, type ServerPorts } from './http/server.ts'
import { openServices, type Services } from './http/service.ts'
import type { ProxyMetrics } from './metrics.ts'
import { openPlaces } from './places.ts'
import { openRecords } from './records.ts'
import { openStreams } from './streams.ts'
import type { Mint } from './tls/mint.ts'
import type { OwnTls } from './tls/secure.ts'
import { openTokens, stillPermitted } from './tokens.ts'
import type { Others } from './workers.ts'

export type ServedProxy = {
  readonly url: string
  /** ports of services that speak another protocol, by name */
  readonly ports: () => Readonly<Record<string, number>>
  /** Serves these services from now on; what is under way ends as it began. @throws BrokerError when one cannot be opened: then all stays as it is */
  readonly reload: (services: readonly DeclaredService[]) => Promise<void>
  /** Shows new connections what its own files hold now, and lets in whom they say. @throws BrokerError when these cannot be used: then all stays as it is */
  readonly renewTls: () => Promise<void>
  /** From now on connections for HTTP end with the answer that is due next. */
  readonly leave: () => void
  readonly close: () => Promise<void>
}

export type ProxyPorts = ConnectorPorts & {
  readonly config: ProxyConfig
  readonly opener: Opener
  readonly revocations: RevocationWatch
  readonly audit: Audit
  readonly log: Log
  readonly metrics: ProxyMetrics
  readonly others?: Others | undefined
  /** undefined when nothing is intercepted */
  readonly mint: Mint | undefined
  readonly now: () => number
  readonly newId: () => string
}

/** Puts the parts together and listens.
 *  @throws BrokerError when a file that the configuration names cannot be used: nothing listens then */
export async function openProxy(ports: ProxyPorts): Promise<ServedProxy> {
  const { config, audit, log, metrics, now } = ports
  let current = await openAll(config.services, ports)
  const services = () => current.services
  const opened = (outcome: 'ok' | 'refused' | 'unreachable') => metrics.opened.inc({ outcome })
  const tokens = openTokens({ opener: ports.opener, revocations: ports.revocations, now, opened })
  const { record, recordStream, refused } = openRecords({ audit, durable: config.audit.durable, log, metrics })
  const places = openPlaces(config.limits.connections_per_agent)
  let tls = await ownTlsOf(config, ports)
  const broken = (error: unknown) => log.error({ error }, 'a request failed unexpectedly')
  const server = await openServer({
    ...listenerOf(config),
    tls,
    services,
    gate: openGate({ tokens, services, now, record }),
    mint: ports.mint,
    places,
    now,
    newId: ports.newId,
    refused,
    broken,
    still: ({ known, head }, held) => stillPermitted({ tokens, now }, { held, known, destination: head.destination }),
    answered: (service, status, tookMs) => metrics.answers.observe({ service, outcome: outcomeOf(status) }, tookMs / 1000),
  })
  const tellOthers = (text: string) => ports.others?.tell(text)
  ports.others?.hear(connectors.postgres.heard)
  const lent = { tokens, places, now, newId: ports.newId, record: recordStream, refused, broken, tellOthers }
  const streams = await openStreams(streamsOf(current), () => ({ ...lent, tls }), config.limits.connections)
  metrics.connections.follow({}, server.count)
  metrics.sessions.follow({}, streams.count)
  const certifiable = () => ports.mint && tellUncertified(ports.mint, current, log)
  void certifiable()
  const graceMs = config.shutdown_seconds * 1000
  const takeOver = async (declared: readonly DeclaredService[]) => {
    const [before, next] = [current, await openAll(declared, ports)]
    try {
      await streams.renew(streamsOf(next))
    } catch (error) {
      await closeAll(next)
      throw error
    }
    current = next
    ports.mint?.forget()
    void certifiable()
    for (const one of before.open) one.retire?.()
  }
  // one after the other: a signal and a change of the file may come together
  let turn: Promise<unknown> = Promise.resolve()
  const sweep = setInterval(tokens.sweep, config.limits.watch_ms).unref()
  return {
    url: server.url,
    ports: streams.ports,
    reload: declared => {
      const done = turn.then(() => takeOver(declared))
      turn = done.catch(() => undefined)
      return done
    },
    renewTls: async () => {
      const next = await ownTlsOf(config, ports)
      // the signal that rotates logs comes every day: nobody is cut off for that
      if (isSame(next, tls)) return
      tls = next
      server.renew(tls)
    },
    leave: server.leave,
    close: async () => {
      clearInterval(sweep)
      await Promise.all([server.close(graceMs), streams.close(graceMs)])
      await closeAll(current)
    },
  }
}

type Open = { readonly services: Services; readonly open: readonly OpenService[] }

const streamsOf = ({ open }: Open) => open.flatMap(one => one.stream ?? [])

async function openAll(declared: readonly DeclaredService[], ports: ConnectorPorts): Promise<Open> {
  const open = await Promise.all(declared.map(one => opened(one, ports)))
  return { open, services: openServices(open.flatMap(one => one.http ?? [])) }
}

/** Each kind takes what its own schema lets through. */
function opened(declared: DeclaredService, ports: ConnectorPorts): Promise<OpenService> {
  if (declared.kind === 'http') return connectors.http.open(declared, ports)
  return declared.kind === 'postgres' ? connectors.postgres.open(declared, ports) : connectors.ssh.open(declared, ports)
}

async function closeAll({ open }: Open): Promise<void> {
  await Promise.all(open.map(one => one.close()))
}

async function ownTlsOf({ listen }: ProxyConfig, { read, metrics }: Pick<ProxyPorts, 'read' | 'metrics'>): Promise<OwnTls> {
  const { cert_file, key_file, client_ca_file } = listen
  const [cert, key, clientCa] = await Promise.all([
    read(cert_file),
    read(key_file),
    client_ca_file === undefined ? undefined : read(client_ca_file),
  ])
  checkPair(cert, key, 'listen')
  // an empty one would be none, and then Node trusts everybody's
  if (clientCa !== undefined) {
    authoritiesIn(clientCa, 'listen.client_ca_file')
    metrics.certificateEnd.set({ setting: 'listen.client_ca_file' }, endOf(clientCa))
  }
  metrics.certificateEnd.set({ setting: 'listen.cert_file' }, endOf(cert))
  return { cert, key, clientCa }
}

const isSame = (one: OwnTls, other: OwnTls) => one.cert === other.cert && one.key === other.key && one.clientCa === other.clientCa

function listenerOf({ listen: { host, port }, limits }: ProxyConfig): Pick<ServerPorts, 'listen' | 'limits'> {
  return {
    listen: { host, port },
    limits: {
      headBytes: limits.head_bytes,
      heldBodyBytes: limits.held_body_bytes,
      headWithinMs: limits.head_within_ms,
      stallMs: limits.stall_ms,
      idleMs: limits.idle_ms,
      watchMs: limits.watch_ms,
      connections: limits.connections,
    },
  }
}

/** An operator hears at once that the authority does not permit a host, not from the first agent that wants to go there. */
async function tellUncertified(mint: Mint, { open }: Open, log: Log): Promise<void> {
  const hosts = open.flatMap(({ http }) => (http?.scheme === 'https' ? http.authorities.map(({ host }) => host) : []))
  for (const host of new Set(hosts))
    await mint
      .of(host)
      .catch((error: unknown) =>
        log.error(
          { error, host },
          'there is no certificate for a host that is to be intercepted: its authority has to permit it',
        ),
      )
}
