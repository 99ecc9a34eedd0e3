import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'

/** Cipher suites over Diffie-Hellman in a field that the server chooses (IANA's registry, TLS_DHE_*), which OpenSSL has with AES, CAMELLIA, ARIA and ChaCha20. */
const DHE = new Set([
  0x16, 0x32, 0x33, 0x38, 0x39, 0x40, 0x44, 0x45, 0x67, 0x6a, 0x6b, 0x87, 0x88, 0x9e, 0x9f, 0xa2, 0xa3, 0xbd, 0xbe, 0xc3, 0xc4,
  0xc052, 0xc053, 0xc056, 0xc057, 0xc09e, 0xc09f, 0xc0a2, 0xc0a3, 0xccaa,
])

/** Those of them that whoever connects to this port over TLS offers, with the number of all that are offered. */
export async function offered(connect: (port: number) => Promise<unknown>): Promise<{ all: number; dhe: readonly number[] }> {
  const server = createServer()
  await once(server.listen(0, '127.0.0.1'), 'listening')
  try {
    const dialled = once(server, 'connection') as Promise<[Socket]>
    const ended = connect((server.address() as AddressInfo).port).catch(() => undefined)
    const [socket] = await dialled
    const [hello] = (await once(socket, 'data')) as [Buffer]
    socket.destroy()
    await ended
    const suites = suitesIn(hello)
    return { all: suites.length, dhe: suites.filter(suite => DHE.has(suite)) }
  } finally {
    server.close()
  }
}

/** RFC 5246, 7.4.1.2: behind the record's and the message's head, version and random. */
function suitesIn(hello: Buffer): readonly number[] {
  const at = 5 + 4 + 2 + 32
  const list = at + 1 + hello.readUInt8(at)
  const count = hello.readUInt16BE(list) / 2
  return Array.from({ length: count }, (_, index) => hello.readUInt16BE(list + 2 + 2 * index))
}
