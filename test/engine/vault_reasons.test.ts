import { createServer, type RequestListener } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { type AddressInfo, createServer as createTcpServer, type Server } from 'node:net'
import { describe, expect, onTestFinished, test } from 'vitest'
import { openVault, unanswered } from '../../engine/vault/client.ts'
import { freePort } from '../harness/process.ts'
import { newAuthority } from '../mounts/hosts/certificates.ts'

// Why Vault did not answer, in words that say what to look at: whoever starts a service for the first time has nothing else.

const answer: RequestListener = (_, outgoing) => outgoing.end('{"data":{}}')

async function portOf(server: Server): Promise<number> {
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  return (server.address() as AddressInfo).port
}

async function said(address: string, ca?: string): Promise<string> {
  const vault = openVault({ address, deadlineMs: 60_000, ca })
  onTestFinished(() => vault.close())
  return vault.read('sys/mounts').then(
    () => 'it answered',
    (error: Error) => error.message,
  )
}

test('nobody listens', async () => {
  expect(await said(`http://127.0.0.1:${await freePort()}`)).toMatch(/^the vault server cannot be reached: nobody listens there/)
})

test('no more files can be opened here', () => {
  const full = Object.assign(new Error('connect EMFILE'), { code: 'EMFILE' })
  expect(() => unanswered(full)).toThrow('the vault server cannot be reached: no more files can be opened here')
})

test('it hangs up', async () => {
  const port = await portOf(createTcpServer(socket => void socket.once('data', () => socket.destroy())))
  expect(await said(`http://127.0.0.1:${port}`)).toBe('the vault server closed the connection before it answered')
})

describe('over TLS', () => {
  test('the certificate leads elsewhere, or is for another name', async () => {
    const [ours, theirs] = await Promise.all([newAuthority('ours'), newAuthority('theirs')])
    const port = await portOf(createTlsServer(await ours.issue('elsewhere.example'), answer))
    const distrust =
      /^the vault server has a certificate that is not trusted, or is for another name: see ca_file and the address$/
    expect(await said(`https://127.0.0.1:${port}`, ours.ca)).toBe('it answered')
    for (const ca of [theirs.ca, undefined]) expect(await said(`https://127.0.0.1:${port}`, ca)).toMatch(distrust)
    expect(await said(`https://localhost:${port}`, ours.ca)).toMatch(distrust)
  })

  test('it does not speak it', async () => {
    const port = await portOf(createServer(answer))
    expect(await said(`https://127.0.0.1:${port}`)).toMatch(
      /does not speak TLS as wanted: see whether its address is http or https/,
    )
  })
})
