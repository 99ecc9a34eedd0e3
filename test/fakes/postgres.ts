import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto'
import type { Duplex } from 'node:stream'
import { TLSSocket } from 'node:tls'

// The side of a PostgreSQL server until a session is ready, as far as tests need it.

export const int32 = (...values: readonly number[]): Buffer => {
  const bytes = Buffer.alloc(4 * values.length)
  for (const [at, value] of values.entries()) bytes.writeInt32BE(value, 4 * at)
  return bytes
}
export const message = (type: string, body: Buffer): Buffer => Buffer.concat([Buffer.from(type), int32(body.length + 4), body])
export const authentication = (kind: number, text = ''): Buffer =>
  message('R', Buffer.concat([int32(kind), Buffer.from(text, 'latin1')]))
/** @see PostgreSQL documentation, 55.7 Message Formats */
export const asks = {
  cleartext: authentication(3),
  md5: authentication(5, 'salt'),
  scram: authentication(10, 'SCRAM-SHA-256\0\0'),
} as const
export const loggedIn = (processId: number, secretKey: number): Buffer =>
  Buffer.concat([authentication(0), message('K', int32(processId, secretKey)), message('Z', Buffer.from('I'))])

/** Asks for the proof of a password, and says `then` in one piece with its own proof when it was the right one.
 *  @param between said in place of the server's own proof, where that is to be missing or wrong
 *  @see RFC 5802, 3 SCRAM Algorithm Overview */
export function askScram(socket: Duplex, password: string, then: Buffer, between?: Buffer): void {
  const salt = randomBytes(16)
  // over TLS a client could bind to the certificate, and says that it knows that this server cannot
  const flag = socket instanceof TLSSocket ? 'y,,' : 'n,,'
  const bound = Buffer.from(flag).toString('base64')
  socket.once('data', (first: Buffer) => {
    const [, bare = '', nonce = ''] = new RegExp(`${flag}(.*r=(.*))$`, 's').exec(first.toString('latin1')) ?? []
    const challenge = `r=${nonce}server,s=${salt.toString('base64')},i=4096`
    socket.once('data', (last: Buffer) => {
      const [, without = '', proof = ''] = new RegExp(`(c=${bound},r=.*),p=(.*)$`, 's').exec(last.toString('latin1')) ?? []
      const { client, server } = proofs(password, salt, `${bare},${challenge},${without}`)
      const isRight = client === proof
      socket.write(isRight ? Buffer.concat([between ?? authentication(12, `v=${server}`), then]) : refused)
    })
    socket.write(authentication(11, challenge))
  })
  socket.write(asks.scram)
}

const refused = message('E', Buffer.from('SFATAL\0C28P01\0Mno\0\0'))

function proofs(password: string, salt: Buffer, about: string): { readonly client: string; readonly server: string } {
  const hmac = (key: Buffer, text: string) => createHmac('sha256', key).update(text).digest()
  const salted = pbkdf2Sync(password, salt, 4096, 32, 'sha256')
  const clientKey = hmac(salted, 'Client Key')
  const signature = hmac(createHash('sha256').update(clientKey).digest(), about)
  const client = Buffer.from(clientKey.map((byte, at) => byte ^ (signature[at] ?? 0)))
  return { client: client.toString('base64'), server: hmac(hmac(salted, 'Server Key'), about).toString('base64') }
}
