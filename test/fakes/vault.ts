import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { text } from 'node:stream/consumers'
import { listening } from '../harness/listening.ts'
import { answerOf, type FakeState, newState, type TokenOptions } from './vault_state.ts'

/** What a real Vault will not do, or not when a test wants it. */
export type Fault =
  /** takes the request and never answers */
  | 'hang'
  /** closes the connection before an answer, or in the middle of one */
  | 'reset'
  | 'reset in the body'
  /** the true answer without its last byte */
  | 'truncated'
  /** the true answer, a byte at a time, for longer than anybody waits */
  | 'slow'
  | 'endless'
  /** the true answer is done and lost on its way back */
  | 'lost'
  /** the true answer of now, later */
  | { readonly after: Promise<unknown> }
  | Answer

export type Answer = {
  readonly status: number
  readonly body?: unknown
  /** in place of `body`, as it is */
  readonly text?: string
  readonly headers?: Record<string, string>
}
export type Asked = {
  readonly method: string
  /** below `/v1/` */
  readonly path: string
  readonly token: string
  readonly body: Readonly<Record<string, unknown>>
  readonly headers: IncomingMessage['headers']
}

/** As much of Vault's HTTP API as the engine uses, in this process, and every way to break it. */
export type FakeVault = AsyncDisposable & {
  readonly address: string
  readonly rootToken: string
  readonly state: FakeState
  /** asked before each answer */
  fault: (asked: Asked) => Fault | undefined
  /** what it says the time is */
  now: () => number
  readonly asked: readonly Asked[]
  /** how many sockets were open at most, and how many there were so far */
  readonly mostConnections: () => number
  readonly connections: () => number
  /** A new token; without `allow` it may do everything. */
  readonly token: (options?: TokenOptions) => string
  readonly revoke: (token: string) => void
}

export async function startFakeVault(): Promise<FakeVault> {
  const state = newState()
  const asked: Asked[] = []
  const server = createServer((incoming, outgoing) => void answer(vault, asked, incoming, outgoing))
  let [open, most, all] = [0, 0, 0]
  server.on('connection', socket => {
    open += 1
    all += 1
    most = Math.max(most, open)
    socket.once('close', () => {
      open -= 1
    })
  })
  const { port, ...ends } = await listening(server)
  const vault: FakeVault = {
    address: `http://127.0.0.1:${port}`,
    rootToken: state.token({ path: 'auth/token/root', ttl: 0, entity: '', policies: ['root'] }),
    state,
    fault: () => undefined,
    now: Date.now,
    asked,
    mostConnections: () => most,
    connections: () => all,
    token: state.token,
    revoke: token => void state.tokens.delete(token),
    ...ends,
  }
  return vault
}

async function answer(vault: FakeVault, asked: Asked[], incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const one = await read(incoming)
  asked.push(one)
  const fault = vault.fault(one)
  if (fault === 'hang') return
  outgoing.setHeader('Date', new Date(vault.now()).toUTCString())
  if (typeof fault === 'object' && 'after' in fault) {
    const now = answerOf(vault.state, one)
    await fault.after
    give(outgoing, undefined, now)
  } else if (typeof fault === 'object') send(outgoing, fault)
  else if (fault === 'reset') outgoing.destroy()
  else give(outgoing, fault, answerOf(vault.state, one))
}

async function read(incoming: IncomingMessage): Promise<Asked> {
  const sent = await text(incoming)
  const { pathname, search } = new URL(incoming.url ?? '', 'http://vault')
  const path = decodeURIComponent(pathname).replace(/^\/v1\//, '')
  const list = search === '?list=true'
  const method = list ? 'LIST' : (incoming.method ?? '')
  const token = String(incoming.headers['x-vault-token'] ?? '')
  return { method, path, token, body: sent === '' ? {} : JSON.parse(sent), headers: incoming.headers }
}

function send(outgoing: ServerResponse, { status, body, text: bare, headers = {} }: Answer): void {
  outgoing.writeHead(status, { 'Content-Type': 'application/json', ...headers })
  outgoing.end(bare ?? (body === undefined ? undefined : JSON.stringify(body)))
}

/** The true answer, or what a fault makes of it. */
function give(outgoing: ServerResponse, fault: Exclude<Fault, object> | undefined, { status, body }: Answer): void {
  const whole = body === undefined ? '' : JSON.stringify(body)
  if (fault === undefined) send(outgoing, { status, text: whole })
  else if (fault === 'truncated') send(outgoing, { status, text: whole.slice(0, -1) })
  else if (fault === 'lost') outgoing.destroy()
  else spoil(outgoing, fault, status, whole)
}

function spoil(outgoing: ServerResponse, fault: Exclude<Fault, object>, status: number, whole: string): void {
  outgoing.writeHead(status, fault === 'reset in the body' ? { 'Content-Length': whole.length } : {})
  outgoing.write(whole.slice(0, whole.length / 2))
  if (fault === 'reset in the body') setImmediate(() => outgoing.destroy())
  const drip = fault === 'slow' ? () => outgoing.write(' ') : () => outgoing.write(Buffer.alloc(2 ** 20, ' '))
  if (fault !== 'slow' && fault !== 'endless') return
  const timer = setInterval(drip, fault === 'slow' ? 20 : 1)
  outgoing.on('close', () => clearInterval(timer))
}
