/** Errors that cross a floor, with what each host makes of them (`http`: status; `proto`: ProtoError.err_type of Vault's plugin protocol). */
export const codes = {
  bad_request: { http: 400, proto: 4 },
  permission_denied: { http: 403, proto: 8 },
  not_found: { http: 404, proto: 1 },
  unsupported_path: { http: 404, proto: 6 },
  unsupported_operation: { http: 405, proto: 5 },
  conflict: { http: 409, proto: 1 },
  too_large: { http: 413, proto: 4 },
  unsupported_media_type: { http: 415, proto: 4 },
  rate_limited: { http: 429, proto: 1 },
  unavailable: { http: 503, proto: 2 },
} as const
export type Code = keyof typeof codes

/** The only error that crosses a floor. `message` may be shown to the caller; `cause` never is. */
export class BrokerError extends Error {
  readonly code: Code
  constructor(code: Code, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'BrokerError'
    this.code = code
  }
}

/** Somebody else changed at the same time what was to be changed. */
export function isConflict(error: unknown): boolean {
  return error instanceof BrokerError && error.code === 'conflict'
}
