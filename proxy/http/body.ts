import type { IncomingMessage } from 'node:http'
import { openCollected } from '#engine'
import { accept, refuse, type Verdict } from '../refusals.ts'

/** The whole body, for the few places that need it. */
export async function readBody(incoming: IncomingMessage, limitBytes: number, expected: () => void): Promise<Verdict<Buffer>> {
  if (Number(incoming.headers['content-length'] ?? 0) > limitBytes) return refuse('BODY_TOO_LARGE', `above ${limitBytes} bytes`)
  if (incoming.headers.expect !== undefined) expected()
  const collected = openCollected()
  try {
    for await (const chunk of incoming.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      if (collected.size() + chunk.length > limitBytes) return refuse('BODY_TOO_LARGE', `above ${limitBytes} bytes`)
      collected.add(chunk)
    }
  } catch {
    return refuse('REQUEST_SLOW', 'the body broke off')
  }
  return accept(collected.bytes())
}
