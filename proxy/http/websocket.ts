import { type Duplex, Transform } from 'node:stream'
import type { Dispatcher } from 'undici'
import { AddressRefused } from '../egress/dial.ts'
import { linger } from '../leave.ts'
import type { RefusalCode } from '../refusals.ts'
import { filterHead, rawHeaders } from './answers.ts'
import type { ExchangePorts, UnderWay } from './exchange.ts'
import type { Swap } from './gate.ts'
import { replyRefusedRaw } from './replies.ts'
import type { Scrubber } from './scrub.ts'

/** Opens a WebSocket at the upstream server and passes frames both ways. Extensions are not offered: compressed frames could not be looked through. */
export function openWebSocket(ports: ExchangePorts, swap: Swap, socket: Duplex, rest: Buffer, txn: string): void {
  const { head, service, known, outgoing } = swap
  const { scheme, host, port, path } = head.destination
  const fail = (code: RefusalCode, detail: string) => {
    ports.failed(code, detail)
    replyRefusedRaw(socket, code, txn)
  }
  // it may have left while it was let through: nobody tells again
  if (socket.destroyed) return
  let done = false
  let abort: (() => void) | undefined
  const since = performance.now()
  const late = setTimeout(() => {
    done = true
    fail('UPSTREAM_SLOW', 'no connection became free in time')
  }, service.upstreams.placeWithinMs)
  socket.once('close', () => {
    clearTimeout(late)
    if (done) return
    done = true
    abort?.()
  })
  const handler: Dispatcher.DispatchHandler = {
    onRequestStart: controller => {
      clearTimeout(late)
      abort = () => controller.abort(new Error('it was given up'))
      if (done) abort()
    },
    onRequestUpgrade: (controller, status, _, upstream) => {
      done = true
      ports.answered(service.name, status, performance.now() - since)
      const scrubber = known.scrubber(service.injections)
      const filter = { destination: head.destination, prefix: head.prefix, services: ports.services(), scrubber }
      const { headers } = filterHead(rawHeaders(controller), filter)
      if (status !== 101 || offersExtensions(headers)) {
        upstream.destroy()
        fail('UPSTREAM', 'the upgrade was not taken as it was asked for')
        return
      }
      socket.write(switching(headers))
      if (rest.length > 0) upstream.write(rest)
      join(socket, upstream, scrubbing(scrubber))
      watch(ports, swap, socket)
    },
    onResponseStart: (controller, status) => {
      if (status < 200) return
      done = true
      ports.answered(service.name, status, performance.now() - since)
      fail('UPSTREAM', `answered an upgrade with ${status}`)
      controller.abort(new Error('an answer that nobody reads'))
    },
    onResponseError: (_, error) => {
      clearTimeout(late)
      if (!done) fail(error instanceof AddressRefused ? 'ADDRESS' : 'UPSTREAM', error.name)
      done = true
    },
  }
  const headers = withoutExtensions(outgoing.headers)
  service.upstreams
    .of(known.binding.tenant, `${scheme}://${host}:${port}`, 'upgrade')
    .dispatch({ path: `${path}${outgoing.query}`, method: 'GET', headers, upgrade: 'websocket' }, handler)
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
