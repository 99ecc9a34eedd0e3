import { type Field, text } from '../fields.ts'

const FORM = /^(?:https:\/\/[^\s/?#@]+|http:\/\/(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?)(?:\/[^\s?#]*)?$/

/** URL of a service: over TLS, or on this machine. Nothing leads to the addresses at which clouds tell machines their credentials. */
export function endpoint(description: string): Field<string> {
  return text(description, { fallback: '', max: 2048, form: [new RegExp(`^$|${FORM.source}`), WANTED] })
}

const WANTED = 'an https URL without user, query and fragment, or an http one on loopback'

/** Whether the URL's origin is the other's. */
export function sameOrigin(one: string, other: string): boolean {
  return URL.canParse(one) && URL.canParse(other) && new URL(one).origin === new URL(other).origin
}

/** Without slashes at the end, for paths to be put behind it. */
export function base(url: string): string {
  return url.replace(/\/+$/, '')
}
