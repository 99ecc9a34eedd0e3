import { after, contentOf, type Element, elementAt, INTEGER, SEQUENCE, slice } from './der.ts'

const VERSION = 0xa0
const SET = 0x31
const OID = 0x06

/** The Names of a certificate, in the form by which names are compared, found without reading the rest of it (RFC 5280 4.1, TBSCertificate). */
export function namesOf(certificate: Uint8Array): { readonly issuer: Buffer; readonly subject: Buffer } | undefined {
  const body = elementAt(certificate, elementAt(certificate, 0)?.from)
  const first = elementAt(certificate, body?.from)
  const serial = first?.tag === VERSION ? after(certificate, first) : first
  const algorithm = after(certificate, serial)
  const issuer = after(certificate, algorithm)
  const validity = after(certificate, issuer)
  const subject = after(certificate, validity)
  if (issuer?.tag !== SEQUENCE || subject?.tag !== SEQUENCE) return undefined
  return { issuer: comparable(slice(certificate, issuer)), subject: comparable(slice(certificate, subject)) }
}

/** The issuer of a revocation list, in the form by which names are compared (RFC 5280 5.1, TBSCertList). */
export function issuerOfList(list: Uint8Array): Buffer | undefined {
  const body = elementAt(list, elementAt(list, 0)?.from)
  const first = elementAt(list, body?.from)
  const algorithm = first?.tag === INTEGER ? after(list, first) : first
  const issuer = after(list, algorithm)
  return issuer?.tag === SEQUENCE ? comparable(slice(list, issuer)) : undefined
}

/**
 * A Name in the form by which names are compared (RFC 5280 7.1, and as OpenSSL does it): text in any string type is the same text, without
 * regard to ASCII case and to how much space there is, and the attributes of an RDN have no order. Makers write one name in two types.
 * What is no Name of this form is compared as it is.
 */
export function comparable(name: Uint8Array): Buffer {
  const rdns = rdnsOf(name)
  return rdns === undefined ? Buffer.from(name) : Buffer.from(rdns.map(attributes => attributes.join('+')).join(','))
}

/** The RDNs of a Name, and the attributes of each, in the form by which they are compared; undefined for what is no Name of this form. */
export function rdnsOf(name: Uint8Array): readonly (readonly string[])[] | undefined {
  const rdns: (readonly string[])[] = []
  for (const rdn of contentOf(name, elementAt(name, 0)) ?? [undefined]) {
    const attributes = rdn?.tag === SET ? contentOf(name, rdn)?.map(attribute => attributeOf(name, attribute)) : undefined
    const known = attributes?.filter(one => one !== undefined)
    if (known === undefined || known.length !== attributes?.length) return undefined
    rdns.push(known.toSorted())
  }
  return rdns
}

/** `oid=text` or `oid#bytes`, all of it in hexadecimal, so that no text can look like another one's structure. */
function attributeOf(name: Uint8Array, attribute: Element): string | undefined {
  const [type, value, ...more] = (attribute.tag === SEQUENCE ? contentOf(name, attribute) : undefined) ?? []
  if (type?.tag !== OID || value === undefined || more.length > 0) return undefined
  const oid = slice(name, type).toString('hex')
  const text = textOf(value.tag, name.subarray(value.from, value.to))
  return text === undefined
    ? `${oid}#${slice(name, value).toString('hex')}`
    : `${oid}=${Buffer.from(plain(text)).toString('hex')}`
}

function plain(text: string): string {
  return text
    .replaceAll(/[\t-\r ]+/g, ' ')
    .replaceAll(/^ | $/g, '')
    .replaceAll(/[A-Z]/g, letter => letter.toLowerCase())
}

/** UTF8String, BMPString, and PrintableString, TeletexString, IA5String, VisibleString, which are read as Latin-1. */
function textOf(tag: number, bytes: Uint8Array): string | undefined {
  if ([0x13, 0x14, 0x16, 0x1a].includes(tag)) return Buffer.from(bytes).toString('latin1')
  try {
    if (tag === 0x0c) return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
    if (tag === 0x1e) return new TextDecoder('utf-16be', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    // bytes that are no text of their type are nobody else's name
  }
  return undefined
}
