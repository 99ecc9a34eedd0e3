import { createHash, createPublicKey, randomUUID, X509Certificate } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer as createPlain, type IncomingMessage, type OutgoingHttpHeaders, type ServerResponse } from 'node:http'
import { Agent, createServer as createTls, request as tlsRequest } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createSecureContext, type TLSSocket, connect as tlsConnect } from 'node:tls'
import { openAudit } from '../../engine/audit/index.ts'
import { openLog } from '../../engine/log.ts'
import type { SealingMode } from '../../engine/sealing/keys.ts'
import { Secret } from '../../engine/secret.ts'
import { readConfig } from '../../proxy/config.ts'
import { openMetrics, type ProxyMetrics } from '../../proxy/metrics.ts'
import { openProxy, type ServedProxy } from '../../proxy/proxy.ts'
import { openSealing, type Sealing, toSeal, type Wanted } from '../fakes/sealing.ts'
import { type Authority, newAuthority, type Pair } from '../mounts/hosts/certificates.ts'

/** Who connects: a certificate and what names it. */
export type Client = Pair & { readonly x5tS256: string; readonly jkt: string }

export type Seen = {
  readonly method: string
  readonly url: string
  readonly rawHeaders: readonly string[]
  readonly body: Buffer
}
export type Upstream = {
  readonly port: number
  /** what arrived, whole */
  readonly seen: Seen[]
  answer: (incoming: IncomingMessage, outgoing: ServerResponse, body: Buffer) => void
  readonly server: ReturnType<typeof createPlain>
}

export type Answered = {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly body: Buffer
  readonly text: string
  readonly code: string
}
export type Ask = {
  readonly method?: string
  readonly path?: string
  readonly headers?: OutgoingHttpHeaders | readonly string[]
  readonly body?: string | Buffer
  readonly as?: Client | undefined
}

/** A proxy in this process over a fake transit, an upstream server behind it and agents with certificates. Disposing of it ends all. */
export type ProxyWorld = AsyncDisposable & {
  readonly proxy: ServedProxy
  readonly port: number
  readonly ca: Authority
  /** writes a file that the configuration names */
  readonly write: (file: string, text: string) => Promise<void>
  readonly upstream: Upstream
  readonly sealing: Sealing
  readonly agent: Client
  readonly other: Client
  /** moves both clocks */
  readonly pass: (ms: number) => void
  readonly seal: (wanted?: Partial<Wanted>) => Promise<string>
  readonly ask: (ask: Ask) => Promise<Answered>
  readonly connect: (as?: Client) => Promise<TLSSocket>
  /** how the agent connects by itself */
  readonly dial: Required<Dial>
  /** what is on record, once all of it is written */
  readonly records: () => Promise<readonly Record<string, unknown>[]>
  /** what the file of the audit log has by now */
  readonly written: () => Promise<readonly Record<string, unknown>[]>
  readonly closeAudit: () => Promise<void>
  readonly logged: readonly string[]
  readonly metrics: ProxyMetrics
  readonly base: string
}

export type WorldOptions = {
  /** members of the one service beside its name and hosts */
  readonly service?: object
  /** more services, as YAML would have them */
  readonly more?: readonly object[]
  /** members of the configuration */
  readonly config?: object
  readonly tls?: boolean
  readonly mode?: SealingMode
  readonly clientCa?: boolean
  readonly resolve?: (host: string) => Promise<readonly string[]>
  readonly host?: string
  readonly intercept?: boolean
}

export async function openProxyWorld(options: WorldOptions = {}): Promise<ProxyWorld> {
  await using opening = new AsyncDisposableStack()
  const folder = await mkdtemp(join(tmpdir(), 'assay-proxy-'))
  opening.defer(() => rm(folder, { recursive: true, force: true }))
  const ca = await newAuthority('proxy')
  const [server, agent, other] = await Promise.all([ca.issue('proxy.test'), client(ca, 'agent'), client(ca, 'other')])
  const host = options.host ?? '127.0.0.1'
  const upstream = await startUpstream(options.tls ? await ca.issue(host) : undefined)
  opening.defer(() => stop(upstream.server))
  await Promise.all([
    writeFile(join(folder, 'cert.pem'), server.cert),
    writeFile(join(folder, 'key.pem'), server.key),
    writeFile(join(folder, 'ca.pem'), ca.ca),
  ])
  let ahead = 0
  const world = { now: () => Date.now() + ahead, monotonic: () => performance.now() + ahead }
  const sealing = await openSealing(world, options.mode)
  opening.defer(async () => sealing.watch.stop())
  const scheme = options.tls ? 'https' : 'http'
  const service = {
    kind: 'http',
    name: 'upstream',
    hosts: [`${host}:${upstream.port}`],
    scheme,
    ...(options.tls ? { ca_file: 'ca.pem' } : {}),
    addresses: ['127.0.0.1'],
    inject: [{ header: { name: 'Authorization', value: 'Bearer {token}' } }],
    ...options.service,
  }
  const text = JSON.stringify({
    listen: { port: 0, cert_file: 'cert.pem', key_file: 'key.pem', ...(options.clientCa ? { client_ca_file: 'ca.pem' } : {}) },
    vault: { address: 'http://127.0.0.1:1' },
    audit: { file: 'audit.jsonl' },
    shutdown_seconds: 0,
    services: [service, ...(options.more ?? [])],
    ...options.config,
  })
  const read = readConfig(text)
  if (!read.ok) throw new Error(JSON.stringify(read.problems))
  const auditFile = join(folder, 'audit.jsonl')
  const audit = await openAudit({ file: auditFile, key: new Secret(Buffer.alloc(32, 7)), now: world.now, deadlineMs: 10_000 })
  let closed = false
  opening.defer(async () => {
    if (!closed) await audit.close()
  })
  const logged: string[] = []
  const metrics = openMetrics({ version: 'of tests' })
  opening.defer(() => metrics.close())
  const proxy = await openProxy({
    config: read.config,
    opener: sealing.opener,
    revocations: sealing.watch,
    audit,
    metrics,
    log: openLog({ level: 'debug', write: line => void logged.push(line) }),
    read: file => readFile(join(folder, file), 'utf8'),
    resolve: options.resolve ?? (async () => ['127.0.0.1']),
    mint: options.intercept
      ? {
          of: async name => {
            const { cert, key } = await ca.issue(name)
            return createSecureContext({ cert, key })
          },
          forget: () => undefined,
        }
      : undefined,
    now: world.now,
    newId: randomUUID,
  })
  opening.defer(() => proxy.close())
  const port = Number(new URL(proxy.url).port)
  const base = `/_/${scheme === 'http' ? 'http:' : ''}${host}:${upstream.port}`
  const dial = { host: '127.0.0.1', port, ca: ca.ca, servername: 'proxy.test' }
  const written = async () => {
    const lines = (await readFile(auditFile, 'utf8')).split('\n').filter(line => line !== '')
    return lines.map(line => JSON.parse(line) as Record<string, unknown>)
  }
  const parts = opening.move()
  return {
    proxy,
    port,
    ca,
    write: (file, content) => writeFile(join(folder, file), content),
    upstream,
    sealing,
    agent,
    other,
    base,
    dial: { ...dial, cert: agent.cert, key: agent.key },
    logged,
    metrics,
    pass: ms => {
      ahead += ms
    },
    seal: async (wanted = {}) => {
      const all = { x5tS256: agent.x5tS256, destinations: [`${scheme}://${host}:${upstream.port}`], now: world.now(), ...wanted }
      return (await sealing.sealer(toSeal(all))).token.reveal()
    },
    ask: ask => sendOver({ ...dial, ...keys('as' in ask ? ask.as : agent) }, ask, base),
    connect: as => handshake({ ...dial, ...keys(as ?? agent) }),
    records: async () => {
      // lazy records are written within a tenth of a second, and before a durable one
      await audit.append({ type: 'system', txn: '', operation: 'test', mount: '', path: '' })
      return written()
    },
    written,
    closeAudit: () => {
      closed = true
      return audit.close()
    },
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
}

export async function client(ca: Authority, name: string): Promise<Client> {
  const pair = await ca.issue(name)
  const certificate = new X509Certificate(pair.cert)
  const { crv, kty, x, y } = createPublicKey(pair.cert).export({ format: 'jwk' })
  const sha256 = (bytes: string | Buffer) => createHash('sha256').update(bytes).digest('base64url')
  return { ...pair, x5tS256: sha256(certificate.raw), jkt: sha256(JSON.stringify({ crv, kty, x, y })) }
}

const keys = (as: Client | undefined) => (as ? { cert: as.cert, key: as.key } : {})

async function startUpstream(tls: Pair | undefined): Promise<Upstream> {
  const seen: Seen[] = []
  const listener = (incoming: IncomingMessage, outgoing: ServerResponse) => {
    const chunks: Buffer[] = []
    incoming.on('data', chunk => chunks.push(chunk as Buffer))
    incoming.on('end', () => {
      const body = Buffer.concat(chunks)
      const { method = '', url = '', rawHeaders } = incoming
      seen.push({ method, url, rawHeaders, body })
      upstream.answer(incoming, outgoing, body)
    })
  }
  const server = tls ? createTls({ cert: tls.cert, key: tls.key }, listener) : createPlain(listener)
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const upstream: Upstream = {
    port: (server.address() as AddressInfo).port,
    seen,
    server,
    answer: (_, outgoing) => void outgoing.end('fine'),
  }
  return upstream
}

async function stop(server: Upstream['server']): Promise<void> {
  server.closeAllConnections()
  await new Promise(resolve => server.close(resolve))
}

type Dial = {
  readonly host: string
  readonly port: number
  readonly ca: string
  readonly servername: string
  readonly cert?: string
  readonly key?: string
}

/** One request on a connection of its own. */
function sendOver(dial: Dial, { method = 'GET', path, headers = {}, body }: Ask, base: string): Promise<Answered> {
  return new Promise((resolve, reject) => {
    const agent = new Agent({ keepAlive: false })
    const request = tlsRequest(
      { ...dial, agent, method, path: path ?? `${base}/`, headers: headers as OutgoingHttpHeaders },
      answer => {
        const chunks: Buffer[] = []
        answer.on('data', chunk => chunks.push(chunk as Buffer))
        answer.on('error', reject)
        answer.on('end', () => resolve(answeredOf(answer.statusCode ?? 0, answer.headers, Buffer.concat(chunks))))
      },
    )
    request.on('error', reject)
    request.end(body)
  })
}

function answeredOf(status: number, headers: IncomingMessage['headers'], body: Buffer): Answered {
  const text = body.toString()
  return { status, headers, body, text, code: /^\{"code":"([A-Z_]+)"/.exec(text)?.[1] ?? '' }
}

function handshake(dial: Dial): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = tlsConnect(dial)
    socket.once('secureConnect', () => resolve(socket)).once('error', reject)
  })
}

/** Sends bytes, collects everything until the other side closes or `enough` is true of it. */
export function exchangeRaw(socket: Socket, bytes: string, enough: (received: string) => boolean = () => false): Promise<string> {
  return new Promise(resolve => {
    let received = ''
    const done = () => resolve(received)
    socket.on('data', chunk => {
      received += chunk.toString('latin1')
      if (enough(received)) done()
    })
    socket.once('close', done).once('error', done)
    socket.write(bytes)
  })
}

export const bearer = (token: string) => ({ Authorization: `Bearer ${token}` })
