import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type RequestListener,
  type ServerResponse,
} from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { text } from 'node:stream/consumers'
import { listening } from '../harness/listening.ts'

/** What a provider answers: `hang` takes the request and says nothing, `reset` closes the connection, `drip` says a little again and again. */
export type Answer =
  | 'hang'
  | 'reset'
  | 'drip'
  | {
      readonly status: number
      readonly headers?: Readonly<Record<string, string>>
      readonly body?: unknown
      readonly text?: string | Uint8Array
    }
export type ProviderAsked = {
  readonly method: string
  readonly url: string
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

/** A provider that answers what a test says. Disposing of it ends it. */
export type Provider = AsyncDisposable & {
  readonly url: string
  readonly asked: readonly ProviderAsked[]
  answer: (asked: ProviderAsked) => Answer | Promise<Answer>
}

export type Tls = { readonly cert: string; readonly key: string }

export async function startProvider(tls?: Tls): Promise<Provider> {
  const asked: ProviderAsked[] = []
  const serve = async (incoming: IncomingMessage, outgoing: ServerResponse) => {
    const { method = '', url = '', headers } = incoming
    const one = { method, url, headers, body: await text(incoming) }
    asked.push(one)
    const said = await provider.answer(one)
    if (said === 'hang') return
    if (said === 'reset') return void incoming.socket.destroy()
    if (said === 'drip') {
      outgoing.writeHead(200, { 'content-type': 'application/json' })
      const timer = setInterval(() => outgoing.write(' '), 20)
      return void outgoing.on('close', () => clearInterval(timer))
    }
    const words = said.text ?? (said.body === undefined ? '' : JSON.stringify(said.body))
    outgoing.writeHead(said.status, { 'content-type': 'application/json', ...said.headers }).end(words)
  }
  const listener: RequestListener = (incoming, outgoing) => void serve(incoming, outgoing)
  const server = tls ? createTlsServer(tls, listener) : createServer(listener)
  const { port, ...ends } = await listening(server)
  const provider: Provider = {
    url: `${tls ? 'https' : 'http'}://127.0.0.1:${port}`,
    asked,
    answer: () => ({ status: 404 }),
    ...ends,
  }
  return provider
}
