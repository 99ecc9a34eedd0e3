import { createHash, createPublicKey, X509Certificate } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type RequestListener } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import * as flow from '../../agent/flow.ts'
import { run } from '../harness/process.ts'
import { type AssayProxy, startProxy } from '../harness/proxy.ts'
import { type Authority, openAuthority } from './certificates.ts'
import { type EnrolledWorld, openEnrolledWorld } from './enrolled_world.ts'
import { configureBroker, logIn } from './world.ts'

/** Files of a certificate and its key, and what a login says of them. */
export type Holder = { readonly cert: string; readonly key: string; readonly held: flow.HeldKey }
export type Server = { readonly port: number; readonly seen: IncomingMessage['headers'][] }

/** A machine that is logged in, a proxy, and two servers behind it, one with TLS. Disposing of it ends them all. */
export type SealedWorld = AsyncDisposable & {
  readonly world: EnrolledWorld
  readonly proxy: AssayProxy
  readonly ca: Authority
  readonly agent: Holder
  readonly plain: Server
  readonly secured: Server
  /** of the machine at Vault */
  readonly token: string
  /** a file with the authority of intercepted hosts */
  readonly interceptCa: string
  readonly identity: (name: string) => Promise<Holder>
  readonly sealed: () => Promise<{ readonly token: string; readonly data: Readonly<Record<string, unknown>> }>
  /** curl over mutual TLS; the status and the body */
  readonly curl: (url: string, words?: readonly string[], as?: Holder) => Promise<string>
  /** the same through a tunnel to the server with TLS; the authority of intercepted hosts is in the file */
  readonly tunnelled: (sealedToken: string, caFile: string) => Promise<string>
  /** what a path at the plain server is at the proxy, or at another one */
  readonly base: (port?: number) => string
}

/** @param answer what the servers answer once a request is there, whole */
export async function openSealedWorld(
  answer: RequestListener = (_, outgoing) => void outgoing.end('fine'),
): Promise<SealedWorld> {
  await using opening = new AsyncDisposableStack()
  const world = opening.use(await openEnrolledWorld({ broker: false }))
  const ca = opening.use(await openAuthority())
  const identity = (name: string) => holderOf(ca, name)
  const agent = await identity('agent')
  const upstream = await ca.issue('upstream')
  const tls = { cert: await readFile(upstream.cert), key: await readFile(upstream.key) }
  const serve = async (make: (listener: RequestListener) => ReturnType<typeof createServer>): Promise<Server> => {
    const seen: IncomingMessage['headers'][] = []
    const server = make((incoming, outgoing) => {
      seen.push(incoming.headers)
      incoming.resume().once('end', () => answer(incoming, outgoing))
    })
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    opening.defer(() => {
      server.close().closeAllConnections()
    })
    return { port: (server.address() as AddressInfo).port, seen }
  }
  const plain = await serve(listener => createServer(listener))
  const secured = await serve(listener => createTlsServer(tls, listener))
  await configureBroker(world, {
    role: { delivery: 'sealed', destinations: `GET http://127.0.0.1:${plain.port}/apps/**,https://127.0.0.1:${secured.port}` },
  })
  const token = await logIn(world.service, world.attester, { held: agent.held })
  const server = await ca.issue('localhost')
  const inject = [{ header: { name: 'Authorization', value: 'Bearer {token}' } }]
  const http = { kind: 'http', addresses: ['127.0.0.1'], inject }
  const proxy = opening.use(
    await startProxy(world.vault, {
      listen: { cert_file: server.cert, key_file: server.key },
      intercept: true,
      revocations: { poll_ms: 50 },
      services: [
        { ...http, name: 'plain', scheme: 'http', hosts: [`127.0.0.1:${plain.port}`] },
        { ...http, name: 'secured', hosts: [`127.0.0.1:${secured.port}`], ca_file: ca.ca },
      ],
    }),
  )
  const interceptCa = ca.at('intercept.pem')
  const { body } = await world.vault.api('GET', 'assay-proxy-ca/cert/ca')
  await writeFile(interceptCa, body.data.certificate)
  const parts = opening.move()
  return {
    world,
    proxy,
    ca,
    agent,
    plain,
    secured,
    token,
    interceptCa,
    identity,
    sealed: async () => {
      const asked = { role: 'deploy', plugin: 'kubernetes', action: 'deploy', scope: ['apps:read'] }
      const { token: held, data } = await flow.creds(world.service, asked, token)
      return { token: held, data: { ...data } }
    },
    curl: (url, words = [], as = agent) => curl(['--cacert', ca.ca, '--cert', as.cert, '--key', as.key, ...words, url]),
    tunnelled: (sealedToken, caFile) => {
      const by = ['-x', `https://localhost:${proxy.port}`, '--proxy-cacert', ca.ca]
      const as = ['--proxy-cert', agent.cert, '--proxy-key', agent.key]
      return curl(['--cacert', caFile, ...by, ...as, ...bearer(sealedToken), `https://127.0.0.1:${secured.port}/a`])
    },
    base: (port = proxy.port) => `https://localhost:${port}/_/http:127.0.0.1:${plain.port}`,
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
}

async function curl(words: readonly string[]): Promise<string> {
  const { stdout, stderr } = await run('curl', ['-sS', '-w', ' %{http_code}', ...words])
  return `${stdout}${stderr}`
}

async function holderOf(ca: Authority, name: string): Promise<Holder> {
  const { cert, key } = await ca.issue(name)
  const certificate = new X509Certificate(await readFile(cert))
  const { crv, kty, x, y } = createPublicKey(await readFile(cert)).export({ format: 'jwk' })
  const thumbprint = createHash('sha256').update(JSON.stringify({ crv, kty, x, y })).digest('base64url')
  return { cert, key, held: { thumbprint, certificate: certificate.raw } }
}

export const bearer = (sealedToken: string) => ['-H', `Authorization: Bearer ${sealedToken}`]
export const claims = (jwt: string) => JSON.parse(Buffer.from(jwt.split('.')[1] ?? '', 'base64url').toString())
