import { connect, type NetConnectOpts, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Channel, Kind } from '../channel.ts'
import { fault, type TpmError } from '../errors.ts'

/** More than any TPM sends (TPM_PT_MAX_RESPONSE_SIZE is 4096 where it was looked at): what says it is longer is no TPM. */
const LONGEST = 65_536
const SIZE_END = 6
/** Who has the TPM is done with it in about so long. */
const AGAIN_MS = 20

export const unix: Kind = {
  scheme: 'unix',
  form: 'unix:/path/of/socket',
  help: 'unix socket that takes bare TPM commands, such as the data channel of swtpm',
  open: (path, signal) => open({ path }, `unix:${path}`, signal),
}

export const tcp: Kind = {
  scheme: 'tcp',
  form: 'tcp:host:port',
  help: 'the same over TCP',
  open: (address, signal) => open(hostAndPort(address), `tcp:${address}`, signal),
}

function hostAndPort(address: string): NetConnectOpts {
  const { host, port } = /^(?:\[(?<host>[^\]]+)\]|(?<host>[^:]+)):(?<port>\d{1,5})$/.exec(address)?.groups ?? {}
  if (host === undefined || port === undefined || Number(port) > 65_535)
    throw fault('SPEC', `wanted tcp:host:port, got 'tcp:${address}'`)
  return { host, port: Number(port) }
}

async function open(target: NetConnectOpts, spec: string, signal: AbortSignal): Promise<Channel> {
  const socket = await standIn(target, spec, signal)
  socket.setNoDelay(true).on('error', () => {}) // between two commands nobody listens; the next one finds the socket destroyed
  return {
    exchange: command => exchange(socket, command, spec),
    close: async () => {
      socket.destroy()
    },
  }
}

/** Where too many wait already for their turn, a unix socket says so at once: it is asked again until nobody waits for it any more. */
async function standIn(target: NetConnectOpts, spec: string, signal: AbortSignal): Promise<Socket> {
  for (;;) {
    const socket = connect(target)
    const giveUp = () => socket.destroy()
    signal.addEventListener('abort', giveUp, { once: true })
    const refused = await connected(socket, spec).catch((error: TpmError) => error)
    if (refused === undefined) return socket
    signal.removeEventListener('abort', giveUp)
    if (!isCrowded(refused)) throw refused
    await sleep(AGAIN_MS, undefined, { signal })
  }
}

const isCrowded = ({ cause }: Error): boolean => cause instanceof Error && codeOf(cause) === 'EAGAIN'

function connected(socket: Socket, spec: string): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once('connect', resolve)
    socket.once('error', error =>
      reject(fault('UNREACHABLE', `could not connect to the TPM at ${spec} (${codeOf(error)})`, error)),
    )
    socket.once('close', () => reject(fault('CLOSED', `the connection to ${spec} was closed before it was open`)))
  })
}

/** No framing on the wire: a response says in its header how long it is. */
function exchange(socket: Socket, command: Uint8Array, spec: string): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
  let received = Buffer.alloc(0)
  const onData = (chunk: Buffer) => {
    received = Buffer.concat([received, chunk])
    const size = received.length < SIZE_END ? LONGEST : received.readUInt32BE(2)
    if (size > LONGEST) reject(fault('MALFORMED', `what answers at ${spec} is no TPM: a response of ${size} bytes`))
    else if (received.length >= size) resolve(received)
  }
  const onClose = () => reject(fault('CLOSED', `the TPM at ${spec} closed the connection`))
  const onError = (error: Error) => reject(fault('CLOSED', `the connection to ${spec} broke (${codeOf(error)})`, error))
  socket.on('data', onData).on('close', onClose).on('error', onError)
  if (socket.destroyed) onClose()
  else socket.write(command)
  return promise.finally(() => socket.off('data', onData).off('close', onClose).off('error', onError))
}

function codeOf(error: Error): string {
  return 'code' in error ? String(error.code) : error.message
}
