/** Templates by name, and how many fields they have (Linux, Integrity Measurement Architecture: template management). */
export const fields = { 'ima-ng': 2, 'ima-sig': 3, 'ima-buf': 3 } as const
export type ImaTemplate = keyof typeof fields

/** What an entry says, as it stands in the line. */
export type ImaWords = {
  readonly template: ImaTemplate
  readonly digest: string
  readonly path: string
  readonly extra: string
}

/** Every field with its length before it: `d-ng`, `n-ng`, and then `sig` or `buf`; undefined when the digest is not hexadecimal. */
export function templateData({ template, digest, path, extra }: ImaWords, bytes: Uint8Array, at: number): Buffer | undefined {
  const value = digest.indexOf(':') + 1
  const dNg = value + 1 + (digest.length - value) / 2
  const more = fields[template] === 3 ? 4 + extra.length / 2 : 0
  const data = room(4 + dNg + 4 + path.length + 1 + more)
  copyLength(dNg, data, 0)
  copy(bytes, at, value, data, 4)
  data[4 + value] = 0
  if (!copyHex(bytes, at + value, digest.length - value, data, 4 + value + 1)) return undefined
  copyLength(path.length + 1, data, 4 + dNg)
  copy(bytes, at + digest.length + 1, path.length, data, 4 + dNg + 4)
  data[4 + dNg + 4 + path.length] = 0
  if (more > 0) data.write(extra, data.writeUInt32LE(extra.length / 2, data.length - more), 'hex')
  return data
}

// a digest or a path is so short that a call out of JavaScript takes longer than it does, and a buffer of its own even more

const shared = Buffer.alloc(4096)
const views = new Map<number, Buffer>()

/** What is in it stays until the next one is asked for. Every byte has to be written. */
function room(length: number): Buffer {
  if (length > shared.length) return Buffer.allocUnsafe(length)
  const view = views.get(length) ?? shared.subarray(0, length)
  views.set(length, view)
  return view
}

/** 32 bits, the lowest byte first. */
function copyLength(length: number, to: Uint8Array, at: number): void {
  for (let index = 0; index < 4; index += 1) to[at + index] = (length >>> (8 * index)) & 0xff
}

function copy(from: Uint8Array, start: number, length: number, to: Uint8Array, at: number): void {
  for (let index = 0; index < length; index += 1) to[at + index] = from[start + index] as number
}

/** The value of each digit in lower case, by its character; of what is none, more than a digit can be. */
const NIBBLES = Uint8Array.from({ length: 256 }, (_, code) => '0123456789abcdef'.indexOf(String.fromCharCode(code)))

/** False when there is something else than digits in lower case. */
function copyHex(from: Uint8Array, start: number, digits: number, to: Uint8Array, at: number): boolean {
  for (let index = 0; index < digits / 2; index += 1) {
    const high = NIBBLES[from[start + 2 * index] as number] as number
    const low = NIBBLES[from[start + 2 * index + 1] as number] as number
    if (high > 15 || low > 15) return false
    to[at + index] = 16 * high + low
  }
  return true
}
