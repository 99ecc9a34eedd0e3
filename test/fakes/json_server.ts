import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { text } from 'node:stream/consumers'
import { listening } from '../harness/listening.ts'

/** What arrived at a server of somebody else. */
export type Arrived = {
  readonly method: string
  readonly path: string
  readonly query: URLSearchParams
  readonly headers: IncomingMessage['headers']
  readonly body: string
}
export type Said = {
  readonly status: number
  readonly body?: unknown
  /** in place of `body`, as it is */
  readonly text?: string
  readonly headers?: Readonly<Record<string, string>>
}
/** Ways of a server to answer nothing of use. */
export type Trouble = 'hang' | 'reset' | 'endless' | Said

/** A server of somebody else, on loopback. `trouble` is asked before each answer. */
export type JsonServer = AsyncDisposable & {
  readonly url: string
  readonly arrived: readonly Arrived[]
  trouble: (arrived: Arrived) => Trouble | undefined
}

export async function startJsonServer(
  answer: (arrived: Arrived) => Said | Promise<Said>,
  host = '127.0.0.1',
): Promise<JsonServer> {
  const arrived: Arrived[] = []
  const server = createServer((incoming, outgoing) => void serve(incoming, outgoing))
  const { port, ...ends } = await listening(server, 0, host)
  const one: JsonServer = {
    url: `http://${host}:${port}`,
    arrived,
    trouble: () => undefined,
    ...ends,
  }
  return one

  async function serve(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const asked = await read(incoming)
    arrived.push(asked)
    const trouble = one.trouble(asked)
    if (trouble === 'hang') return
    if (trouble === 'reset') outgoing.destroy()
    else if (trouble === 'endless') drip(outgoing)
    else say(outgoing, trouble ?? (await answer(asked)))
  }
}

async function read(incoming: IncomingMessage): Promise<Arrived> {
  const { pathname, searchParams } = new URL(incoming.url ?? '', 'http://server')
  const { method = '', headers } = incoming
  return { method, path: pathname, query: searchParams, headers, body: await text(incoming) }
}

function say(outgoing: ServerResponse, { status, body, text: bare, headers = {} }: Said): void {
  outgoing.writeHead(status, { 'Content-Type': 'application/json', ...headers })
  outgoing.end(bare ?? (body === undefined ? undefined : JSON.stringify(body)))
}

function drip(outgoing: ServerResponse): void {
  outgoing.writeHead(200, { 'Content-Type': 'application/json' })
  const timer = setInterval(() => outgoing.write(Buffer.alloc(2 ** 18, ' ')), 1)
  outgoing.on('close', () => clearInterval(timer))
}
