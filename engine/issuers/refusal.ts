import type { RefusalCode } from '../refusals.ts'

/** A provider refused, or gave what was not asked for. `detail` may be read by who asked: names, numbers and codes, never a provider's sentences,
 *  because those may repeat what was sent. */
export class ExchangeRefusal extends Error {
  readonly code: RefusalCode
  readonly detail: string
  constructor(code: RefusalCode, detail: string) {
    super(`${code}: ${detail}`)
    this.name = 'ExchangeRefusal'
    this.code = code
    this.detail = detail
  }
}

/** The provider understood and said no; `reason` is its error code. */
export function refused(integration: string, reason: unknown): ExchangeRefusal {
  return new ExchangeRefusal('EXCHANGE_REFUSED', `${integration}: ${codeIn(reason)}`)
}

/** What arrived is no credential: `what` says how it differs from one. */
export function unusable(integration: string, what: string): ExchangeRefusal {
  return new ExchangeRefusal('EXCHANGE_UNUSABLE', `${integration}: ${what}`)
}

export function wider(integration: string, what: string): ExchangeRefusal {
  return new ExchangeRefusal('EXCHANGE_WIDER', `${integration}: ${what}`)
}

/** Words as Google, AWS and Entra have them, a status, and what OAuth has registered (RFC 6749, 5.2; RFC 7009, 7521, 8693, 8707, 9449). */
const CODE = /^(?:[A-Z]{2,20}(?:_[A-Z]{2,20})*|[A-Z][A-Za-z]{2,63}|AADSTS\d{1,9}|status_\d{3})$/
const OAUTH = new Set(
  'invalid_request invalid_client invalid_grant unauthorized_client unsupported_grant_type invalid_scope invalid_target invalid_token invalid_dpop_proof use_dpop_nonce unsupported_token_type insufficient_scope access_denied interaction_required consent_required login_required temporarily_unavailable server_error'.split(
    ' ',
  ),
)

/** Whatever else stands in the place of a code is not passed on: it may be what was sent. */
function codeIn(reason: unknown): string {
  return typeof reason === 'string' && (OAUTH.has(reason) || CODE.test(reason)) ? reason : 'an error without a known code'
}
