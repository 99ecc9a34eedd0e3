import { readable, readSsh, type SshReader } from '#engine'

/** What a server shows of itself before encryption begins: its host key, or the certificate over it, and its signature over the session. */
export type Shown = { readonly hostKey: Buffer; readonly signature: Buffer }

/** What the server has shown in bytes that came since, and how many of them came behind the last that is in clear, once that is there. `never`: what came is
 *  not how SSH begins. */
export type Seen = { readonly shown: readonly Shown[]; readonly behind: number | undefined }
export type Handshake = (bytes: Buffer) => Seen | 'never'

/** Neither side says more before encryption begins. */
const MOST = 65_536
/** Nor a server before its version. */
const MOST_LINES = 8192
const LONGEST_PACKET = 35_000

const NEWKEYS = 21
/** The answers of all key exchanges that end with host key, the server's part and signature: RFC 4253 (8), RFC 5656 (4), RFC 8731. */
const REPLY = 31
/** The same where 31 is the group that the server proposes: RFC 4419 (3). */
const GROUP_REPLY = 33

/** Watches what a server says from its first byte until encryption begins: a client passes over replies that it does not expect, so that only when all of them
 *  are looked at, the one that it takes is among them. */
export function watchHandshake(): Handshake {
  let shown: Shown[] = []
  let hasShown = false
  const clear = watchClear(payload => {
    const found = shownIn(payload)
    if (found !== undefined && found !== 'never') shown.push(found)
    return found !== 'never'
  })
  return bytes => {
    shown = []
    const behind = clear(bytes)
    hasShown ||= shown.length > 0
    return behind === 'never' || (behind !== undefined && !hasShown) ? 'never' : { shown, behind }
  }
}

/** Watches a client until it has taken the key that a server showed: behind that it says NEWKEYS. One of the server that it does not expect it passes over
 *  like any other packet, so that what the server says itself is no sign of that. */
export function watchClient(): (bytes: Buffer) => boolean | 'never' {
  const clear = watchClear(() => true)
  return bytes => {
    const behind = clear(bytes)
    return behind === 'never' ? behind : behind !== undefined
  }
}

/** Reads what one side says in clear. `look` is given each packet, and says whether it may be there.
 *  @returns of each piece how many bytes of it are behind NEWKEYS, once that is there
 *  @see RFC 4253, 4.2 (identification) and 6 (packets) */
function watchClear(look: (payload: Buffer) => boolean): (bytes: Buffer) => number | undefined | 'never' {
  let rest: Buffer = Buffer.alloc(0)
  let [read, isIdentified, isOver] = [0, false, false]
  return bytes => {
    if (isOver) return bytes.length
    read += bytes.length
    rest = Buffer.concat([rest, bytes])
    if (!isIdentified) {
      const at = behindIdentification(rest)
      if (at === undefined || at === 'never') return at
      isIdentified = true
      rest = rest.subarray(at)
    }
    const found = packetsOf(rest, look)
    if (found === 'never' || (!found.isOver && read > MOST)) return 'never'
    rest = rest.subarray(found.at)
    isOver = found.isOver
    return isOver ? rest.length : undefined
  }
}

/** @returns where the first packet begins that is not whole yet, or what is behind NEWKEYS */
function packetsOf(
  bytes: Buffer,
  look: (payload: Buffer) => boolean,
): { readonly at: number; readonly isOver: boolean } | 'never' {
  let at = 0
  while (bytes.length >= at + 5) {
    const length = bytes.readUInt32BE(at)
    const padding = bytes.readUInt8(at + 4)
    if (length > LONGEST_PACKET || length < padding + 2) return 'never'
    if (bytes.length < at + 4 + length) break
    const payload = bytes.subarray(at + 5, at + 4 + length - padding)
    at += 4 + length
    if (payload[0] === NEWKEYS) return { at, isOver: true }
    if (!look(payload)) return 'never'
  }
  return { at, isOver: false }
}

/** Where the packets begin, once that is there. A server may say other lines before the one with its version, and clients take more for that than 2.0. */
function behindIdentification(seen: Buffer): number | undefined | 'never' {
  const text = seen.toString('latin1', 0, MOST_LINES)
  const [line] = /^(?:(?!SSH-)[^\n]*\n)*SSH-2\.0-[^\n]*\n/.exec(text) ?? []
  if (line !== undefined) return line.length
  return seen.length > MOST_LINES || /^SSH-[^\n]*\n/m.test(text) ? 'never' : undefined
}

function shownIn(payload: Buffer): Shown | undefined | 'never' {
  if (payload[0] !== REPLY && payload[0] !== GROUP_REPLY) return undefined
  const texts = readable(() => textsOf(readSsh(payload.subarray(1))))
  const [hostKey, , signature] = texts ?? []
  if (texts?.length === 3 && hostKey && signature) return { hostKey, signature }
  // a group is two numbers, and nothing behind them
  return texts?.length === 2 && payload[0] === REPLY ? undefined : 'never'
}

function textsOf(reader: SshReader): readonly Buffer[] {
  const texts: Buffer[] = []
  while (reader.left() > 0) texts.push(reader.string())
  return texts
}
