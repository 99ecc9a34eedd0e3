import { BrokerError, codes, VaultRefusal } from '#engine'
import type { Outcome } from '../dispatch.ts'
import type { ReplyLease } from '../table.ts'

/** A reply in the shape of Vault's HTTP API; `raw` is one of Vault's own, byte for byte. */
export type HttpReply = {
  readonly status: number
  readonly body?: object
  readonly raw?: Uint8Array
  readonly headers?: Readonly<Record<string, string>>
}

/** The fields of Vault's envelope, in Vault's order (https://developer.hashicorp.com/vault/api-docs). */
export function enveloped(txn: string, mountType: string, data: object, warnings: readonly string[]): object {
  return {
    request_id: txn,
    lease_id: '',
    renewable: false,
    lease_duration: 0,
    data,
    wrap_info: null,
    warnings: warnings.length > 0 ? warnings : null,
    auth: null,
    mount_type: mountType,
  }
}

export function replyOf(outcome: Outcome, txn: string, mountType: string): HttpReply {
  if ('help' in outcome) return { status: 200, body: outcome.help }
  const { reply, warnings } = outcome
  if (!reply)
    return warnings.length > 0
      ? { status: 200, body: { ...enveloped(txn, mountType, {}, warnings), data: null } }
      : { status: 204 }
  if ('bare' in reply) return { status: 200, body: reply.bare }
  if ('vault' in reply) return { status: 200, body: reply.vault }
  if (isEmptyList(reply.data)) return { status: 404, body: { errors: [] } }
  return {
    status: 200,
    body: { ...enveloped(txn, mountType, reply.data, [...(reply.warnings ?? []), ...warnings]), ...leaseOf(reply.lease) },
  }
}

function leaseOf(lease: ReplyLease | undefined): object {
  return lease ? { lease_id: lease.id, renewable: lease.renewable, lease_duration: lease.durationSeconds } : {}
}

/** Vault answers a list of nothing as absent. */
function isEmptyList(data: object): boolean {
  return 'keys' in data && Array.isArray(data.keys) && data.keys.length === 0
}

/** What a caller learns of an error. What is no BrokerError is our own mistake and tells nothing. */
export function replyOfError(error: unknown, token: 'with a token' | 'without a token'): HttpReply {
  if (error instanceof VaultRefusal) return { status: error.status, body: { errors: error.errors } }
  if (!(error instanceof BrokerError)) return { status: 500, body: { errors: ['internal error'] } }
  const status = codes[error.code].http
  const again: Record<string, string> = status === 429 || status === 503 ? { 'Retry-After': '1' } : {}
  const message = inVaultsWords(error, token)
  return { status, body: { errors: message === '' ? [] : [message] }, headers: again }
}

const DENIED = 'permission denied'
/** What Vault says of these it says as a list of errors. */
const LISTED: ReadonlySet<string> = new Set([DENIED, 'unsupported path', 'unsupported operation'])

/** What we refuse reads like a path where nothing is, to who may do nothing there. The cause is what Vault said of the token itself. */
function inVaultsWords({ message, cause }: BrokerError, token: 'with a token' | 'without a token'): string {
  if (!LISTED.has(message) || (message === DENIED && token === 'without a token')) return message
  const lines = [message, ...(message === DENIED && cause !== undefined ? ['invalid token'] : [])]
  return `${lines.length} error${lines.length > 1 ? 's' : ''} occurred:\n${lines.map(line => `\t* ${line}\n`).join('')}\n`
}
