import { readable, readSsh, sshStrings } from '#engine'
import type { Refused, Verdict } from '../refusals.ts'
import type { SshCredential } from './credential.ts'
import type { Shown } from './handshake.ts'
import { sign, signatureFor, verifies } from './keys.ts'

/** Answers what a client asks of an ssh-agent (draft-miller-ssh-agent), for one session and no other. */
export type Signer = {
  readonly answer: (message: Buffer) => Buffer
  /** whether the client has what it needs to log in */
  readonly signed: () => boolean
}

export type SignerPorts = {
  readonly credential: SshCredential
  readonly user: string
  /** what the server at the other end of this very connection showed, and the key that has to be behind it: undefined before */
  readonly server: () => { readonly shown: Shown; readonly key: Buffer } | undefined
  /** whether the token counts now */
  readonly permits: () => Verdict<unknown>
  readonly refused: (refused: Pick<Refused, 'code' | 'detail'>) => void
}

const FAILURE = Buffer.from([5])
const SUCCESS = Buffer.from([6])
const [REQUEST_IDENTITIES, IDENTITIES, SIGN, SIGNED, EXTENSION] = [11, 12, 13, 14, 27]
const USERAUTH_REQUEST = 50

export function openSigner(ports: SignerPorts): Signer {
  const { credential, refused } = ports
  let session: Buffer | undefined
  let signed = false
  const answers: Readonly<Record<number, (body: Buffer) => Buffer | undefined>> = {
    [EXTENSION]: body => {
      const found = boundTo(ports, body)
      session ??= found
      return found && SUCCESS
    },
    [REQUEST_IDENTITIES]: () =>
      session && Buffer.concat([Buffer.from([IDENTITIES, 0, 0, 0, 1]), sshStrings(credential.blob, 'assay')]),
    [SIGN]: body => {
      const asked = session && readable(() => askedOf(body))
      if (!asked || !session || !isLogin(ports, session, asked)) {
        refused({ code: 'SESSION_SIGNATURE', detail: 'not a login to this session' })
        return undefined
      }
      const still = ports.permits()
      const name = signatureFor(credential.certificate.kind, asked.flags)
      if (!still.ok) refused(still)
      if (!still.ok || name === undefined) return undefined
      signed = true
      return Buffer.concat([Buffer.from([SIGNED]), sshStrings(sign(name, credential.key, asked.data))])
    },
  }
  return {
    answer: message => answers[message[0] ?? 0]?.(message.subarray(1)) ?? FAILURE,
    signed: () => signed,
  }
}

/** `session-bind@openssh.com`: the client says which session it is, with the server's signature over it. It is ours when that is the signature that went
 *  by here, and the key that the server has to have made it. @see PROTOCOL.agent of OpenSSH */
function boundTo({ server }: SignerPorts, body: Buffer): Buffer | undefined {
  const known = server()
  return readable(() => {
    const reader = readSsh(body)
    if (reader.string().toString() !== 'session-bind@openssh.com') return undefined
    const [, session, signature] = [reader.string(), reader.string(), reader.string()]
    const isForwarding = reader.byte() !== 0
    if (!known || isForwarding || !session || !signature?.equals(known.shown.signature)) return undefined
    return verifies(known.key, session, signature) ? session : undefined
  })
}

type Asked = { readonly key: Buffer; readonly data: Buffer; readonly flags: number }

function askedOf(body: Buffer): Asked {
  const reader = readSsh(body)
  return { key: reader.string(), data: reader.string(), flags: reader.uint32() }
}

/** Whether what is to be signed is the login of this user, with this certificate, to this session (RFC 4252, 7), and to this server where the client says so. */
function isLogin({ credential, user, server }: SignerPorts, session: Buffer, { key, data }: Asked): boolean {
  const shown = server()?.shown
  const { blob, certificate } = credential
  const fits = readable(() => {
    const reader = readSsh(data)
    const same = reader.string().equals(session) && reader.byte() === USERAUTH_REQUEST
    const [name, service, method] = [reader.string(), reader.string(), reader.string()].map(String)
    const isSigned = reader.byte() === 1
    const [algorithm, own] = [reader.string().toString(), reader.string()]
    const kinds = [certificate.kind, ...(certificate.kind === RSA ? RSA_KINDS : [])]
    if (!same || name !== user || service !== 'ssh-connection' || !isSigned || !kinds.includes(algorithm)) return false
    if (!own.equals(blob)) return false
    if (method === 'publickey') return reader.left() === 0
    const host = reader.string()
    return method === 'publickey-hostbound-v00@openssh.com' && reader.left() === 0 && shown?.hostKey.equals(host) === true
  })
  return fits === true && key.equals(blob)
}

const RSA = 'ssh-rsa-cert-v01@openssh.com'
const RSA_KINDS = ['rsa-sha2-256-cert-v01@openssh.com', 'rsa-sha2-512-cert-v01@openssh.com']
