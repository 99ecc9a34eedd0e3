import { createHash } from 'node:crypto'
import { connect, type SecureVersion, type TLSSocket } from 'node:tls'
import { describe, expect, test } from 'vitest'
import { newAuthority } from './certificates.ts'
import { listenHttp, openDoor } from './doors.ts'
import { bodyOf, dial, requestText } from './wire.ts'

describe('TLS', async () => {
  const [ours, theirs] = await Promise.all([newAuthority('ours'), newAuthority('theirs')])
  const [server, renewed, client, stranger] = await Promise.all([
    ours.issue('localhost'),
    ours.issue('localhost'),
    ours.issue('agent'),
    theirs.issue('agent'),
  ])
  const GET = requestText('GET /v1/own/a')
  const who: NonNullable<Parameters<typeof openDoor>[0]>['own'] = (_, { incoming }) => {
    const socket = incoming.socket as TLSSocket
    const certificate = socket.authorized ? socket.getPeerX509Certificate() : undefined
    return new Response(certificate ? createHash('sha256').update(certificate.raw).digest('hex') : 'nobody')
  }

  /** What a client with these options reads, or the code of what went wrong. */
  async function ask(url: string, options: object): Promise<string> {
    try {
      const line = await dial(url, { ca: ours.ca, ...options })
      line.write(GET)
      return bodyOf(await Promise.race([line.until(/\r\n\r\n.+/s), line.closed])) || 'refused'
    } catch {
      return 'refused'
    }
  }

  test.each([
    ['TLSv1.3', undefined, 'nobody'],
    ['TLSv1.2', undefined, 'refused'],
    ['TLSv1.2', 'TLSv1.2', 'nobody'],
    ['TLSv1.1', 'TLSv1.2', 'refused'],
  ] as const)('a client with %s at a door with %s: %s', async (version, minVersion, outcome) => {
    const { url } = await openDoor({ tls: { ...server, ...(minVersion && { minVersion }) }, own: who })
    expect(url).toMatch(/^https:/)
    expect(await ask(url, { minVersion: version as SecureVersion, maxVersion: version as SecureVersion })).toBe(outcome)
  })

  test('LIST and what goes on to Vault work the same', async () => {
    const upstream = await listenHttp((incoming, outgoing) => outgoing.end(`${incoming.method} at Vault;`))
    const line = await dial((await openDoor({ tls: server, upstream: { url: upstream } })).url, { ca: ours.ca })
    line.write(requestText('LIST /v1/a'))
    await line.until('LIST at Vault;')
    line.write(requestText('LIST /v1/own/a'))
    await line.until('"method":"LIST"')
  })

  test('a client certificate counts when our authority vouches for it', async () => {
    const required = await openDoor({ tls: { ...server, clientCa: ours.ca }, own: who })
    const unasked = await openDoor({ tls: server, own: who })
    const outcomes = async (options: object) => [await ask(required.url, options), await ask(unasked.url, options)]
    expect(await outcomes(client)).toEqual([client.sha256, 'nobody'])
    expect(await outcomes({})).toEqual(['refused', 'nobody'])
    expect(await outcomes(stranger)).toEqual(['refused', 'nobody'])
  })

  test('a header cannot stand in for a certificate', async () => {
    const line = await dial((await openDoor({ tls: server, own: who })).url, { ca: ours.ca })
    line.write(requestText('GET /v1/own/a', ['Client-Cert: :MIIC:', 'X-SSL-Client-Cert: x', 'X-Client-Cert: x']))
    await line.until('nobody')
  })

  test.each(['TLSv1.2', 'TLSv1.3'] as const)('no session is resumed where clients have certificates (%s)', async version => {
    const { url } = await openDoor({ tls: { ...server, clientCa: ours.ca, minVersion: version }, own: who })
    const options = { port: Number(new URL(url).port), host: '127.0.0.1', ca: ours.ca, ...client, maxVersion: version }
    const first = connect(options)
    const sessions: Buffer[] = []
    first.on('session', session => sessions.push(session))
    first.write(GET)
    await new Promise(resolve => first.once('data', resolve))
    first.destroy()
    for (const session of sessions) {
      const second = connect({ ...options, session })
      await new Promise((resolve, reject) => second.once('secureConnect', resolve).once('error', reject))
      expect(second.isSessionReused()).toBe(false)
      second.destroy()
    }
    expect(sessions.length).toBeGreaterThan(0)
  })

  test('what is reloaded holds for the next connection, and there is one soon', async () => {
    const [reached, pending] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const door = await openDoor({
      tls: { ...server, clientCa: ours.ca },
      own: async (request, env) => {
        if (request.url.endsWith('wait')) {
          reached.resolve()
          await pending.promise
        }
        return who(request, env)
      },
    })
    const trusted = { ca: ours.ca, ...client }
    const [idle, busy] = [await dial(door.url, trusted), await dial(door.url, trusted)]
    idle.write(GET)
    await idle.until(client.sha256)
    busy.write(requestText('GET /v1/own/wait'))
    await reached.promise
    // with nothing new nobody is cut off: the same signal rotates logs
    door.reloadTls({ ...server, clientCa: ours.ca })
    idle.write(GET)
    await idle.until(new RegExp(`${client.sha256}[\\s\\S]*${client.sha256}`))
    door.reloadTls({ ...renewed, clientCa: theirs.ca })
    await idle.closed
    pending.resolve()
    expect(await busy.closed).toMatch(/^HTTP\/1\.1 200 .*Connection: close/s)
    expect(await ask(door.url, client)).toBe('refused')
    expect(await ask(door.url, stranger)).toBe(stranger.sha256)
    const line = await dial(door.url, { ca: ours.ca, ...stranger })
    const { fingerprint256 } = (line.socket as ReturnType<typeof connect>).getPeerCertificate()
    expect(fingerprint256.replaceAll(':', '').toLowerCase()).toBe(renewed.sha256)
  })

  test('HTTP in clear on a TLS port is closed', async () => {
    const { url } = await openDoor({ tls: server })
    const line = await dial(url.replace('https:', 'http:'))
    line.write(GET)
    expect(await line.closed).not.toContain('200')
  })

  test('there is nothing to reload without it', async () => {
    const door = await openDoor()
    expect(() => door.reloadTls(server)).toThrow('there is no TLS to reload: the front door listens without it')
  })
})
