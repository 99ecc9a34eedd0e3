import type { IncomingMessage } from 'node:http'
import { BlockList, isIP, type Socket } from 'node:net'

/** Whose request it is: an address, or what is wrong with what is said of it. */
export type ClientAddress =
  | { readonly ok: true; readonly address: string }
  | { readonly ok: false; readonly status: 400; readonly message: string }

const refuse = (message: string): ClientAddress => ({ ok: false, status: 400, message })

/** The address of the peer; where that is a proxy that is trusted, the last address in its `X-Forwarded-For` that is none of these proxies.
 *  What anybody else says there is not looked at: whoever could choose their address would pass `token_bound_cidrs`.
 *  @param trusted addresses, and networks such as `10.1.0.0/16`
 *  @throws Error for what is neither */
export function openClientAddresses(trusted: readonly string[]): (incoming: IncomingMessage) => ClientAddress {
  const proxies = listOf(trusted)
  const isTrusted = (address: string) => trusted.length > 0 && proxies.check(address, family(address))
  const peers = new WeakMap<Socket, ClientAddress>()

  function peerOf({ socket }: IncomingMessage): ClientAddress {
    const known = peers.get(socket)
    if (known) return known
    const address = plain(socket.remoteAddress ?? '')
    const peer: ClientAddress =
      isIP(address) === 0 ? refuse('it is not known from where the request comes') : { ok: true, address }
    peers.set(socket, peer)
    return peer
  }

  return incoming => {
    const peer = peerOf(incoming)
    const said = incoming.headers['x-forwarded-for']
    if (!peer.ok || said === undefined || !isTrusted(peer.address)) return peer
    return beforeProxies(said, isTrusted)
  }
}

/** From the last to the first, as each proxy adds the address of its peer at the end (RFC 7239, 5.2 has the same order). */
function beforeProxies(said: string | string[], isTrusted: (address: string) => boolean): ClientAddress {
  let client = ''
  for (const one of String(said).split(',').toReversed()) {
    client = plain(one.trim())
    if (isIP(client) === 0) return refuse('X-Forwarded-For holds something that is no address')
    if (!isTrusted(client)) break
  }
  return { ok: true, address: client }
}

const MAPPED = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i

/** IPv4 as such also where it came to an IPv6 socket, and no name of an interface: as Vault writes addresses. */
function plain(address: string): string {
  return MAPPED.exec(address)?.[1] ?? address.replace(/%.*$/, '')
}

const family = (address: string) => (isIP(address) === 6 ? 'ipv6' : 'ipv4')

function listOf(trusted: readonly string[]): BlockList {
  const list = new BlockList()
  for (const one of trusted) {
    const [address = '', prefix] = one.split('/')
    if (isIP(address) === 0 || (prefix !== undefined && !/^\d{1,3}$/.test(prefix)))
      throw new Error(`trusted proxies: wanted an address or a network such as 10.1.0.0/16, not ${one}`)
    if (prefix === undefined) list.addAddress(address, family(address))
    else list.addSubnet(address, Number(prefix), family(address))
  }
  return list
}
