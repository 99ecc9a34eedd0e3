import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { createServer, type Socket } from 'node:net'

/** What listens where a TPM should, and answers as the test says: with bytes, nothing, or the end of the connection. */
export type FakeTpm = AsyncDisposable & { readonly spec: string; readonly received: Buffer[]; connections: number }
export type Reaction = Buffer | 'silence' | 'hang up'

/** @param react what to do about the n-th command, counted from 0 @param path of a unix socket; TCP without one */
export async function fakeTpm(react: (command: Buffer, index: number) => Reaction, path?: string): Promise<FakeTpm> {
  const open = new Set<Socket>()
  const received: Buffer[] = []
  const fake = { spec: '', received, connections: 0 }
  const server = createServer(socket => {
    fake.connections++
    open.add(socket.on('error', () => {}))
    socket.on('data', command => {
      const reaction = react(command, received.push(command) - 1)
      if (reaction === 'hang up') socket.destroy()
      else if (reaction !== 'silence') socket.write(reaction)
    })
  })
  server.listen(path === undefined ? { port: 0, host: '127.0.0.1' } : { path })
  await once(server, 'listening')
  const close = async () => {
    for (const socket of open) socket.destroy()
    server.close()
    await once(server, 'close')
  }
  const spec = path === undefined ? `tcp:127.0.0.1:${(server.address() as AddressInfo).port}` : `unix:${path}`
  return Object.assign(fake, { spec, [Symbol.asyncDispose]: close })
}

/** A response without parameters. */
export function response(code: number): Buffer {
  const header = Buffer.from('80010000000a00000000', 'hex')
  header.writeUInt32BE(code, 6)
  return header
}
