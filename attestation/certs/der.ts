/** One element of DER: where its content begins and where it ends. */
type Element = { readonly tag: number; readonly start: number; readonly from: number; readonly to: number }

const SEQUENCE = 0x30
const VERSION = 0xa0

/** How many bytes the SEQUENCE takes that `bytes` begins with, or undefined when it does not begin with a whole one. */
export function sequenceLength(bytes: Uint8Array): number | undefined {
  const element = elementAt(bytes, 0)
  return element?.tag === SEQUENCE ? element.to : undefined
}

/** The Names of a certificate in the bytes it holds, found without reading the rest of it (RFC 5280 4.1, TBSCertificate). */
export function namesOf(certificate: Uint8Array): { readonly issuer: Buffer; readonly subject: Buffer } | undefined {
  const body = elementAt(certificate, elementAt(certificate, 0)?.from)
  const first = elementAt(certificate, body?.from)
  const serial = first?.tag === VERSION ? after(certificate, first) : first
  const algorithm = after(certificate, serial)
  const issuer = after(certificate, algorithm)
  const validity = after(certificate, issuer)
  const subject = after(certificate, validity)
  if (issuer?.tag !== SEQUENCE || subject?.tag !== SEQUENCE) return undefined
  return { issuer: slice(certificate, issuer), subject: slice(certificate, subject) }
}

const INTEGER = 0x02

/** The issuer of a revocation list in the bytes it holds (RFC 5280 5.1, TBSCertList). */
export function issuerOfList(list: Uint8Array): Buffer | undefined {
  const body = elementAt(list, elementAt(list, 0)?.from)
  const first = elementAt(list, body?.from)
  const algorithm = first?.tag === INTEGER ? after(list, first) : first
  const issuer = after(list, algorithm)
  return issuer?.tag === SEQUENCE ? slice(list, issuer) : undefined
}

const BIT_STRING = 0x03

/** Whether what is not signed of a list is as DER has it: the algorithm twice alike, and a signature of whole bytes behind it, with nothing beside.
 *  @param ecdsa the signature is itself DER, of two INTEGERs (RFC 3279 2.2.3) */
export function isSignedExactly(list: Uint8Array, ecdsa: boolean): boolean {
  const outer = elementAt(list, 0)
  const body = elementAt(list, outer?.from)
  const algorithm = after(list, body)
  const signature = after(list, algorithm)
  const first = elementAt(list, body?.from)
  const signed = first?.tag === INTEGER ? after(list, first) : first
  if (!outer || !algorithm || !signed || signature?.tag !== BIT_STRING || signature.to !== outer.to) return false
  if (list[signature.from] !== 0 || !slice(list, signed).equals(slice(list, algorithm))) return false
  return !ecdsa || isPair(list.subarray(signature.from + 1, signature.to))
}

function isPair(bytes: Uint8Array): boolean {
  const whole = elementAt(bytes, 0)
  const [r, s] = [elementAt(bytes, whole?.from), after(bytes, elementAt(bytes, whole?.from))]
  return whole?.tag === SEQUENCE && whole.to === bytes.length && r?.tag === INTEGER && s?.tag === INTEGER && s.to === whole.to
}

function after(bytes: Uint8Array, element: Element | undefined): Element | undefined {
  return elementAt(bytes, element?.to)
}

function slice(bytes: Uint8Array, { start, to }: Element): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, to - start)
}

/** Tags of one byte; lengths definite and in as few bytes as they need, as DER wants them. */
function elementAt(bytes: Uint8Array, start: number | undefined): Element | undefined {
  if (start === undefined) return undefined
  const [tag, first] = [bytes[start], bytes[start + 1]]
  if (tag === undefined || first === undefined) return undefined
  const octets = first < 0x80 ? 0 : first - 0x80
  if (first === 0x80 || octets > 3) return undefined
  const from = start + 2 + octets
  const length = octets === 0 ? first : unsigned(bytes.subarray(start + 2, from))
  const shortest = octets === 0 || length >= Math.max(0x80, 2 ** (8 * (octets - 1)))
  return shortest && from + length <= bytes.length ? { tag, start, from, to: from + length } : undefined
}

function unsigned(bytes: Uint8Array): number {
  return bytes.reduce((value, byte) => value * 256 + byte, 0)
}
