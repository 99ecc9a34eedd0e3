import { BlockList, isIP, type LookupFunction } from 'node:net'
import { BrokerError } from '../errors.ts'
import { resolve } from '../resolve.ts'

/** Networks that are not the public Internet (IANA special-purpose registries): nothing is sent there unless it is listed. */
const closed = listOf([
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.88.99.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/3',
  '::/96',
  '64:ff9b::/96',
  '64:ff9b:1::/48',
  '100::/64',
  '2001::/23',
  '2001:db8::/32',
  '2002::/16',
  '3fff::/20',
  '5f00::/16',
  'fc00::/7',
  'fe80::/10',
  'ff00::/8',
])

/** Says where something may be sent: to public addresses, and to those listed. */
export type Egress = {
  readonly allows: (address: string) => boolean
  /** for `net.connect`: names are resolved here, and only to addresses that are allowed */
  readonly lookup: LookupFunction
}

/** @param listed networks (`10.0.0.0/8`) or addresses that are allowed although they are not public
 *  @throws BrokerError bad_request when one is neither */
export function openEgress(listed: readonly string[]): Egress {
  const open = listOf(listed)
  const allows = (address: string) => isIP(address) !== 0 && (!within(closed, address) || within(open, address))
  const lookup: LookupFunction = (host, options, done) => {
    resolve(host, { ...options, all: true }, (error, addresses) => {
      const allowed = error ? [] : addresses.filter(({ address }) => allows(address))
      const [first] = allowed
      if (error || !first) done(error ?? notAllowed(), '', 0)
      else if (options.all) done(null, allowed)
      else done(null, first.address, first.family)
    })
  }
  return { allows, lookup }
}

function listOf(networks: readonly string[]): BlockList {
  const list = new BlockList()
  for (const [index, network] of networks.entries()) {
    const [address = '', prefix = String(isIP(network) === 6 ? 128 : 32), ...more] = network.split('/')
    const bits = /^\d{1,3}$/.test(prefix) ? Number(prefix) : 999
    const kind = isIP(address)
    if (kind === 0 || more.length > 0 || bits > (kind === 6 ? 128 : 32))
      throw new BrokerError(
        'bad_request',
        `wanted addresses and networks such as 10.0.0.0/8: the one at place ${index + 1} is neither`,
      )
    list.addSubnet(address, bits, kind === 6 ? 'ipv6' : 'ipv4')
  }
  return list
}

function within(list: BlockList, address: string): boolean {
  return list.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4')
}

function notAllowed(): NodeJS.ErrnoException {
  return Object.assign(new Error('no address of the name is allowed'), { code: 'EADDRESS' })
}
