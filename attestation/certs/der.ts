/** One element of DER: where it starts, where its content begins and where that ends. */
export type Element = { readonly tag: number; readonly start: number; readonly from: number; readonly to: number }

export const SEQUENCE = 0x30

/** How many bytes the SEQUENCE takes that `bytes` begins with, or undefined when it does not begin with a whole one. */
export function sequenceLength(bytes: Uint8Array): number | undefined {
  const element = elementAt(bytes, 0)
  return element?.tag === SEQUENCE ? element.to : undefined
}

export const INTEGER = 0x02
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
  if (!outer || !body || !algorithm || !signed || signature?.tag !== BIT_STRING || signature.to !== outer.to) return false
  if (signed.to > body.to || list[signature.from] !== 0 || !slice(list, signed).equals(slice(list, algorithm))) return false
  return !ecdsa || isPair(list.subarray(signature.from + 1, signature.to))
}

function isPair(bytes: Uint8Array): boolean {
  const whole = elementAt(bytes, 0)
  const [r, s] = [elementAt(bytes, whole?.from), after(bytes, elementAt(bytes, whole?.from))]
  return whole?.tag === SEQUENCE && whole.to === bytes.length && r?.tag === INTEGER && s?.tag === INTEGER && s.to === whole.to
}

/** The element that follows another one. */
export function after(bytes: Uint8Array, element: Element | undefined): Element | undefined {
  return elementAt(bytes, element?.to)
}

/** The bytes of an element, its tag and length among them. */
export function slice(bytes: Uint8Array, { start, to }: Element): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, to - start)
}

/** The elements in another one, or undefined when there is something else in it. */
export function contentOf(bytes: Uint8Array, whole: Element | undefined): Element[] | undefined {
  if (whole === undefined) return undefined
  const elements: Element[] = []
  for (let at = whole.from; at < whole.to; at = elements.at(-1)?.to ?? whole.to) {
    const element = elementAt(bytes, at)
    if (element === undefined || element.to > whole.to) return undefined
    elements.push(element)
  }
  return elements
}

const CONSTRUCTED = 0x20

/** The tags of all elements, at any depth. What is no DER counts as if it were all of the smallest ones that there are. */
export function tagsIn(bytes: Uint8Array): number[] {
  const tags: number[] = []
  for (let at = 0; at < bytes.length; ) {
    const element = elementAt(bytes, at)
    if (element === undefined) return [...tags, ...Array<number>((bytes.length - at) >> 1).fill(CONTEXT_SPECIFIC)]
    tags.push(element.tag)
    at = (element.tag & CONSTRUCTED) === 0 ? element.to : element.from
  }
  return tags
}

const CONTEXT_SPECIFIC = 0x80

/** As the forms of a name are told apart (RFC 5280 4.2.1.6). */
export function isContextSpecific(tag: number): boolean {
  return (tag & 0xc0) === CONTEXT_SPECIFIC
}

/** Tags of one byte; lengths definite and in as few bytes as they need, as DER wants them. */
export function elementAt(bytes: Uint8Array, start: number | undefined): Element | undefined {
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
