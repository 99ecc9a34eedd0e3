import { type Duplex, Transform } from 'node:stream'
import type { Dispatcher } from 'undici'
import { unreached } from '../egress/dial.ts'
import { linger } from '../leave.ts'
import type { RefusalCode } from '../refusals.ts'
import { filterHead, rawHeaders } from './answers.ts'
import type { ExchangePorts, UnderWay } from './exchange.ts'
import type { Swap } from './gate.ts'
import { replyRefusedRaw } from './replies.ts'
import type { Scrubber } from './scrub.ts'

/** Opens a WebSocket at the upstream server and passes frames both ways. Extensions are not offered: compressed frames could not be looked through. */
export function openWebSocket(ports: ExchangePorts, swap: Swap, socket: Duplex, rest: Buffer, txn: string): void {
  // it may have left while it was let through: nobody tells again
  if (socket.destroyed) return
  const { service, known, head, outgoing } = swap
  const { scheme, host, port, path } = head.destination
  const headers = withoutExtensions(outgoing.headers)
  service.upstreams
    .of(known.binding.tenant, `${scheme}://${host}:${port}`, 'upgrade')
    .dispatch(
      { path: `${path}${outgoing.query}`, method: 'GET', headers, upgrade: 'websocket' },
      new Opening(ports, swap, socket, rest, txn),
    )
}

/** The callbacks of undici's dispatch, until the upgrade is taken, or is not. */
class Opening implements Dispatcher.DispatchHandler {
  readonly #ports: ExchangePorts
  readonly #swap: Swap
  readonly #socket: Duplex
  readonly #rest: Buffer
  readonly #txn: string
  readonly #since = performance.now()
  readonly #late: NodeJS.Timeout
  #controller: Dispatcher.DispatchController | undefined
  #done = false

  constructor(ports: ExchangePorts, swap: Swap, socket: Duplex, rest: Buffer, txn: string) {
    this.#ports = ports
    this.#swap = swap
    this.#socket = socket
    this.#rest = rest
    this.#txn = txn
    const { placeWithinMs } = swap.service.upstreams
    this.#late = setTimeout(() => this.#fail('UPSTREAM_SLOW', 'no connection became free in time'), placeWithinMs)
    socket.once('close', () => {
      clearTimeout(this.#late)
      if (this.#done) return
      this.#done = true
      this.#giveUp()
    })
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    clearTimeout(this.#late)
    this.#controller = controller
    if (this.#done) this.#giveUp()
  }

  onRequestUpgrade(controller: Dispatcher.DispatchController, status: number, _: unknown, upstream: Duplex): void {
    this.#done = true
    this.#answered(status)
    const { head, service, known } = this.#swap
    const scrubber = known.scrubber(service.injections)
    const filter = { destination: head.destination, prefix: head.prefix, services: this.#ports.services(), scrubber }
    const { headers } = filterHead(rawHeaders(controller), filter)
    if (status !== 101 || offersExtensions(headers)) {
      upstream.destroy()
      this.#fail('UPSTREAM', 'the upgrade was not taken as it was asked for')
      return
    }
    this.#socket.write(switching(headers))
    if (this.#rest.length > 0) upstream.write(this.#rest)
    join(this.#socket, upstream, scrubbing(scrubber))
    watch(this.#ports, this.#swap, this.#socket)
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number): void {
    if (status < 200) return
    this.#answered(status)
    this.#fail('UPSTREAM', `answered an upgrade with ${status}`)
    controller.abort(new Error('an answer that nobody reads'))
  }

  onResponseError(_: Dispatcher.DispatchController, error: Error): void {
    clearTimeout(this.#late)
    if (!this.#done) this.#fail(unreached(error), error.name)
  }

  #answered(status: number): void {
    this.#ports.answered(this.#swap.service.name, status, performance.now() - this.#since)
  }

  #fail(code: RefusalCode, detail: string): void {
    this.#done = true
    this.#ports.failed(code, detail)
    replyRefusedRaw(this.#socket, code, this.#txn)
  }

  #giveUp(): void {
    this.#controller?.abort(new Error('it was given up'))
  }
}

/** It ends with its token, or with its certificate. */
function watch({ underWay, held, failed }: ExchangePorts, swap: Swap, socket: Duplex): void {
  const one: UnderWay = {
    swap,
    held,
    end: code => {
      failed(code, 'the connection ends with what let it through')
      socket.destroy()
    },
  }
  socket.once('close', underWay.enter(one))
}

/** Both ways, until one side ends; what breaks on one side breaks the other. */
function join(agent: Duplex, upstream: Duplex, back: Transform): void {
  agent.pipe(upstream)
  upstream.pipe(back).pipe(agent)
  agent.once('close', () => upstream.destroy())
  upstream.once('error', () => agent.destroy())
  upstream.once('close', () => {
    agent.unpipe(upstream)
    if (upstream.readableEnded) linger(agent)
    else agent.destroy()
  })
}

function withoutExtensions(headers: readonly string[]): string[] {
  return headers.filter((_, at) => !isExtensions(headers[at - (at % 2)]))
}

function offersExtensions(headers: readonly string[]): boolean {
  return headers.some((name, at) => at % 2 === 0 && isExtensions(name))
}

const isExtensions = (name: string | undefined) => name?.toLowerCase() === 'sec-websocket-extensions'

function switching(headers: readonly string[]): string {
  const lines = ['HTTP/1.1 101 Switching Protocols', 'Connection: Upgrade', 'Upgrade: websocket']
  for (let at = 0; at < headers.length; at += 2) lines.push(`${headers[at]}: ${headers[at + 1]}`)
  return `${lines.join('\r\n')}\r\n\r\n`
}

/** Frames keep their lengths, as every mask is as long as what it covers. */
function scrubbing(scrubber: Scrubber | undefined): Transform {
  const stream = scrubber?.stream()
  return new Transform({
    transform: (chunk: Buffer, _, done) => done(null, stream ? stream.push(chunk) : chunk),
    flush: done => done(null, stream?.end()),
  })
}
