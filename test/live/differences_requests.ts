import { finished } from 'node:stream/promises'
import type { TLSSocket } from 'node:tls'
import { pause } from '../harness/process.ts'
import { dial } from '../mounts/hosts/wire.ts'
import { answer, type Row } from './differences.ts'
import type { TlsSides } from './sides_tls.ts'

/** What is taken for a request, and what is answered to it whatever it asks. */
export const requests: readonly Row[] = [
  {
    what: 'an empty segment beside an encoded slash, `/v1/kv/a%2F%2Fb`, `/v1/kv/%2F`',
    vault: 'is a path of its own',
    here: '400',
    why: 'a path that can be read in two ways has no reading: what is authorised is what is served',
    ask: async side => [await answer('GET /v1/kv/a%2F%2Fb')(side), await answer('GET /v1/kv/%2F')(side)],
    seen: { straight: ['404', '404'], through: ['400', '400'] },
  },
  {
    what: 'a backslash or a segment `.` in a path, `/v1/kv/a%5Cb`, `/v1/kv/%2e`',
    vault: 'is a name like others in some engines',
    here: '400',
    why: 'as above',
    ask: async side => [await answer('GET /v1/kv/a%5Cb')(side), await answer('GET /v1/kv/%2e')(side)],
    seen: { straight: ['404', '404'], through: ['400', '400'] },
  },
  {
    what: 'a `#` or a byte beyond printable ASCII in a target, not encoded',
    vault: 'is itself',
    here: '400',
    why: 'as above; clients encode them',
    ask: async side => [await answer('GET /v1/kv/a?#b')(side), await answer('GET /v1/kv/a?\u00e9')(side)],
    seen: { straight: ['200', '200'], through: ['400', '400'] },
  },
  {
    what: 'an encoded slash in what is not the name of anything, `/v1/sys%2Fhealth`',
    vault: 'is none in some paths of `sys`',
    here: 'is a slash everywhere below `/v1/`',
    why: 'as above; clients encode the slashes of names alone',
    ask: answer('GET /v1/sys%2Fhealth'),
    seen: { straight: '405', through: '200' },
  },
  {
    what: 'more than 10,000 parameters in a query',
    vault: 'as if there were none',
    here: '400',
    why: 'as above: how many are read depends on the Go that Vault was built with',
    ask: answer(`GET /v1/kv/a?help=1${'&'.repeat(10_000)}`),
    seen: { straight: '200', through: '400' },
  },
  {
    what: 'a target with a scheme and a host, `GET http://vault/v1/kv/a`',
    vault: 'is taken for its path',
    here: '400',
    why: 'two hosts in one request; only forward proxies are asked so',
    ask: answer('GET http://127.0.0.1/v1/kv/a'),
    seen: { straight: '200', through: '400' },
  },
  {
    what: '`X-Vault-Token`, `Authorization`, `X-Vault-Namespace` or `X-Vault-Wrap-TTL` twice',
    vault: 'takes the first',
    here: '400',
    why: 'two readers could take two',
    ask: async side => [
      await answer('GET /v1/kv/a', token => [token, 'X-Vault-Token: hvs.none'])(side),
      ...(await Promise.all(
        ['Authorization: a', 'X-Vault-Namespace: ', 'X-Vault-Wrap-TTL: 0'].map(one => answer('GET /v1/kv/a', [one, one])(side)),
      )),
    ],
    seen: { straight: ['200', '200', '200', '200'], through: ['400', '400', '400', '400'] },
  },
  {
    what: 'the same `Content-Length` twice, or one beside `Transfer-Encoding: chunked`',
    vault: 'counts once, or not',
    here: '400',
    why: 'as above: of where a request ends',
    ask: async side => [
      await answer('GET /v1/kv/a', ['Content-Length: 0', 'Content-Length: 0'])(side),
      // behind the head, the chunks
      await answer('GET /v1/kv/a', ['Content-Length: 0', 'Transfer-Encoding: chunked', '\r\n0\r\n'])(side),
    ],
    seen: { straight: ['200', '200'], through: ['400', '400'] },
  },
  {
    what: 'a head of more than 32 KiB',
    vault: 'up to 1 MiB',
    here: '431',
    why: 'memory for who has shown no token yet',
    ask: answer('GET /v1/kv/a', [`X-Padding: ${'x'.repeat(40_000)}`]),
    seen: { straight: '200', through: '431' },
  },
  {
    what: 'more than 128 headers',
    vault: 'any number',
    here: '431',
    why: 'as above',
    ask: answer(
      'GET /v1/kv/a',
      Array.from({ length: 140 }, (_, at) => `X-${at}: 1`),
    ),
    seen: { straight: '200', through: '431' },
  },
  {
    what: 'what is neither API nor UI, `/nothing`',
    vault: 'leads to `/ui/`',
    here: '404',
    why: 'only what is known goes on',
    ask: answer('GET /nothing', [], 'location'),
    seen: { straight: '307 /ui/', through: '404' },
  },
  {
    what: '`/healthz`, `/readyz`, `/metrics`',
    vault: 'lead to `/ui/`',
    here: 'are the front door’s own',
    why: 'who operates it has to see it; Vault’s are at `sys/health` and `sys/metrics`, here too',
    ask: answer('GET /healthz', []),
    seen: { straight: '307', through: '200' },
  },
  {
    what: '`Upgrade: websocket` (`sys/events/subscribe`)',
    vault: 'answers',
    here: '400',
    why: 'connections are not handed over; events are of Enterprise',
    ask: async side => (await answer('GET /v1/kv/a', ['Upgrade: websocket', 'Connection: Upgrade'])(side)) === '400',
    seen: { straight: false, through: true },
  },
  {
    what: 'a verb that is none of HTTP’s and none of Vault’s (`FOO`)',
    vault: '405',
    here: '400',
    why: 'the parser of requests knows a list of verbs, and takes nothing else',
    ask: answer('FOO /v1/kv/a'),
    seen: { straight: '405', through: '400' },
  },
  {
    what: 'LIST, SCAN or HELP that is sent before the request ahead of it is answered',
    vault: 'is answered',
    here: 'ends the connection, after the answer to the one ahead',
    why: 'the parser of requests does not know these verbs; they are put in where it is certain that a request begins. `?list=true` is answered; no client sends ahead',
    ask: async side => {
      const connection = await dial(side.address)
      const lines = ['Host: a', `X-Vault-Token: ${side.vault.rootToken}`]
      const sent = [['GET /v1/kv/a HTTP/1.1'], ['LIST /v1/kv HTTP/1.1', 'Connection: close']]
      connection.write(sent.map(line => [...line, ...lines, '', ''].join('\r\n')).join(''))
      return [...(await connection.closed).matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status)
    },
    seen: { straight: ['200', '200'], through: ['200'] },
  },
  {
    what: 'a client that closes its side of the connection before the reply',
    vault: 'is answered, though what it asked for may be given up',
    here: 'is not answered',
    why: 'it cannot be told from one that has left, and for that one nothing is kept open',
    ask: async side => {
      const connection = await dial(side.address)
      // who is asked has heard of both, the request and its end, before there is an answer
      await pause(side.vault.pid)
      connection.socket.end(`GET /v1/kv/a HTTP/1.1\r\nHost: a\r\nX-Vault-Token: ${side.vault.rootToken}\r\n\r\n`)
      await finished(connection.socket, { readable: false })
      process.kill(side.vault.pid, 'SIGCONT')
      return (await connection.closed).startsWith('HTTP/1.1 ')
    },
    seen: { straight: true, through: false },
  },
]

/** The last one: Vault does not come back. */
export const vaultIsAway: Row = {
  what: 'Vault is away',
  vault: 'the connection is refused',
  here: '503, `Retry-After: 1` and a sentence',
  why: 'clients repeat what says so; nothing was sent twice by us',
  ask: async side => {
    if (side.name === 'straight') return 'refused'
    await side.vault.stop()
    return answer('GET /v1/kv/a', [], 'retry-after')(side)
  },
  seen: { straight: 'refused', through: '503 1' },
}

export const overTls: readonly Row<TlsSides>[] = [
  {
    what: 'HTTP/2 over TLS',
    vault: 'is offered',
    here: 'HTTP/1.1 only',
    why: 'verbs such as LIST are read off HTTP/1.1; clients fall back by themselves',
    ask: async ({ address }) => ((await dial(address, { ALPNProtocols: ['h2', 'http/1.1'] })).socket as TLSSocket).alpnProtocol,
    seen: { straight: 'h2', through: 'http/1.1' },
  },
  {
    what: 'TLS 1.2',
    vault: 'is taken (`tls_min_version`)',
    here: 'is refused, unless `min_version: TLSv1.2` says otherwise',
    why: 'clients of today have 1.3',
    ask: ({ address }) =>
      dial(address, { maxVersion: 'TLSv1.2' }).then(
        () => true,
        () => false,
      ),
    seen: { straight: true, through: false },
  },
  {
    what: 'a client’s certificate (`cert` auth method of Vault)',
    vault: 'is seen by Vault',
    here: 'ends at the front door',
    why: 'TLS ends there; nothing that a client says of a certificate in a header goes on',
    ask: async ({ address, vault }, { ca, cert, key }) => {
      await vault.api('POST', 'sys/auth/cert', { type: 'cert' })
      await vault.api('POST', 'auth/cert/certs/web', { certificate: ca, token_policies: 'default' })
      const connection = await dial(address, { cert, key })
      connection.write('POST /v1/auth/cert/login HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n')
      return /^HTTP\/1\.1 (\d+)/.exec(await connection.closed)?.[1]
    },
    seen: { straight: '200', through: '400' },
  },
]
