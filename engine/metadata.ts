import { BlockList, isIP, type LookupFunction } from 'node:net'
import { resolve } from './resolve.ts'

/** Where clouds answer their own machines, credentials included: nothing that a broker is configured with lives there. */
const metadata = new BlockList()
metadata.addSubnet('169.254.0.0', 16, 'ipv4')
metadata.addAddress('100.100.100.200', 'ipv4')
metadata.addAddress('168.63.129.16', 'ipv4')
metadata.addAddress('192.0.0.192', 'ipv4')
metadata.addSubnet('fe80::', 10, 'ipv6')
metadata.addAddress('fd00:ec2::254', 'ipv6')
metadata.addAddress('fd20:ce::254', 'ipv6')

/** Whether this is the address of a metadata service; names are none, they are looked at when they are resolved. */
export function isMetadata(host: string): boolean {
  const bare = host.replace(/^\[|\]$/g, '')
  const version = isIP(bare)
  return version !== 0 && metadata.check(bare, version === 6 ? 'ipv6' : 'ipv4')
}

/** `dns.lookup` that fails when any address of the name is one of a metadata service. Literal addresses never come here. */
export const lookup: LookupFunction = (host, options, callback) => {
  resolve(host, options, (error, found, family) => {
    const all: readonly { address: string }[] = typeof found === 'string' ? [{ address: found }] : (found ?? [])
    if (!error && all.some(({ address }) => isMetadata(address))) callback(metadataError(), '', 0)
    else callback(error, found as string, family)
  })
}

export function metadataError(): NodeJS.ErrnoException {
  return Object.assign(new Error('the address is one of a metadata service'), { code: 'EMETADATA' })
}
