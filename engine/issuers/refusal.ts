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

const CODE = /^[A-Za-z][A-Za-z0-9_.-]{0,63}$/

/** Error codes are words; whatever else stands in their place is not passed on. */
function codeIn(reason: unknown): string {
  return typeof reason === 'string' && CODE.test(reason) ? reason : 'an error without a code'
}
