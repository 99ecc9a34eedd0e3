import { type Field, list, required, text } from '../fields.ts'
import type { Received } from '../http.ts'
import { base } from '../stores/url.ts'

/** Without TLS on the loopback only. */
const GUARDED = /^(?:https:\/\/[^\s/?#@]+|http:\/\/(?:127\.0\.0\.1|localhost|\[::1\])(?::\d+)?)(?:\/[^\s?#]*)?$/
const isAddress = (url: string) => GUARDED.test(url) && URL.canParse(url)
const MEANS = 'an https URL without user, query and fragment'

/** An address of a provider that an operator has to give. */
export function endpoint(description: string): Field<string> {
  return required(text(description, { form: [{ test: isAddress }, MEANS] }))
}

/** An address of a provider that is known, and may be elsewhere. */
export function endpointAt(fallback: string, description: string): Field<string> {
  return text(description, { form: [{ test: isAddress }, MEANS], fallback })
}

/** The same for one that paths are put behind: a slash at its end counts for nothing. */
export function baseAt(fallback: string, description: string): Field<string> {
  const field = endpointAt(fallback, description)
  return { ...field, read: raw => base(field.read(raw)) }
}

/** An address of a provider that may be left out. */
export function optionalEndpoint(description: string): Field<string> {
  return text(description, { form: [{ test: url => url === '' || isAddress(url) }, MEANS], fallback: '' })
}

/** What every integration that is asked over HTTP may say. */
export const outbound = {
  ca: text('PEM bundle that the certificate of the provider must lead to; Node’s own roots when empty.', {
    fallback: '',
    max: 65_536,
  }),
}

/** What bounds the permissions of every role that uses the integration. */
export const ceiling = list(
  'Permissions, or for OAuth scopes, that roles may use at most; a `*` at the end stands for any rest. Whatever the roles list when empty.',
)

/** Whether a permission is the one of the ceiling; a `*` at its end stands for any rest. */
export function plainWithin(permission: string, limit: string): boolean {
  return limit.endsWith('*') ? permission.startsWith(limit.slice(0, -1)) : permission === limit
}

const JSON_TYPE = /^application\/(?:[\w.-]+\+)?json *(?:;|$)/i

export const saysJson = (contentType: string | null | undefined) => JSON_TYPE.test(contentType ?? '')

/** The JSON object that a provider answered with; an empty one when it is none, or does not say that it is one. */
export function objectIn({ headers, body }: Received): Readonly<Record<string, unknown>> {
  if (!saysJson(headers['content-type'])) return {}
  try {
    const read: unknown = JSON.parse(body.toString('utf8'))
    return typeof read === 'object' && read !== null && !Array.isArray(read) ? (read as Readonly<Record<string, unknown>>) : {}
  } catch {
    return {}
  }
}

/** Characters of a token. No server takes a header of that length, and what is kept of many credentials has to have an end. */
const LONGEST = 32_768

/** What may stand for a token in a header (RFC 6749, A.12, without the space). */
export function isToken(value: unknown): value is string {
  return isShort(value) && /^[\x21-\x7e]+$/.test(value)
}

/** What may be kept in place of a refresh token. */
export function isShort(value: unknown): value is string {
  return typeof value === 'string' && value.length <= LONGEST
}

/** Who the broker says that it is, where it proves itself with a JWT of its own. */
export const subject = text('Subject of the JWT that the broker signs for the provider; `integration:<name>` when empty.', {
  fallback: '',
  max: 255,
})

/** A name of a key in transit that the policy of the broker covers, or none. */
export const TRANSIT_KEY = [/^$|^assay-[A-Za-z0-9_-]{1,100}$/, 'the name of a transit key, which begins with assay-'] as const

export function isTransitKey(name: unknown): name is string {
  return typeof name === 'string' && name !== '' && TRANSIT_KEY[0].test(name)
}
