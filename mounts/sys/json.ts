import type { HttpReply } from '../hosts/envelope.ts'

/** The object that a body is, or undefined: what cannot be read is Vault's to refuse. */
export function jsonOf(body: Buffer): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(body.toString('utf8'))
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

/** Vault's own reply with its JSON changed. What is no success, and what is wrapped, stays as it is. */
export function changed<T extends object>(reply: HttpReply, change: (body: T) => object): HttpReply {
  if (reply.status !== 200 || reply.raw === undefined) return reply
  const body = JSON.parse(Buffer.from(reply.raw).toString('utf8')) as T & { wrap_info?: unknown }
  if (body.wrap_info) return reply
  return { ...reply, raw: Buffer.from(`${JSON.stringify(change(body))}\n`) }
}
