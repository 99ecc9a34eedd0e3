import type { IncomingMessage } from 'node:http'
import type { CanonicalPath } from '../path.ts'

const paths = new WeakMap<IncomingMessage, CanonicalPath>()
const bodies = new WeakMap<IncomingMessage, Buffer>()
const addresses = new WeakMap<IncomingMessage, string>()

/** Makes what the front door has read the only thing that is there to be read: the URL canonical, the body whole. */
export function remember(incoming: IncomingMessage, path: CanonicalPath, from: string, body: Buffer): void {
  paths.set(incoming, path)
  addresses.set(incoming, from)
  bodies.set(incoming, body)
  // @hono/node-server takes the body from here
  Object.assign(incoming, { url: path.target, rawBody: body })
}

/** The path by which the request was found to be ours. Throws for a request that did not come through the front door. */
export function canonicalPathOf(incoming: IncomingMessage): CanonicalPath {
  return known(paths, incoming)
}

/** The address that the request came from. Throws for a request that did not come through the front door. */
export function addressOf(incoming: IncomingMessage): string {
  return known(addresses, incoming)
}

/** The whole body of the request, empty when there is none. Throws for a request that did not come through the front door. */
export function bodyOf(incoming: IncomingMessage): Buffer {
  return known(bodies, incoming)
}

function known<T>(facts: WeakMap<IncomingMessage, T>, incoming: IncomingMessage): T {
  const fact = facts.get(incoming)
  if (fact === undefined) throw new Error('the request did not come through the front door')
  return fact
}
