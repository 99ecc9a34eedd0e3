import { isIP } from 'node:net'
import { type Collection, openCollection } from '../collection.ts'
import { BrokerError } from '../errors.ts'
import { list, required, text, type Values } from '../fields.ts'
import { isLoopback } from '../networks.ts'
import type { Store } from '../vault/store.ts'
import { reasons } from './machine.ts'

/** Who is told what happens to machines. */
export const webhookFields = {
  url: required(text('Where security events are pushed to (RFC 8935): https, or http on a loopback address.', { max: 2048 })),
  audience: text('`aud` of the events; the URL when empty.', { fallback: '', max: 2048 }),
  reasons: list('What to tell. Everything when empty.', { choices: Object.keys(reasons) }),
  ca: text('Certificates in PEM that the certificate of the receiver has to lead to; Node’s own roots when empty.', {
    fallback: '',
    max: 65_536,
  }),
}
export type Webhook = Values<typeof webhookFields>
export type Webhooks = Collection<typeof webhookFields>

export const openWebhooks = (store: Store): Webhooks =>
  openCollection(store, 'webhook', webhookFields, { check: ({ url }) => checkUrl(url) })

function checkUrl(url: string): void {
  const { protocol, hostname, username, password, hash } = URL.canParse(url) ? new URL(url) : new URL('none:')
  const safe = protocol === 'https:' || (protocol === 'http:' && isLoopback(bare(hostname)))
  if (!safe || username + password + hash !== '')
    throw new BrokerError('bad_request', 'url: wanted an https URL without user and fragment, or http on a loopback address')
}

/** The address in a URL that has one in place of a name. */
export function literalOf(url: string): string | undefined {
  const host = bare(new URL(url).hostname)
  return isIP(host) === 0 ? undefined : host
}

/** Without the brackets that a URL has around addresses of IPv6. */
const bare = (hostname: string) => hostname.replace(/^\[|\]$/g, '')
