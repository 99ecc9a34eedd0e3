import { explain, hex } from './response_codes.ts'

/** What goes wrong between this program and the TPM, besides what the TPM itself answers. */
export type TransportFault =
  | 'SPEC' // the text that names the TPM is not understood
  | 'UNREACHABLE' // nothing there, or no right to open it
  | 'DEADLINE' // no answer in time
  | 'CLOSED' // the connection is gone
  | 'MALFORMED' // the answer is not a TPM response
  | 'RESPONSE_HMAC' // the answer was changed on its way
  | 'MISSING' // the TPM works and lacks what is needed
  | 'PCR_UNSTABLE' // PCRs change faster than they are read

/** Trouble with a TPM. `code` is the TPM_RC, 0 when the TPM did not answer with one; `symbol` is `TPM_RC_...` or a `TransportFault`. */
export class TpmError extends Error {
  readonly code: number
  readonly symbol: string
  constructor(code: number, symbol: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'TpmError'
    this.code = code
    this.symbol = symbol
  }
}

/** The TPM answered a command with something else than success. */
export function refused(command: string, code: number): TpmError {
  const { symbol, sentence } = explain(code)
  return new TpmError(code, symbol, `TPM2_${command}: ${sentence} [${symbol}, ${hex(code)}]`)
}

export function fault(symbol: TransportFault, message: string, cause?: unknown): TpmError {
  return new TpmError(0, symbol, message, cause === undefined ? undefined : { cause })
}
