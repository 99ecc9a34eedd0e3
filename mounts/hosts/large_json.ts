import { randomUUID } from 'node:crypto'
import { BrokerError } from '#engine'
import { BODY_BYTES } from './body.ts'

/** Strings of more bytes are left as the bytes between their quotes. */
const LONG = 2 ** 16
const QUOTE = 0x22
const BACKSLASH = 0x5c

/**
 * Reads a JSON object as `JSON.parse` does, but for long strings among its members: what is measured of a machine comes as megabytes
 * of base64, and to have them looked at character by character would keep everybody waiting. Their bytes are handed on as they came;
 * nothing is known of them but that they hold no quote and no escape.
 * @throws SyntaxError when it is no JSON; BrokerError bad_request when there is more beside long strings than other bodies may have
 */
export function parseLargeJson(text: Buffer): unknown {
  const mark = randomUUID()
  const { short, cut } = withoutLong(text, mark)
  const value: unknown = JSON.parse(short.toString('utf8'))
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  const members = Object.entries(value).map(([name, member]) => [name, cutOf(member, mark, cut) ?? member])
  return Object.fromEntries(members)
}

function cutOf(member: unknown, mark: string, cut: readonly Buffer[]): Buffer | undefined {
  return typeof member === 'string' && member.startsWith(mark) ? cut[Number(member.slice(mark.length))] : undefined
}

/** The text with a mark in the place of each long string; outside of strings JSON has no quotes. */
function withoutLong(text: Buffer, mark: string): { short: Buffer; cut: Buffer[] } {
  const pieces: Buffer[] = []
  const cut: Buffer[] = []
  let [kept, long] = [0, 0]
  for (let open = text.indexOf(QUOTE); open >= 0; ) {
    const close = endOf(text, open)
    if (close < 0) break
    const content = text.subarray(open + 1, close)
    if (content.length > LONG) long += content.length
    refuseMore(close - long)
    if (content.length > LONG && !content.includes(BACKSLASH)) {
      pieces.push(text.subarray(kept, open + 1), Buffer.from(`${mark}${cut.length}`))
      cut.push(content)
      kept = close
    }
    open = text.indexOf(QUOTE, close + 1)
  }
  refuseMore(text.length - long)
  return { short: Buffer.concat([...pieces, text.subarray(kept)]), cut }
}

/** Beside long strings there may be as much as in any other body: a million names, or things in a list, take seconds to read, and anybody may send them. */
function refuseMore(rest: number): void {
  if (rest > BODY_BYTES) throw new BrokerError('bad_request', 'the body is too large: only JSON with long strings in it may be')
}

/** Where the string ends that begins there: at a quote before which there is an even number of backslashes. */
function endOf(text: Buffer, open: number): number {
  for (let close = text.indexOf(QUOTE, open + 1); close >= 0; close = text.indexOf(QUOTE, close + 1)) {
    let escapes = 0
    while (text[close - 1 - escapes] === BACKSLASH) escapes += 1
    if (escapes % 2 === 0) return close
  }
  return -1
}
