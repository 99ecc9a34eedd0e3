import type { Duplex } from 'node:stream'

/** What a client of PostgreSQL may ask before it begins; the answer is one byte. @see PostgreSQL documentation, 55.7: SSLRequest, GSSENCRequest */
export const SSL_REQUEST = requestOf(80_877_103)
const ENCRYPTION = [SSL_REQUEST, requestOf(80_877_104)]

function requestOf(code: number): Buffer {
  const request = Buffer.alloc(8)
  request.writeUInt32BE(request.length)
  request.writeUInt32BE(code, 4)
  return request
}

/** At a server's own socket there is neither TLS nor GSSAPI: who asks for them there is told so, as by the server, and goes on in clear. */
export async function declineEncryption(socket: Duplex): Promise<void> {
  while (true) {
    const head = await headOf(socket)
    if (head === undefined) return
    if (!ENCRYPTION.some(request => request.equals(head))) {
      socket.unshift(head)
      return
    }
    socket.write('N')
  }
}

/** The first eight bytes, which every message there has; undefined where the client has left. */
function headOf(socket: Duplex): Promise<Buffer | undefined> {
  return new Promise(resolve => {
    const look = () => {
      const head = socket.read(8) as Buffer | null
      if (head === null && !socket.destroyed) return
      socket.off('readable', look).off('close', look)
      resolve(head?.length === 8 ? head : undefined)
    }
    socket.on('readable', look).on('close', look)
  })
}
