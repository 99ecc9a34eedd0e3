import { createHash, randomBytes, X509Certificate } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { openVault, parseRule, Secret } from '#engine'
import { openSealer } from '../engine/sealing/seal.ts'
import { openSigner } from '../engine/vault/transit.ts'
import { freePort, start } from '../test/harness/process.ts'
import { type AssayProxy, startProxy } from '../test/harness/proxy.ts'
import { discard, scratch } from '../test/harness/scratch.ts'
import { startVault, type Vault } from '../test/harness/vault.ts'
import { type Authority, openAuthority } from '../test/live/certificates.ts'
import { ownFiles, processes, runNginx } from './nginx.ts'
import { drive, type ManyMeasured, type Target } from './proxy_load.ts'
import { median, type Row, row } from './rows.ts'

const ROUNDS = 5
const SECONDS = 1.5
const sizes = { '1 KB': 1024, '1 MB': 2 ** 20 } as const
type Size = keyof typeof sizes
const SIDES = ['direct', 'nginx', 'bytes', 'least', 'proxy'] as const
type Side = (typeof SIDES)[number]
/** What Node itself takes. */
const FLOORS = ['bytes', 'least'] as const

/** B4: a request through the proxy, against the same through nginx and straight to the server. All speak mutual TLS 1.3 with the client; nginx and the
 *  proxy, with as many processes as there are processors, go on without TLS to the same server, which is an nginx that serves files. Beside them, for what Node
 *  itself takes: one that forwards the bytes of TLS without reading them, and the least proxy that can be made of its HTTP. */
export async function benchProxy(): Promise<readonly Row[]> {
  await using parts = new AsyncDisposableStack()
  const target = await sidesIn(parts)
  // what is compiled while it runs is compiled before it is measured
  for (const side of ['proxy', ...FLOORS] as const) await drive(target(side, '1 KB'), 32, 5)
  const rows: Row[] = []
  for (const size of ['1 KB', '1 MB'] as const)
    for (const connections of [1, 32, 256]) rows.push(...rowsOf(size, connections, await compare(target, size, connections)))
  return rows
}

/** Starts all sides, which end with `parts`. @returns how each is asked for a file */
async function sidesIn(parts: AsyncDisposableStack): Promise<(side: Side, size: Size) => Target> {
  const home = await scratch('assay-bench-')
  parts.defer(() => discard(home))
  const ca = parts.use(await openAuthority())
  const [server, client] = [await ca.issue('localhost'), await ca.issue('client')]
  const ports = {
    plain: await freePort(),
    direct: await freePort(),
    nginx: await freePort(),
    bytes: await freePort(),
    least: await freePort(),
  }
  await files(home)
  await writeFile(join(home, 'nginx.conf'), nginxConfig(home, ports, server, ca.ca))
  parts.use(await runNginx(home, `http://127.0.0.1:${ports.plain}/1024`))
  for (const side of FLOORS) {
    const program = [join(import.meta.dirname, 'least_proxy.ts'), side, String(ports[side]), `http://127.0.0.1:${ports.plain}`]
    const floor = parts.use(await start(process.execPath, [...program, server.cert, server.key, ca.ca]))
    await floor.line(/^serves$/)
  }
  const vault = parts.use(await startVault())
  const proxy = parts.use(await proxyBefore(vault, server, ports.plain))
  const [caPem = '', cert = '', key = ''] = await Promise.all(
    [ca.ca, client.cert, client.key].map(file => readFile(file, 'utf8')),
  )
  const token = await sealed(vault, cert, ports.plain)
  return (side, size) => {
    const path = side === 'proxy' ? `/_/http:127.0.0.1:${ports.plain}/${sizes[size]}` : `/${sizes[size]}`
    const lines = [`GET ${path} HTTP/1.1`, 'Host: localhost', ...(side === 'proxy' ? [`Authorization: Bearer ${token}`] : [])]
    const request = Buffer.from(`${lines.join('\r\n')}\r\n\r\n`)
    const port = side === 'proxy' ? proxy.port : ports[side]
    return { port, ca: caPem, cert, key, request, length: sizes[size] }
  }
}

async function proxyBefore(vault: Vault, server: Files, port: number): Promise<AssayProxy> {
  await vault.api('POST', 'sys/mounts/transit', { type: 'transit' })
  await vault.api('POST', 'sys/mounts/assay', { type: 'kv', options: { version: '2' } })
  return startProxy(vault, {
    listen: { cert_file: server.cert, key_file: server.key },
    workers: availableParallelism(),
    services: [
      {
        kind: 'http',
        name: 'files',
        scheme: 'http',
        hosts: [`127.0.0.1:${port}`],
        addresses: ['127.0.0.1'],
        inject: [{ header: { name: 'Authorization', value: 'Bearer {token}' } }],
      },
    ],
  })
}

type Compared = Readonly<Record<Side, { readonly p50Ms: number; readonly perSecond: number }>>

/** In turn, forwards and backwards: a machine whose speed drifts wrongs none of them. */
async function compare(target: (side: Side, size: Size) => Target, size: Size, connections: number): Promise<Compared> {
  const measured: Record<Side, ManyMeasured[]> = { direct: [], nginx: [], bytes: [], least: [], proxy: [] }
  for (let round = 0; round < ROUNDS; round++) {
    const order = round % 2 === 0 ? SIDES : SIDES.toReversed()
    for (const side of order) measured[side].push(await drive(target(side, size), connections, SECONDS))
  }
  const middle = (side: Side) => ({
    p50Ms: median(measured[side].map(one => one.p50Ms)),
    perSecond: median(measured[side].map(one => one.perSecond)),
  })
  return {
    direct: middle('direct'),
    nginx: middle('nginx'),
    bytes: middle('bytes'),
    least: middle('least'),
    proxy: middle('proxy'),
  }
}

function rowsOf(size: Size, connections: number, compared: Compared): Row[] {
  const { direct, nginx, proxy } = compared
  const what = `${size}, ${connections} connections`
  const theirs = Math.max(0.001, nginx.p50Ms - direct.p50Ms)
  const added = (one: Middle) => ((one.p50Ms - direct.p50Ms) / theirs).toPrecision(2)
  const rows = [
    row({
      id: 'B4',
      what: `${what}: ms added to ${direct.p50Ms.toFixed(3)} at the median, against nginx (${floorsOf(compared, added)})`,
      ours: proxy.p50Ms - direct.p50Ms,
      theirs,
      goal: '<= 3',
    }),
    row({
      id: 'B4',
      what: `${what}, against nginx, per second (${floorsOf(compared, one => share(one, nginx))})`,
      ours: proxy.perSecond,
      theirs: nginx.perSecond,
      goal: '>= 0.4',
    }),
  ]
  return size === '1 MB' ? [...rows, streamed(what, compared)] : rows
}

function streamed(what: string, compared: Compared): Row {
  const { direct, nginx, proxy } = compared
  const floors = floorsOf(compared, one => share(one, direct))
  return row({
    id: 'B4',
    what: `${what}, against direct, per second (nginx: ${share(nginx, direct)}, ${floors})`,
    ours: proxy.perSecond,
    theirs: direct.perSecond,
    goal: '>= 0.8',
  })
}

type Middle = Compared[Side]
const share = (one: Middle, other: Middle) => (one.perSecond / other.perSecond).toFixed(2)
const floorsOf = ({ bytes, least }: Compared, tell: (one: Middle) => string) =>
  `bytes alone: ${tell(bytes)}, the least proxy: ${tell(least)}`

async function files(home: string): Promise<void> {
  await mkdir(join(home, 'www'))
  for (const length of Object.values(sizes))
    await writeFile(join(home, 'www', String(length)), randomBytes(length / 2).toString('hex'))
}

/** A token as the broker seals it, by the keys of this Vault. */
async function sealed(vault: Vault, certificate: string, port: number): Promise<string> {
  const client = openVault({ address: vault.address, deadlineMs: 10_000 })
  const as = new Secret(vault.rootToken)
  const own = {
    read: (path: string) => client.read(path, { as }),
    list: (path: string) => client.list(path, { as }),
    write: (path: string, body: Readonly<Record<string, unknown>>) => client.write(path, body, { as }),
    delete: (path: string) => client.delete(path, { as }),
  }
  const monotonic = () => performance.now()
  const sealer = openSealer({
    vault: own,
    signer: openSigner(own, 'transit', monotonic),
    transit: 'transit',
    mode: 'datakey',
    monotonic,
  })
  const rule = parseRule(`http://127.0.0.1:${port}`)
  if (!rule) throw new Error('no rule')
  const x5tS256 = createHash('sha256').update(new X509Certificate(certificate).raw).digest('base64url')
  const issuedAt = Math.floor(Date.now() / 1000)
  const { token } = await sealer({
    fields: { token: new Secret(randomBytes(30).toString('base64url')) },
    claims: { sub: 'files', aud: 'https://files.example.com' },
    binding: { tenant: 'bench', agent: 'sha256-bench', plugin: 'files', x5tS256, destinations: [rule], epoch: [0, 0] },
    jti: 'bench',
    keyThumbprint: '',
    issuedAt,
    expiresAt: issuedAt + 3600,
  })
  await client.close()
  return token.reveal()
}

type Ports = { readonly plain: number; readonly direct: number; readonly nginx: number }

type Files = Awaited<ReturnType<Authority['issue']>>

function nginxConfig(home: string, ports: Ports, { cert, key }: Files, ca: string): string {
  const tls = `ssl_certificate ${cert}; ssl_certificate_key ${key}; ssl_client_certificate ${ca}; ssl_verify_client on; ssl_protocols TLSv1.3;`
  return `
    ${processes(home, 4096)}
    http {
      ${ownFiles(home)}
      keepalive_requests 100000000;
      default_type application/octet-stream;
      upstream files { server 127.0.0.1:${ports.plain}; keepalive 256; }
      server { listen 127.0.0.1:${ports.plain}; root ${home}/www; }
      server { listen 127.0.0.1:${ports.direct} ssl; ${tls} root ${home}/www; }
      server {
        listen 127.0.0.1:${ports.nginx} ssl; ${tls}
        location / {
          proxy_pass http://files;
          proxy_http_version 1.1;
          proxy_set_header Connection "";
          proxy_set_header Authorization "Bearer in-place-of-the-real-one";
        }
      }
    }
  `
}
