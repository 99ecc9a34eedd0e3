/** What authorises one use of a handle in one command, or protects its parameters (TPM 2.0 Library Part 1, "Authorizations and Sessions"). */
export interface Authorization {
  /** of the session, or TPM_RH_PW */
  readonly handle: number
  /** TPMA_SESSION of this use */
  readonly attributes: number
  /** The caller's nonce of this command, new for each; empty for a password. */
  nonce(): Buffer
  /** Encrypts the first parameter, which is a TPM2B; called when `attributes` has `decrypt`. */
  encrypt(parameters: Buffer): Buffer
  /** TPMS_AUTH_COMMAND.hmac @param parameterHash cpHash */
  prove(parameterHash: Buffer): Buffer
  /** Takes the TPM's answer and checks its HMAC. @param parameterHash rpHash @throws TpmError of RESPONSE_HMAC */
  check(answer: Answer, parameterHash: Buffer): void
  /** Decrypts the first parameter of the response; called after `check` when `attributes` has `encrypt`. */
  decrypt(parameters: Buffer): Buffer
}

/** TPMS_AUTH_RESPONSE */
export type Answer = { readonly nonce: Buffer; readonly attributes: number; readonly hmac: Buffer }
