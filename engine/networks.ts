import { isIP } from 'node:net'

/** Whether what is sent to this host, a name or an address, stays on the machine. */
export const isLoopback = (host: string) => /^(?:127\.[\d.]+|::1|localhost)$/.test(host)

/** Whether this network is written by an address within it: `10.1.2.3/8` is one machine to whoever wrote it, and all of 10.0.0.0/8 to whoever reads it. What
 *  is no network is not. */
export function isAmbiguous(network: string): boolean {
  const [address = '', prefix = ''] = network.split('/')
  if (isIP(address) === 0 || !/^\d{1,3}$/.test(prefix)) return false
  const bits = Number(prefix)
  return bytesOf(address).some((byte, index) => (byte & (255 >> Math.min(8, Math.max(0, bits - 8 * index)))) !== 0)
}

function bytesOf(address: string): readonly number[] {
  if (isIP(address) === 4) return address.split('.').map(Number)
  return groupsOf(address).flatMap(group => [group >> 8, group & 255])
}

/** The eight groups of an IPv6 address. */
export function groupsOf(address: string): readonly number[] {
  // a URL has the address of a host in groups of hex digits alone
  const [before = [], after = []] = new URL(`http://[${address.replace(/%.*$/, '')}]`).hostname
    .slice(1, -1)
    .split('::')
    .map(side => side.split(':').filter(group => group !== ''))
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => '0')
  return [...before, ...zeros, ...after].map(group => Number.parseInt(group, 16))
}
