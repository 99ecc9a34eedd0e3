/** Why a sealed token opens nothing. `told` false: the caller hears of all of these the same, so that none is an oracle; the audit log has the code. */
export const sealRefusals = {
  TOKEN_FORM: row(false, 'it is no sealed token', 'send the token as it was given out'),
  TOKEN_KEY: row(false, 'it names a key that does not sign sealed tokens', 'ask for a new credential'),
  TOKEN_SIGNATURE: row(false, 'its signature does not verify', 'ask for a new credential'),
  TOKEN_CLAIMS: row(false, 'its claims are not those of a sealed token', 'ask for a new credential'),
  TOKEN_CERTIFICATE: row(
    false,
    'it belongs to another certificate than that of the connection',
    'connect with the certificate that it was sealed to',
  ),
  TOKEN_SEAL: row(false, 'what it carries does not open', 'ask for a new credential'),
  TOKEN_EXPIRED: row(true, 'the sealed token is expired, or from the future', 'ask for a new credential'),
  TOKEN_REVOKED: row(
    true,
    'the sealed token, its agent or the policies it was issued under were revoked',
    'ask for a new credential',
  ),
  REVOCATIONS_STALE: row(true, 'it is not known what is revoked', 'try again later'),
} as const satisfies Record<string, { told: boolean; means: string; next: string }>
export type SealRefusal = keyof typeof sealRefusals

function row(told: boolean, means: string, next: string) {
  return { told, means, next }
}
