import { z } from 'zod'
import { blobOfLine } from '#engine'
import { USER } from '../ssh/admission.ts'
import { publicKeyOf } from '../ssh/keys.ts'
import type { SessionPorts } from '../ssh/ports.ts'
import { serve } from '../ssh/session.ts'
import { doorOf } from '../tls/secure.ts'
import type { Connector, ConnectorPorts, StreamPorts } from './connector.ts'
import { addresses, listen, name, server, startWithinMs, watchMs } from './fields.ts'
import { servicePorts } from './sessions.ts'

const PORT = 22

const publicKey = z
  .string()
  .refine(
    line => keyOf(line) !== undefined,
    'wanted a public key as OpenSSH writes it: ssh-ed25519 AAAA... (Ed25519, ECDSA or RSA)',
  )

const schema = z
  .strictObject({
    kind: z.literal('ssh'),
    name,
    listen,
    server: server(PORT),
    /** users that are served; any when left out */
    users: z.array(z.string().regex(USER, 'wanted the name of a user')).default([]),
    /** keys that the server may have */
    host_keys: z.array(publicKey).default([]),
    /** authorities whose certificates for the name of the server count */
    host_authorities: z.array(publicKey).default([]),
    /** what certificates may permit beyond running a command */
    extensions: z.array(z.string().min(1)).default(['permit-pty']),
    addresses,
    start_within_ms: startWithinMs,
    watch_ms: watchMs,
  })
  .refine(({ host_keys, host_authorities }) => host_keys.length + host_authorities.length > 0, {
    path: ['host_keys'],
    message: 'wanted host_keys, host_authorities or both: a server that is not known is not spoken to',
  })
type Declared = z.output<typeof schema>

/** An SSH server: the session goes through as it is, and the proxy signs its login with what the agent never holds. */
export const ssh: Connector<typeof schema> = {
  summary:
    'An SSH server: sessions by client certificate and sealed token, logins signed under a certificate of Vault’s ssh engine.',
  schema,
  open: async (declared, ports) => {
    let session: Omit<SessionPorts, 'door'> | undefined
    return {
      stream: {
        name: declared.name,
        listen: declared.listen,
        begin: (socket, lent) => {
          session ??= sessionPorts(declared, ports, lent)
          serve({ ...session, door: doorOf(lent.tls) }, socket).catch((error: unknown) => {
            lent.broken(error)
            socket.destroy()
          })
        },
      },
    }
  },
}

function sessionPorts(declared: Declared, ports: ConnectorPorts, lent: StreamPorts): Omit<SessionPorts, 'door'> {
  const common = servicePorts(declared, PORT, ports, lent)
  const keysOf = (lines: readonly string[]) => lines.flatMap(line => keyOf(line) ?? [])
  const { host } = common.place
  return {
    ...common,
    trust: { host, keys: keysOf(declared.host_keys), authorities: keysOf(declared.host_authorities) },
    users: declared.users,
    permitted: declared.extensions,
  }
}

function keyOf(line: string): Buffer | undefined {
  const blob = blobOfLine(line)
  return blob && publicKeyOf(blob) ? blob : undefined
}
