import { OctetString } from 'asn1js'

/** Tags of GeneralName (RFC 5280 4.2.1.6). */
export const RFC822_NAME = 1
const DNS_NAME = 2
export const DIRECTORY_NAME = 4
export const URI = 6
const IP_ADDRESS = 7

/**
 * Whether a name that is no directory name is in a subtree of its form (RFC 5280 4.2.1.10).
 * @param value and base: as pkijs has them, texts, or octets of addresses
 * @returns undefined where that cannot be told: the form is another one, or the name is none of its form
 */
export function isWithin(form: number, value: unknown, base: unknown): boolean | undefined {
  if (form === IP_ADDRESS) return isAddressWithin(octetsOf(value), octetsOf(base))
  if (typeof value !== 'string' || typeof base !== 'string') return undefined
  return texts.get(form)?.(value, base)
}

const texts = new Map<number, (value: string, base: string) => boolean | undefined>([
  [DNS_NAME, isHostWithin],
  [RFC822_NAME, isMailboxWithin],
  [URI, isUriWithin],
])

/** Labels may be added to the left; a subtree of no label holds every host. */
function isHostWithin(host: string, base: string): boolean {
  const [given, wanted] = [host.toLowerCase(), base.toLowerCase()]
  return wanted === '' || given === wanted || given.endsWith(wanted.startsWith('.') ? wanted : `.${wanted}`)
}

/** One mailbox, all of a host, or all of the hosts of a domain, which begins with a dot. */
function isMailboxWithin(mailbox: string, base: string): boolean | undefined {
  const [at, own] = [mailbox.lastIndexOf('@'), base.lastIndexOf('@')]
  if (at < 0) return undefined
  const isMailbox = own > 0
  if (isMailbox && mailbox.slice(0, at) !== base.slice(0, own)) return false
  return isHostOrBelow(mailbox.slice(at + 1), base.slice(own + 1))
}

/** By the host; a name with none, or with an address in place of one, is in no subtree that can be told. */
function isUriWithin(uri: string, base: string): boolean | undefined {
  const host = /^[^:/?#]+:\/\/(?:[^@/?#]*@)?([^:/?#@[\]]+)(?::[0-9]*)?(?:[/?#]|$)/.exec(uri)?.[1]
  return host === undefined || /^[0-9.]+$/.test(host) ? undefined : isHostOrBelow(host, base)
}

/** The host alone, or with a dot before it those below it and not itself. */
function isHostOrBelow(host: string, base: string): boolean {
  const [given, wanted] = [host.toLowerCase(), base.toLowerCase()]
  return wanted === '' || (wanted.startsWith('.') ? given.endsWith(wanted) : given === wanted)
}

/** An address, and in the subtree an address and a mask of as many bytes. */
function isAddressWithin(address: Uint8Array | undefined, base: Uint8Array | undefined): boolean | undefined {
  if (address === undefined || base === undefined || ![4, 16].includes(address.length) || ![8, 32].includes(base.length))
    return undefined
  if (base.length !== 2 * address.length) return false
  return address.every((octet, at) => ((octet ^ (base[at] ?? 0)) & (base[address.length + at] ?? 0)) === 0)
}

function octetsOf(value: unknown): Uint8Array | undefined {
  return value instanceof OctetString ? value.valueBlock.valueHexView : undefined
}
