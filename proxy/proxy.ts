import { type Audit, type Log, type Opener, outcomeOf, type RevocationWatch } from '#engine'
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
import { isSame, ownTlsOf } from './tls/own.ts'
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
  const { config, log, metrics, mint, others } = ports
  let current = await openAll(config.services, ports)
  let tls = await ownTlsOf(config, ports)
  const common = commonOf(ports)
  const server = await openServer({ ...requestsOf(ports, common, () => current.services), tls })
  others?.hear(connectors.postgres.heard)
  const lent = { ...common, record: common.recordStream, tellOthers: (text: string) => others?.tell(text) }
  const streams = await openStreams(streamsOf(current), () => ({ ...lent, tls }), config.limits.connections)
  metrics.connections.follow({}, server.count)
  metrics.sessions.follow({}, streams.count)
  const certifiable = () => mint && tellUncertified(mint, current, log)
  void certifiable()
  const takeOver = async (declared: readonly DeclaredService[]) => {
    const [before, next] = [current, await openAll(declared, ports)]
    try {
      await streams.renew(streamsOf(next))
    } catch (error) {
      await closeAll(next)
      throw error
    }
    current = next
    mint?.forget()
    void certifiable()
    for (const one of before.open) one.retire?.()
  }
  const inTurn = openTurn()
  const sweep = setInterval(common.tokens.sweep, config.limits.watch_ms).unref()
  return {
    url: server.url,
    ports: streams.ports,
    reload: declared => inTurn(() => takeOver(declared)),
    renewTls: async () => {
      const next = await ownTlsOf(config, ports)
      // the signal that rotates logs comes every day: nobody is cut off for that
      if (isSame(next, tls)) return
      tls = next
      server.renew(tls)
    },
    leave: server.leave,
    close: async () => {
      const graceMs = config.shutdown_seconds * 1000
      clearInterval(sweep)
      await Promise.all([server.close(graceMs), streams.close(graceMs)])
      await closeAll(current)
    },
  }
}

/** One after the other: a signal and a change of the file may come together. */
function openTurn(): (work: () => Promise<void>) => Promise<void> {
  let turn: Promise<void> = Promise.resolve()
  return work => {
    const done = turn.then(work)
    turn = done.catch(() => undefined)
    return done
  }
}

type Common = ReturnType<typeof commonOf>

/** What requests and sessions share: the tokens that count, the places that are taken, what is on record. */
function commonOf({ config, opener, revocations, audit, log, metrics, now, newId }: ProxyPorts) {
  const opened = (outcome: 'ok' | 'refused' | 'unreachable') => metrics.opened.inc({ outcome })
  return {
    ...openRecords({ audit, durable: config.audit.durable, log, metrics }),
    tokens: openTokens({ opener, revocations, now, opened }),
    places: openPlaces(config.limits.connections_per_agent),
    now,
    newId,
    broken: (error: unknown) => log.error({ error }, 'a request failed unexpectedly'),
  }
}

/** What the server for HTTP is opened with, but for its certificate. */
function requestsOf({ config, mint, metrics }: ProxyPorts, common: Common, services: () => Services): Omit<ServerPorts, 'tls'> {
  const { tokens, now, record } = common
  return {
    ...listenerOf(config),
    ...common,
    services,
    gate: openGate({ tokens, services, now, record }),
    mint,
    still: ({ known, head }, held) => stillPermitted({ tokens, now }, { held, known, destination: head.destination }),
    answered: (service, status, tookMs) => metrics.answers.observe({ service, outcome: outcomeOf(status) }, tookMs / 1000),
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
  await Promise.all(open.map(async one => one.close?.()))
}

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
