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

/** What a provider gave, and nobody gets, lives: it could not be ended at once. `why` nobody gets it, and how it is ended. */
export class Unwanted extends Error {
  readonly why: unknown
  readonly handle: Readonly<Record<string, string>>
  constructor(why: unknown, handle: Unwanted['handle']) {
    super('what nobody gets could not be ended at once')
    this.name = 'Unwanted'
    this.why = why
    this.handle = handle
  }
}

/** Ends what nobody gets, and throws why: as it is when it was ended, else with how that is done. */
export async function unwanted(
  why: unknown,
  end: () => Promise<void>,
  handle: () => Promise<Unwanted['handle']>,
): Promise<never> {
  try {
    await end()
  } catch {
    throw new Unwanted(why, await handle())
  }
  throw why
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

/** What Entra numbers, and a status. */
const NUMBERED = /^(?:AADSTS\d{1,9}|status_\d{3})$/
const words = (text: string) => text.trim().split(/\s+/)
const KNOWN = new Set([
  // OAuth: RFC 6749, 4.1.2.1 and 5.2; RFC 6750, 7009, 7521, 8693, 8707, 9449; OpenID Connect Core 1.0, 3.1.2.6
  ...words(`invalid_request invalid_client invalid_grant unauthorized_client unsupported_grant_type unsupported_response_type
    invalid_scope invalid_target invalid_token invalid_dpop_proof use_dpop_nonce unsupported_token_type insufficient_scope
    access_denied interaction_required consent_required login_required account_selection_required temporarily_unavailable
    server_error`),
  // google.rpc.Code
  ...words(`CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED UNAUTHENTICATED
    RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS`),
  // AWS: errors common to all services, those of STS, IAM and Secrets Manager; some have `Exception` behind them
  ...words(`AccessDenied ExpiredToken IncompleteSignature InternalFailure InvalidAction InvalidClientTokenId InvalidSignature
    InvalidParameterCombination InvalidParameterValue InvalidQueryParameter MalformedQueryString MissingAction
    MissingAuthenticationToken MissingParameter NotAuthorized OptInRequired RequestExpired ServiceUnavailable
    SignatureDoesNotMatch Throttling TooManyRequests UnrecognizedClient ValidationError
    IDPCommunicationError IDPRejectedClaim InvalidAuthorizationMessage InvalidIdentityToken MalformedPolicyDocument
    PackedPolicyTooLarge RegionDisabled
    ConcurrentModification EntityAlreadyExists InvalidInput LimitExceeded NoSuchEntity ServiceFailure
    DecryptionFailure EncryptionFailure InternalServiceError InvalidParameter InvalidRequest PreconditionNotMet
    ResourceExists ResourceNotFound`),
])

/** The word, when it is one of those that providers have for errors. Whatever else stands in its place is not passed on: it may be what was sent. */
export function codeIn(reason: unknown): string {
  const word = typeof reason === 'string' ? reason : ''
  return NUMBERED.test(word) || KNOWN.has(word.replace(/Exception$/, '')) ? word : 'an error without a known code'
}
