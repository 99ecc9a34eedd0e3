import type { HttpReply } from '../hosts/envelope.ts'

/** The object that a body is, or undefined: what cannot be read is Vault's to refuse. */
function jsonOf(body: Buffer): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(body.toString('utf8'))
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

/** The object that a reply of Vault's is; undefined when it has none. */
export function contentOf({ body, raw }: HttpReply): object | undefined {
  return body ?? (raw && jsonOf(Buffer.from(raw)))
}

/** Vault's own reply with its JSON changed. What is no success, and what is wrapped, stays as it is. */
export function changed<T extends object>(reply: HttpReply, change: (body: T) => object): HttpReply {
  const content = contentOf(reply) as (T & { wrap_info?: unknown }) | undefined
  if (reply.status !== 200 || content === undefined || content.wrap_info) return reply
  return { status: 200, headers: reply.headers ?? {}, body: change(content) }
}
