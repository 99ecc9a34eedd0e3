import { writeFile } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { frame, framesOf, kinds, messagesOf, written } from './frames.ts'
import type { Identity } from './identity.ts'
import { dial, type ProxyPlace, unreachable } from './tunnel.ts'

/** What stock `ssh` needs to reach its server through the proxy. Disposing of it ends what goes through. */
export type SshDoor = AsyncDisposable & {
  /** ASSAY_SSH_CONFIG is for `ssh -F`; git and rsync read theirs by themselves */
  readonly env: Readonly<Record<'ASSAY_SSH_CONFIG' | 'GIT_SSH_COMMAND' | 'RSYNC_RSH', string>>
}

export type SshDoorOptions = {
  /** the proxy's port for the server */
  readonly proxy: ProxyPlace
  readonly identity: Identity
  /** that its owner alone reaches */
  readonly folder: string
  /** how this program is started */
  readonly program: readonly string[]
  readonly say: (message: string) => void
}

/** A connection through the proxy, and the ssh-agent at its other end. */
type Tunnel = { readonly ask: (message: Buffer) => Promise<Buffer> }

/** Opens two sockets: at one a session begins, at the other the client finds an ssh-agent, which is the proxy's: it holds the key and signs the login to the
 *  session that it carries. */
export async function openSsh(options: SshDoorOptions): Promise<SshDoor> {
  const { folder } = options
  const tunnels = new Set<Tunnel>()
  const sockets = new Set<Socket>()
  const [session, agent] = ['ssh', 'agent'].map(name => join(folder, `${name}.sock`)) as [string, string]
  const servers = [
    await listening(session, sockets, socket => carry(options, tunnels, socket)),
    await listening(agent, sockets, socket => serveAgent(tunnels, socket)),
  ]
  const configFile = join(folder, 'ssh_config')
  await writeFile(configFile, configOf(options.program, session, agent), { mode: 0o600 })
  const command = `ssh -F '${configFile.replaceAll("'", `'\\''`)}'`
  return {
    env: { ASSAY_SSH_CONFIG: configFile, GIT_SSH_COMMAND: command, RSYNC_RSH: command },
    [Symbol.asyncDispose]: async () => {
      for (const server of servers) server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}

/** The proxy looks at the server's key before the client sees it, and is itself known by its certificate. */
function configOf(program: readonly string[], session: string, agent: string): string {
  const command = [...program, 'agent', 'ssh-join', session].map(quoted).join(' ')
  const lines = [
    `ProxyCommand ${command} -- '%r' '%h' '%p'`, // a shell reads it, and the address of a submodule may be anybody's
    `IdentityAgent "${agent}"`,
    'IdentityFile none',
    'PreferredAuthentications publickey',
    'StrictHostKeyChecking no',
    'UserKnownHostsFile /dev/null',
    'GlobalKnownHostsFile /dev/null',
    'LogLevel ERROR',
  ]
  return ['Host *', ...lines.map(line => `  ${line}`), ''].join('\n')
}

const quoted = (word: string) => `'${word.replaceAll('%', '%%').replaceAll("'", `'\\''`)}'`

function listening(path: string, sockets: Set<Socket>, serve: (socket: Socket) => Promise<void>): Promise<Server> {
  const server = createServer(socket => {
    sockets.add(socket)
    socket.on('error', () => socket.destroy()).once('close', () => sockets.delete(socket))
    serve(socket).catch(() => socket.destroy())
  })
  return new Promise((resolve, reject) => server.once('error', reject).listen(path, () => resolve(server)))
}

/** One session: what the joining program says first is who it is, then it is the client's own. */
async function carry({ proxy, identity, say }: SshDoorOptions, tunnels: Set<Tunnel>, socket: Socket): Promise<void> {
  const pieces = socket[Symbol.asyncIterator]() as AsyncIterator<Buffer>
  const { hello, rest } = await helloOf(pieces)
  const upstream = await dial(proxy, identity).catch((error: unknown) => {
    say(unreachable(error))
    throw error
  })
  upstream.on('error', () => upstream.destroy())
  socket.once('close', () => upstream.destroy())
  const waiting: ((answer: Buffer) => void)[] = []
  const tunnel: Tunnel = {
    ask: message =>
      new Promise(resolve => {
        if (upstream.destroyed) return resolve(FAILURE)
        waiting.push(resolve)
        upstream.write(frame(kinds.agent, message))
      }),
  }
  tunnels.add(tunnel)
  upstream.once('close', () => {
    tunnels.delete(tunnel)
    for (const answered of waiting.splice(0)) answered(FAILURE)
  })
  await written(upstream, Buffer.concat([frame(kinds.hello, hello), ...(rest.length > 0 ? [frame(kinds.data, rest)] : [])]))
  const out = (async () => {
    for (let next = await pieces.next(); !next.done; next = await pieces.next())
      await written(upstream, frame(kinds.data, next.value))
    upstream.end()
  })()
  out.catch(() => upstream.destroy())
  for await (const { kind, body } of framesOf(upstream)) {
    if (kind === kinds.data) await written(socket, body)
    else if (kind === kinds.agent) waiting.shift()?.(body)
    else if (kind === kinds.refused) say(`the proxy refused the session: ${body.toString()}`)
  }
  socket.end()
}

const LONGEST_HELLO = 131_072

/** A line of JSON, and what came behind it. */
async function helloOf(pieces: AsyncIterator<Buffer>): Promise<{ readonly hello: Buffer; readonly rest: Buffer }> {
  let seen: Buffer = Buffer.alloc(0)
  for (let next = await pieces.next(); !next.done && seen.length < LONGEST_HELLO; next = await pieces.next()) {
    seen = Buffer.concat([seen, next.value])
    const end = seen.indexOf('\n')
    if (end !== -1) return { hello: seen.subarray(0, end), rest: seen.subarray(end + 1) }
  }
  throw new Error('no first line')
}

const FAILURE = Buffer.from([5])
const SUCCESS = Buffer.from([6])
const EXTENSION = 27

/** A client says first which session it is (`session-bind@openssh.com`): the tunnel that carries it is the one that agrees. */
async function serveAgent(tunnels: ReadonlySet<Tunnel>, socket: Socket): Promise<void> {
  let own: Tunnel | undefined
  for await (const message of messagesOf(socket)) {
    const body = message.subarray(4)
    let answer = own ? await own.ask(body) : FAILURE
    if (!own && body[0] === EXTENSION) {
      own = await carrierOf(tunnels, body)
      if (own) answer = SUCCESS
    }
    const length = Buffer.alloc(4)
    length.writeUInt32BE(answer.length)
    await written(socket, Buffer.concat([length, answer]))
  }
}

/** All are asked at a time: one that is slow, as its session begins, holds no other up. */
function carrierOf(tunnels: ReadonlySet<Tunnel>, body: Buffer): Promise<Tunnel | undefined> {
  const asked = [...tunnels].map(async tunnel => {
    if (!(await tunnel.ask(body)).equals(SUCCESS)) throw new Error('it carries another session')
    return tunnel
  })
  return Promise.any(asked).catch(() => undefined)
}
