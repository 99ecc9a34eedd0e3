import { readable, readSsh, type SshReader } from '#engine'

/** What a server shows of itself before encryption begins: its host key, or the certificate over it, and its signature over the session. */
export type Shown = { readonly hostKey: Buffer; readonly signature: Buffer }

/** `more`: the server has not shown it yet. `never`: what came is not how SSH begins. */
export type Handshake = (bytes: Buffer) => Shown | 'more' | 'never'

/** No server says more before encryption begins. */
const MOST = 65_536
const LONGEST_PACKET = 35_000

const NEWKEYS = 21
/** The answers of all key exchanges that end with host key, the server's part and signature: RFC 4253 (8), RFC 5656 (4), RFC 8731. */
const REPLY = 31
/** The same where 31 is the group that the server proposes: RFC 4419 (3). */
const GROUP_REPLY = 33

/** Watches what a server says from its first byte. @see RFC 4253, 4.2 (identification) and 6 (packets) */
export function watchHandshake(): Handshake {
  let seen: Buffer = Buffer.alloc(0)
  return bytes => {
    seen = Buffer.concat([seen, bytes])
    const found = packetsOf(seen)
    return found === 'more' && seen.length > MOST ? 'never' : found
  }
}

function packetsOf(seen: Buffer): Shown | 'more' | 'never' {
  let at = behindIdentification(seen)
  if (at === undefined) return 'more'
  while (seen.length >= at + 5) {
    const length = seen.readUInt32BE(at)
    const padding = seen.readUInt8(at + 4)
    if (length > LONGEST_PACKET || length < padding + 2) return 'never'
    if (seen.length < at + 4 + length) return 'more'
    const payload = seen.subarray(at + 5, at + 4 + length - padding)
    const shown = shownIn(payload)
    if (shown) return shown
    if (payload[0] === NEWKEYS) return 'never'
    at += 4 + length
  }
  return 'more'
}

/** A server may say other lines before that with its version. */
function behindIdentification(seen: Buffer): number | undefined {
  const [line] = /^(?:(?!SSH-)[^\n]*\n)*SSH-2\.0-[^\n]*\n/.exec(seen.toString('latin1', 0, 8192)) ?? []
  return line?.length
}

function shownIn(payload: Buffer): Shown | undefined {
  if (payload[0] !== REPLY && payload[0] !== GROUP_REPLY) return undefined
  return readable(() => threeOf(readSsh(payload.subarray(1))))
}

/** A group is two numbers, and nothing behind them. */
function threeOf(reader: SshReader): Shown | undefined {
  const [hostKey, , signature] = [reader.string(), reader.string(), reader.string()]
  return reader.left() === 0 && hostKey && signature ? { hostKey, signature } : undefined
}
