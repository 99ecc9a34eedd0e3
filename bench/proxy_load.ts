import type { Socket } from 'node:net'
import { connect } from 'node:tls'
import { type Measured, measuredOf } from './load.ts'

/** Where the load goes and with which certificate. */
export type Target = {
  readonly port: number
  readonly ca: string
  readonly cert: string
  readonly key: string
  readonly request: Buffer
  /** bytes of the body of each answer */
  readonly length: number
}

export type ManyMeasured = Measured & { readonly megabytesPerSecond: number }

/** A closed loop over mutual TLS that counts the bytes of answers and does not keep them.
 *  @throws Error at the first answer that is not a 200: a refusal is not throughput */
export async function drive(target: Target, connections: number, seconds: number): Promise<ManyMeasured> {
  const sockets = await Promise.all(Array.from({ length: connections }, () => dial(target)))
  const latencies: number[] = []
  const begun = performance.now()
  const until = begun + seconds * 1000
  await Promise.all(sockets.map(socket => loop(socket, target, until, latencies)))
  const took = (performance.now() - begun) / 1000
  for (const socket of sockets) socket.destroy()
  const megabytesPerSecond = (latencies.length * target.length) / took / 1e6
  return { ...measuredOf(latencies, took), megabytesPerSecond }
}

async function loop(socket: Socket, target: Target, until: number, latencies: number[]): Promise<void> {
  while (performance.now() < until) {
    const begun = performance.now()
    await exchange(socket, target)
    latencies.push(performance.now() - begun)
  }
}

function exchange(socket: Socket, { request, length }: Target): Promise<void> {
  return new Promise((resolve, reject) => {
    let head = ''
    let left = -1
    const done = (error?: Error) => {
      socket.off('data', take).off('close', lost)
      if (error) reject(error)
      else resolve()
    }
    const take = (chunk: Buffer) => {
      if (left < 0) {
        head += chunk.toString('latin1')
        const end = head.indexOf('\r\n\r\n')
        if (end < 0) return
        if (!head.startsWith('HTTP/1.1 200')) return done(new Error(head.slice(0, 500)))
        left = length - (head.length - end - 4)
      } else left -= chunk.length
      if (left <= 0) done()
    }
    const lost = () => done(new Error('the connection was closed before the answer was whole'))
    socket.on('data', take).once('close', lost)
    socket.write(request)
  })
}

function dial({ port, ca, cert, key }: Target): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, ca, cert, key, servername: 'localhost' })
    socket.once('secureConnect', () => resolve(socket.setNoDelay(true))).once('error', reject)
  })
}
