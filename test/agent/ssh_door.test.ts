import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { type AddressInfo, connect, createServer as createPlainServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer, type Server } from 'node:tls'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { frame, framesOf, kinds, messagesOf } from '../../agent/proxied/frames.ts'
import { ownIdentity } from '../../agent/proxied/identity.ts'
import { openSsh, type SshDoor, type SshDoorOptions } from '../../agent/proxied/ssh.ts'
import { run, until } from '../harness/process.ts'
import { newAuthority } from '../mounts/hosts/certificates.ts'

// Which of the connections through the proxy a client of the ssh-agent belongs to. The proxy is one of our own: of each connection it does what a test wants.

const [FAILURE, SUCCESS, LIST, SIGN, BIND] = [5, 6, 11, 13, 27]

let folder: string
let server: Server
let door: SshDoor
let options: SshDoorOptions
/** What was asked on each connection, by the name that its first line has. */
let asked: Map<string, number[]>
let answers: Readonly<Record<string, (kind: number) => number | undefined>>
const sockets = new Set<Socket>()

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'assay-ssh-door-'))
  asked = new Map()
  const ca = await newAuthority('proxies')
  server = createServer({ ...(await ca.issue('localhost')), requestCert: true, rejectUnauthorized: false }, socket => {
    sockets.add(socket)
    socket.on('error', () => socket.destroy())
    void serve(socket).catch(() => undefined)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', () => resolve()))
  const { port } = server.address() as AddressInfo
  options = {
    proxy: { host: '127.0.0.1', name: 'localhost', port, ca: ca.ca, deadlineMs: 10_000 },
    identity: await ownIdentity({ now: Date.now, random: randomBytes }),
    folder,
    program: ['assay'],
    say: () => undefined,
  }
  door = await openSsh(options)
})
afterEach(async () => {
  await door[Symbol.asyncDispose]()
  for (const socket of sockets) socket.destroy()
  await new Promise(resolve => server.close(resolve))
  await rm(folder, { recursive: true, force: true })
})

async function serve(socket: Socket): Promise<void> {
  let name = ''
  for await (const { kind, body } of framesOf(socket)) {
    if (kind === kinds.hello) {
      name = body.toString()
      asked.set(name, [])
    } else if (kind === kinds.agent) {
      asked.get(name)?.push(body[0] ?? 0)
      const answer = answers[name]?.(body[0] ?? 0)
      if (answer !== undefined) socket.write(frame(kinds.agent, Buffer.from([answer])))
    }
  }
}

async function opened(path: string): Promise<Socket> {
  const socket = connect(join(folder, path))
  sockets.add(socket)
  await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject))
  return socket
}

/** Sessions by these names, in their order. */
async function sessions(...names: readonly string[]): Promise<void> {
  for (const name of names) {
    ;(await opened('ssh.sock')).write(`${name}\n`)
    await until(`the session ${name}`, async () => asked.has(name))
  }
}

/** What a client of the ssh-agent hears, one after the other. */
async function client(...kinds: readonly number[]): Promise<readonly number[]> {
  const socket = await opened('agent.sock')
  const heard = messagesOf(socket)
  const said: number[] = []
  for (const kind of kinds) {
    socket.write(Buffer.from([0, 0, 0, 1, kind]))
    const { value } = await heard.next()
    said.push(value?.[4] ?? -1)
  }
  return said
}

test('a client belongs to the connection that agrees, and asks that one alone from then on', async () => {
  answers = { one: () => FAILURE, two: kind => (kind === BIND ? SUCCESS : kind + 1), three: () => FAILURE }
  await sessions('one', 'two', 'three')
  expect(await client(BIND, LIST, SIGN)).toEqual([SUCCESS, LIST + 1, SIGN + 1])
  await until('all to have been asked', async () => [...asked.values()].every(kinds => kinds.length > 0))
  expect(Object.fromEntries(asked)).toEqual({ one: [BIND], two: [BIND, LIST, SIGN], three: [BIND] })
})

test('a connection that does not answer, as its session begins, holds no other up', async () => {
  answers = { slow: () => undefined, own: kind => (kind === BIND ? SUCCESS : kind + 1) }
  await sessions('slow', 'own')
  expect(await client(BIND, LIST)).toEqual([SUCCESS, LIST + 1])
})

test('a client that no connection agrees to gets nothing, and one that does not say which session it is asks nobody', async () => {
  answers = { one: () => FAILURE }
  await sessions('one')
  expect(await client(BIND)).toEqual([FAILURE])
  expect(await client(LIST, SIGN)).toEqual([FAILURE, FAILURE])
  expect(asked.get('one')).toEqual([BIND])
})

test('of a proxy that takes connections and answers nothing a person hears in words', async () => {
  const said: string[] = []
  await using silent = createPlainServer(socket => void sockets.add(socket))
  await once(silent.listen(0, '127.0.0.1'), 'listening')
  const proxy = { ...options.proxy, port: (silent.address() as AddressInfo).port, deadlineMs: 200 }
  const own = await mkdtemp(join(folder, 's-'))
  await using _ = await openSsh({ ...options, proxy, folder: own, say: message => void said.push(message) })
  const session = connect(join(own, 'ssh.sock'))
  sockets.add(session)
  session.write('one\n')
  await until('it to be told', async () => said.length > 0)
  for (const socket of sockets) socket.destroy()
  expect(said).toEqual(['the proxy could not be reached: the proxy did not answer in time'])
})

test('a user that is named by the address of anybody is one word for the shell', async () => {
  const heard = join(folder, 'heard')
  const script = `printf '[%s]' "$@" > '${heard}'`
  await using other = await openSsh({
    ...options,
    folder: await mkdtemp(join(folder, 'o-')),
    program: ['sh', '-c', script, 'sh'],
  })
  await run('ssh', ['-F', other.env.ASSAY_SSH_CONFIG, '-l', 'a b', 'git.test', 'true']).catch(() => undefined)
  expect(await readFile(heard, 'utf8')).toMatch(/\[--\]\[a b\]\[git\.test\]\[22\]$/)
})
