import { BlockList, isIP } from 'node:net'

/** Addresses that are dialled only where an operator lists them: this machine, private networks, link-local ones with the metadata services of
 *  clouds, and everything that leads to an IPv4 address by another spelling. */
const guarded = blockListOf([
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10', // 100.100.100.200: Alibaba's metadata
  '127.0.0.0/8',
  '168.63.129.16/32', // Azure's host, in a public range
  '169.254.0.0/16', // metadata of AWS, Azure, GCP, ECS, EKS
  '172.16.0.0/12',
  '192.0.0.0/24', // 192.0.0.192: Oracle's metadata
  '192.88.99.0/24', // relays of 6to4
  '192.168.0.0/16',
  '198.18.0.0/15',
  '224.0.0.0/4',
  '240.0.0.0/4',
  '::/128',
  '::1/128',
  '::/96', // IPv4-compatible
  '::ffff:0:0:0/96', // IPv4-translated (RFC 2765)
  '64:ff9b::/96', // NAT64
  '64:ff9b:1::/48',
  '2001::/32', // Teredo
  '2002::/16', // 6to4
  'fc00::/7', // fd00:ec2::254, fd20:ce::254: metadata of AWS and GCP
  'fe80::/10',
  'fec0::/10', // site-local, as it once was
  'ff00::/8',
])

/** Reads `10.0.0.0/8` or a single address; undefined when it is neither. */
export function parseRange(
  text: string,
): { readonly address: string; readonly bits: number; readonly family: 'ipv4' | 'ipv6' } | undefined {
  const [, address = '', length] = /^([0-9A-Fa-f:.]+)(?:\/(\d{1,3}))?$/.exec(text) ?? []
  const version = isIP(address)
  const most = version === 4 ? 32 : 128
  const bits = length === undefined ? most : Number(length)
  return version === 0 || bits > most ? undefined : { address, bits, family: version === 4 ? 'ipv4' : 'ipv6' }
}

/** @throws Error for what is no range: they are checked when the configuration is read */
export function blockListOf(ranges: readonly string[]): BlockList {
  const list = new BlockList()
  for (const text of ranges) {
    const range = parseRange(text)
    if (!range) throw new Error('no range of addresses')
    list.addSubnet(range.address, range.bits, range.family)
  }
  return list
}

/** An address of IPv6 without its brackets. */
export function bareHost(host: string): string {
  return host.replace(/^\[|\]$/g, '')
}

/** Whether a resolved address may be dialled: it is not guarded, or listed. */
export function mayDial(address: string, listed: BlockList): boolean {
  const version = isIP(address)
  if (version === 0) return false
  const family = version === 4 ? 'ipv4' : 'ipv6'
  return listed.check(address, family) || !guarded.check(address, family)
}
