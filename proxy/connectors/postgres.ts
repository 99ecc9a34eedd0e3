import { z } from 'zod'
import { authoritiesIn } from '#engine'
import type { SessionPorts } from '../postgres/ports.ts'
import { beginSession, cancelHere } from '../postgres/session.ts'
import { logIn } from '../postgres/upstream.ts'
import { doorOf } from '../tls/secure.ts'
import type { Connector, ConnectorPorts, StreamPorts } from './connector.ts'
import { addresses, file, listen, name, server, startWithinMs, watchMs } from './fields.ts'
import { servicePorts } from './sessions.ts'

const PORT = 5432

const schema = z.strictObject({
  kind: z.literal('postgres'),
  name,
  listen,
  server: server(PORT),
  /** databases that are served; any when left out */
  databases: z.array(z.string().min(1)).default([]),
  addresses,
  /** `disable` only where the way to the server is guarded otherwise */
  tls: z.enum(['verify', 'disable']).default('verify'),
  /** whom the certificate of the server must lead to; the roots that Node brings along when left out */
  ca_file: file.optional(),
  start_within_ms: startWithinMs,
  watch_ms: watchMs,
})
type Declared = z.output<typeof schema>

/** A PostgreSQL server: the agent comes with its certificate and a sealed token, the proxy authenticates with the real credential. */
export const postgres: Connector<typeof schema> & { readonly heard: (text: string) => void } = {
  summary: 'A PostgreSQL server: sessions by client certificate and sealed token, SCRAM-SHA-256 behind.',
  schema,
  /** What another process tells: that somebody wants to cancel a query, and it has no such session. */
  heard: key => void cancelHere(key),
  open: async (declared, ports) => {
    const ca = declared.ca_file === undefined ? undefined : await ports.read(declared.ca_file)
    if (ca !== undefined) authoritiesIn(ca, `ca_file of the service ${declared.name}`)
    let session: Omit<SessionPorts, 'door'> | undefined
    return {
      stream: {
        name: declared.name,
        listen: declared.listen,
        begin: (socket, lent) => {
          session ??= sessionPorts(declared, ports, ca, lent)
          void beginSession({ ...session, door: doorOf(lent.tls) }, socket)
        },
      },
    }
  },
}

function sessionPorts(
  declared: Declared,
  ports: ConnectorPorts,
  ca: string | undefined,
  lent: StreamPorts,
): Omit<SessionPorts, 'door'> {
  const common = servicePorts(declared, PORT, ports, lent)
  const { place, dial, startWithinMs: timeoutMs } = common
  const tls = declared.tls === 'verify' ? { ca } : undefined
  return {
    ...common,
    databases: declared.databases,
    connect: async login => logIn({ ...place, ...login, tls, socket: await dial(), timeoutMs }),
  }
}
