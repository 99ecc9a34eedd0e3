import { connect, type Socket } from 'node:net'

/** A closed-loop load: each connection sends its request, waits for the whole reply, sends again. The same generator drives both sides of a comparison. */
export type Load = {
  readonly address: string
  readonly connections: number
  readonly seconds: number
  readonly request: () => Promise<Buffer> | Buffer
}
export type Measured = { readonly perSecond: number; readonly p50Ms: number; readonly p99Ms: number; readonly count: number }

/** @throws Error at the first reply that is not a 2xx: a refusal is not throughput */
export async function measure({ address, connections, seconds, request }: Load): Promise<Measured> {
  const latencies: number[] = []
  const until = performance.now() + seconds * 1000
  const started = performance.now()
  await Promise.all(Array.from({ length: connections }, () => drive(address, until, request, latencies)))
  return measuredOf(latencies, (performance.now() - started) / 1000)
}

/** @param latencies of all requests, in ms */
export function measuredOf(latencies: readonly number[], tookSeconds: number): Measured {
  const sorted = Float64Array.from(latencies).sort()
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
  return { perSecond: latencies.length / tookSeconds, p50Ms: at(0.5), p99Ms: at(0.99), count: latencies.length }
}

async function drive(address: string, until: number, request: Load['request'], latencies: number[]): Promise<void> {
  const connection = await open(address)
  try {
    while (performance.now() < until) {
      const bytes = await request()
      const begun = performance.now()
      const { status, body } = await connection.exchange(bytes)
      if (status < 200 || status > 299) throw new Error(`a reply with status ${status}: ${body.slice(0, 300)}`)
      latencies.push(performance.now() - begun)
    }
  } finally {
    connection.close()
  }
}

export type Reply = { readonly status: number; readonly body: string }
export type Connection = { readonly exchange: (bytes: Buffer) => Promise<Reply>; readonly close: () => void }

/** One keep-alive connection that carries prepared bytes: as little work per request as JavaScript allows. */
export async function open(address: string): Promise<Connection> {
  const { hostname, port } = new URL(address)
  const socket = connect({ host: hostname, port: Number(port), noDelay: true })
  await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject))
  return { exchange: bytes => exchange(socket, bytes), close: () => void socket.destroy() }
}

function exchange(socket: Socket, bytes: Buffer): Promise<Reply> {
  const { promise, resolve, reject } = Promise.withResolvers<Reply>()
  let received = ''
  const take = (chunk: Buffer) => {
    received += chunk.toString('latin1')
    const reply = whole(received)
    if (reply) resolve(reply)
  }
  const lost = () => reject(new Error('the connection was closed before the reply was whole'))
  socket.on('data', take).once('close', lost)
  socket.write(bytes)
  return promise.finally(() => socket.off('data', take).off('close', lost))
}

function whole(received: string): Reply | undefined {
  const end = received.indexOf('\r\n\r\n')
  if (end < 0) return undefined
  const head = received.slice(0, end)
  const body = received.slice(end + 4)
  const status = Number(head.slice(9, 12))
  const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1]
  if (length !== undefined) return body.length >= Number(length) ? { status, body } : undefined
  if (/\r\ntransfer-encoding: *chunked/i.test(head)) return body.endsWith('0\r\n\r\n') ? { status, body } : undefined
  return { status, body }
}

/** The bytes of a POST with a JSON body, as Vault's clients send it. */
export function post(address: string, path: string, body: object, token?: string): Buffer {
  const json = JSON.stringify(body)
  const lines = [
    `POST /v1/${path} HTTP/1.1`,
    `Host: ${new URL(address).host}`,
    'X-Vault-Request: true',
    ...(token === undefined ? [] : [`X-Vault-Token: ${token}`]),
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(json)}`,
  ]
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n${json}`)
}

/** The bytes of a GET, as Vault's clients send it. */
export function get(address: string, path: string, token: string): Buffer {
  const lines = [`GET /v1/${path} HTTP/1.1`, `Host: ${new URL(address).host}`, 'X-Vault-Request: true', `X-Vault-Token: ${token}`]
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n`)
}
