import type { Socket } from 'node:net'
import { z } from 'zod'
import { type Destination, parseAuthority } from '#engine'
import { unreached } from '../egress/dial.ts'
import { accept, refuse, type Verdict } from '../refusals.ts'
import { type Held, isInForce } from '../tls/holder.ts'
import { type Known, unavailable } from '../tokens.ts'
import { credentialOf, type SshCredential } from './credential.ts'
import { type Frame, kinds } from './frames.ts'
import type { SessionPorts } from './ports.ts'

export type Admitted = {
  readonly held: Held
  readonly known: Known
  readonly destination: Destination
  readonly user: string
  readonly credential: SshCredential
  readonly upstream: Socket
}

/** Names of users that read alike everywhere: in a path, in a log, on a command line. */
export const USER = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$/
const hello = z.strictObject({ token: z.string(), user: z.string().regex(USER), host: z.string(), port: z.int() })

/** From the first frame to a connection to the server: who, where, with what right, then the record of it. */
export async function admit(
  ports: SessionPorts,
  held: Held | undefined,
  first: Frame | undefined,
  txn: string,
): Promise<Verdict<Admitted>> {
  if (!held || !isInForce(held, ports.now())) return refuse('NO_CERTIFICATE', 'none, or one that is not in force')
  const asked = hello.safeParse(jsonOf(first))
  if (!asked.success) return refuse('REQUEST_FORM', 'no first frame, or one that is not well-formed')
  const { token, user, host, port } = asked.data
  const [place, wanted] = [ports.place, parseAuthority(`${host.includes(':') ? `[${host}]` : host}:${port}`, 22)]
  if (wanted?.host !== place.host || wanted.port !== place.port) return refuse('DESTINATION', 'another server than the one here')
  if (ports.users.length > 0 && !ports.users.includes(user)) return refuse('ROUTE', 'the user is not served')
  if (token === '') return refuse('NO_TOKEN', 'none in the first frame')
  const found = await ports.tokens.open(token, held.holder).catch(unavailable)
  if (!found.ok) return found
  const known = found.value
  const destination = { scheme: 'ssh', ...place, method: 'CONNECT', path: `/${user}` }
  const rule = ports.tokens.permits(known, destination)
  if (!rule.ok) return rule
  const credential = credentialOf(known, ports.permitted, ports.now())
  if (!credential.ok) return credential
  const kept = await ports.record({ known, service: ports.service, destination, rule: rule.value }, held, txn)
  if (!kept.ok) return kept
  return ports.dial().then(
    upstream => accept({ held, known, destination, user, credential: credential.value, upstream }),
    (error: NodeJS.ErrnoException) => refuse(unreached(error), error.code ?? 'it could not be reached'),
  )
}

function jsonOf(first: Frame | undefined): unknown {
  if (first?.kind !== kinds.hello) return undefined
  try {
    return JSON.parse(first.body.toString('utf8'))
  } catch {
    return undefined
  }
}
