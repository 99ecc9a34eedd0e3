import { Duplex, PassThrough } from 'node:stream'
import { expect, test } from 'vitest'
import { declineEncryption } from '../../agent/proxied/declined.ts'

const SSL = Buffer.from('0000000804d2162f', 'hex')
const GSSENC = Buffer.from('0000000804d21630', 'hex')
const STARTUP = Buffer.from('0000001700030000757365720061000000', 'hex')

/** A client that sends these pieces: what it is told, and what is left for who comes next. */
async function asked(...pieces: readonly Buffer[]) {
  const [sent, told] = [new PassThrough(), new PassThrough()]
  const socket = Duplex.from({ readable: sent, writable: told })
  const declined = declineEncryption(socket)
  for (const piece of pieces) {
    sent.write(piece)
    await new Promise(resolve => setImmediate(resolve))
  }
  sent.end()
  await declined
  return { told: String(told.read() ?? ''), left: Buffer.concat(await socket.toArray()) }
}

test.each([
  ['nothing', [STARTUP], ''],
  ['TLS', [SSL, STARTUP], 'N'],
  ['GSSAPI, then TLS', [GSSENC, SSL, STARTUP], 'NN'],
  ['TLS, in pieces', [SSL.subarray(0, 3), SSL.subarray(3), STARTUP.subarray(0, 9), STARTUP.subarray(9)], 'N'],
])('a client of a socket of PostgreSQL that asks for %s', async (_, pieces, told) => {
  expect(await asked(...pieces)).toEqual({ told, left: STARTUP })
})

test('a client that leaves before it has said what it wants holds nothing up', async () => {
  expect(await asked(SSL.subarray(0, 3))).toMatchObject({ told: '' })
})
