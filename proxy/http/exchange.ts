import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Dispatcher } from 'undici'
import { AddressRefused } from '../egress/dial.ts'
import type { RefusalCode } from '../refusals.ts'
import type { Held } from '../tls/holder.ts'
import { filterHead, rawHeaders } from './answers.ts'
import type { Swap } from './gate.ts'
import { drained, hasBody, isOwed, replyRefused } from './replies.ts'
import type { Roster } from './roster.ts'
import type { ScrubStream } from './scrub.ts'
import type { Services } from './service.ts'
import { uploadOf } from './upload.ts'

export type ExchangePorts = {
  readonly services: () => Services
  /** Called when the exchange fails on its way; the agent hears the code. */
  readonly failed: (code: RefusalCode, detail: string) => void
  /** What lasts, as long as it does: it ends with its token, or with the certificate of who holds the connection. */
  readonly underWay: Roster<UnderWay>
  readonly held: Held
  /** Called when the head of an answer came: of which service, with which status, after how many milliseconds. */
  readonly answered: (service: string, status: number, tookMs: number) => void
  readonly limits: {
    /** whose body nobody wants any more may go on to send it for so long */
    readonly stallMs: number
  }
}

/** A swap that lasts, and what ends it before it ends by itself. */
export type UnderWay = { readonly swap: Swap; readonly held: Held; readonly end: (code: RefusalCode) => void }

/** Sends a request that was let through, and streams the answer back as fast as its reader takes it. Redirects are handed on, never followed. */
export function exchange(
  ports: ExchangePorts,
  swap: Swap,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  txn: string,
): void {
  const { destination } = swap.head
  const origin = `${destination.scheme}://${destination.host}:${destination.port}`
  const held = swap.outgoing.body
  if (incoming.headers.expect !== undefined && held === undefined) outgoing.writeContinue()
  const upload = held === undefined && hasBody(incoming) ? uploadOf(incoming) : undefined
  const handler = new Answer(ports, swap, incoming, outgoing, txn)
  swap.service.upstreams.of(swap.known.binding.tenant, origin).dispatch(
    {
      path: `${destination.path}${swap.outgoing.query}`,
      method: destination.method as Dispatcher.HttpMethod,
      headers: swap.outgoing.headers,
      body: held ?? upload ?? null,
    },
    handler,
  )
}

/** The callbacks of undici's dispatch: the answer goes from socket to socket without a stream in between. */
class Answer implements Dispatcher.DispatchHandler, UnderWay {
  readonly #ports: ExchangePorts
  readonly swap: Swap
  readonly held: Held
  readonly #incoming: IncomingMessage
  readonly #outgoing: ServerResponse
  readonly #txn: string
  #scrub: ScrubStream | undefined
  #controller: Dispatcher.DispatchController | undefined
  #ended = false
  /** bytes that are still to come, where the answer says how many */
  #left = Number.NaN
  readonly #since = performance.now()
  readonly #late: NodeJS.Timeout

  constructor(ports: ExchangePorts, swap: Swap, incoming: IncomingMessage, outgoing: ServerResponse, txn: string) {
    this.#ports = ports
    this.swap = swap
    this.held = ports.held
    this.#incoming = incoming
    this.#outgoing = outgoing
    this.#txn = txn
    const { placeWithinMs } = swap.service.upstreams
    this.#late = setTimeout(() => this.#fail('UPSTREAM_SLOW', 'no connection became free in time'), placeWithinMs)
    const leave = ports.underWay.enter(this)
    outgoing.once('close', () => {
      leave()
      clearTimeout(this.#late)
      if (this.#ended) return
      // that is no failure of anybody's
      this.#ended = true
      this.#giveUp('the agent has left')
    })
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    clearTimeout(this.#late)
    if (this.#ended) controller.abort(new Error('it was given up before it began'))
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number): void {
    if (status < 200) return
    const { head, service, known } = this.swap
    this.#ports.answered(service.name, status, performance.now() - this.#since)
    const scrubber = known.scrubber(service.injections)
    const { headers, encoding, length } = filterHead(rawHeaders(controller), {
      destination: head.destination,
      prefix: head.prefix,
      services: this.#ports.services(),
      scrubber,
    })
    if (encoding !== undefined && service.encodedAnswers === 'refuse') {
      this.#fail('UPSTREAM_ENCODED', 'content or transfer encoding')
      return
    }
    this.#scrub = scrubber?.stream()
    this.#left = length
    this.#outgoing.writeHead(status, headers)
    this.#outgoing.on('drain', () => controller.resume())
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#ended) return
    const clean = this.#scrub ? this.#scrub.push(chunk) : chunk
    this.#left -= chunk.length
    // the last of it goes out together with the end
    if (this.#left === 0) this.#end(clean)
    else if (clean.length > 0 && !this.#outgoing.write(clean)) controller.pause()
  }

  onResponseEnd(): void {
    if (!this.#ended) this.#end(EMPTY)
  }

  #end(clean: Buffer): void {
    this.#ended = true
    const rest = this.#scrub?.end() ?? EMPTY
    const last = rest.length > 0 ? Buffer.concat([clean, rest]) : clean
    this.#leaveUnread()
    if (last.length > 0) this.#outgoing.end(last)
    else this.#outgoing.end()
  }

  /** Many read an answer once their body is out. What the server did not wait for goes nowhere any more. */
  #leaveUnread(): void {
    const [incoming, { socket }, { stallMs }] = [this.#incoming, this.#outgoing, this.#ports.limits]
    if (!isOwed(incoming)) return
    this.#giveUp('the server did not wait for the rest')
    drained(incoming, stallMs, () => incoming.complete || socket?.destroySoon())
  }

  onResponseError(_: Dispatcher.DispatchController, error: Error & { code?: string }): void {
    if (!this.#ended) this.#fail(codeOf(error), error.code ?? error.name)
  }

  end(code: RefusalCode): void {
    const detail = 'what is under way ends with what let it through'
    if (this.#ended) {
      // all of it came, and the agent has not taken it yet
      this.#ports.failed(code, detail)
      this.#outgoing.destroy()
    } else this.#fail(code, detail)
  }

  #fail(code: RefusalCode, detail: string): void {
    this.#ended = true
    this.#ports.failed(code, detail)
    this.#giveUp(detail)
    // an answer that has begun can only be broken off, so that it is not taken for a whole one
    replyRefused(this.#incoming, this.#outgoing, code, this.#txn)
  }

  #giveUp(why: string): void {
    this.#controller?.abort(new Error(why))
  }
}

const EMPTY = Buffer.alloc(0)

function codeOf(error: Error & { code?: string }): RefusalCode {
  if (error instanceof AddressRefused) return 'ADDRESS'
  return error.code === 'UND_ERR_HEADERS_TIMEOUT' || error.code === 'UND_ERR_BODY_TIMEOUT' ? 'UPSTREAM_SLOW' : 'UPSTREAM'
}
