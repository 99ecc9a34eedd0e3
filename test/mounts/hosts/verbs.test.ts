import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { describe, expect, onTestFinished, test } from 'vitest'
import { acceptVaultVerbs } from '../../../mounts/hosts/verbs.ts'
import { newAuthority } from './certificates.ts'
import { dial, requestText } from './wire.ts'

const authority = await newAuthority('verbs')
const pair = await authority.issue('localhost')

/** Answers each request with its verb and body, in one line that ends with a semicolon. */
async function listen(server: Server, protocol: string): Promise<string> {
  acceptVaultVerbs(server)
  server.on('request', (incoming: IncomingMessage, outgoing: ServerResponse) => {
    let body = ''
    incoming.on('data', chunk => {
      body += chunk
    })
    incoming.on('end', () =>
      outgoing.end(`${incoming.method} ${incoming.url} [${body}]${String(incoming.headers['x-note'] ?? '')};`),
    )
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.close()
    server.closeAllConnections()
  })
  return `${protocol}://127.0.0.1:${(server.address() as { port: number }).port}`
}

const servers = {
  http: () => listen(createServer(), 'http'),
  https: () => listen(createTlsServer(pair) as unknown as Server, 'https'),
} as const

describe.each(Object.entries(servers))('over %s', (_, start) => {
  const open = async () => dial(await start(), { ca: authority.ca })

  test('LIST, SCAN and HELP arrive as what they are, between other verbs, on one connection', async () => {
    const line = await open()
    const verbs = ['LIST', 'GET', 'LIST', 'SCAN', 'POST', 'HELP', 'LINK', 'LOCK', 'BIND', 'LIST', 'DELETE', 'LIST']
    for (const [at, verb] of verbs.entries()) {
      line.write(requestText(`${verb} /v1/${at}`))
      await line.until(`${verb} /v1/${at} [];`)
    }
  })

  test('with every byte in a packet of its own', async () => {
    const line = await open()
    line.socket.setNoDelay(true)
    for (const [at, verb] of ['LIST', 'GET', 'HELP'].entries()) {
      for (const byte of requestText(`${verb} /v1/${at}`, ['Content-Length: 5'], 'LIST ')) {
        line.write(byte)
        await new Promise(setImmediate)
      }
      await line.until(`${verb} /v1/${at} [LIST ];`)
    }
  })

  test('what only begins like a verb of Vault’s goes to the parser as it is', async () => {
    for (const start of ['LISP /v1/a', 'LISTS /v1/a', 'list /v1/a', 'LIST\t/v1/a', 'HELPGET /v1/a', 'FOO /v1/a'])
      expect(await refusal(start)).toMatch(/^HTTP\/1\.1 400 /)

    async function refusal(start: string): Promise<string> {
      const line = await open()
      line.write(requestText(start))
      return line.closed
    }
  })

  test('a connection that ends inside a verb ends', async () => {
    const line = await open()
    line.socket.end('LIS')
    expect(await line.closed).toMatch(/^HTTP\/1\.1 400 /) // the parser has seen what was held back
  })

  test.each(['Content-Length: 15', 'Transfer-Encoding: chunked'])(
    'a body whose packets begin with a verb is a body (%s)',
    async framing => {
      const line = await open()
      line.socket.setNoDelay(true)
      const chunked = framing.startsWith('Transfer')
      line.write(requestText('POST /v1/body', [framing]))
      for (let at = 0; at < 3; at += 1) {
        if (chunked) line.write('5\r\n')
        await new Promise(setImmediate)
        line.write('LIST ')
        await new Promise(setImmediate)
        if (chunked) line.write('\r\n')
      }
      if (chunked) line.write('0\r\n\r\n')
      await line.until('POST /v1/body [LIST LIST LIST ];')
      line.write(requestText('LIST /v1/after'))
      await line.until('LIST /v1/after [];')
    },
  )

  test('a body with an empty line in it ends where its length says', async () => {
    const line = await open()
    line.socket.setNoDelay(true)
    line.write(requestText('POST /v1/body', ['Content-Length: 6']))
    for (const part of ['a\r\n\r\n', 'b']) {
      await new Promise(setImmediate)
      line.write(part)
    }
    await line.until('POST /v1/body [a\r\n\r\nb];')
    line.write(requestText('LIST /v1/after'))
    await line.until('LIST /v1/after [];')
  })

  test('a header whose value starts a packet with a verb is a header', async () => {
    const line = await open()
    for (const at of [1, 2]) {
      line.write(requestText(`GET /v1/${at}`, ['X-Note: ']).slice(0, -4))
      await new Promise(setImmediate)
      line.write('LIST of things\r\n\r\n')
      await line.until(`GET /v1/${at} []LIST of things;`)
    }
  })

  test('a header of a request sent ahead is not touched either', async () => {
    const line = await open()
    line.write(requestText('GET /v1/first') + requestText('GET /v1/second', ['X-Note: ']).slice(0, -4))
    await line.until('GET /v1/first [];')
    line.write('LIST of things\r\n\r\n')
    await line.until('GET /v1/second []LIST of things;')
    line.write(requestText('POST /v1/a', ['Content-Length: 1'], 'x') + requestText('GET /v1/b', ['X-Note: ']).slice(0, -4))
    await line.until('POST /v1/a [x];')
    line.write('LIST of things\r\n\r\n')
    await line.until('GET /v1/b []LIST of things;')
  })

  test('LIST sent ahead of a reply is refused, and what came before it is answered', async () => {
    const line = await open()
    line.write(requestText('GET /v1/first') + requestText('LIST /v1/second'))
    const text = await line.closed
    expect(text).not.toContain('LIST /v1/second')
    expect(text).toContain('400')
  })

  test('many connections at once, each with a mix of its own', async () => {
    const url = await start()
    const verbs = ['LIST', 'GET', 'LINK', 'SCAN', 'POST', 'LOCK', 'HELP', 'PUT']
    const runs = Array.from({ length: 40 }, async (__, run) => {
      const line = await dial(url, { ca: authority.ca })
      for (let at = 0; at < 50; at += 1) {
        const verb = verbs[(run * 7 + at * 3) % verbs.length] ?? ''
        const body = at % 3 === 0 ? 'LIST /x HTTP/1.1' : ''
        line.write(requestText(`${verb} /v1/${run}/${at}`, body ? [`Content-Length: ${body.length}`] : [], body))
        await line.until(`${verb} /v1/${run}/${at} [${body}];`)
      }
    })
    await Promise.all(runs)
  })
})
