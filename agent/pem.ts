/** PEM (RFC 7468). */
export function pemOf(label: 'CERTIFICATE' | 'CERTIFICATE REQUEST' | 'TSS2 PRIVATE KEY', der: Uint8Array): string {
  const lines = Buffer.from(der)
    .toString('base64')
    .replaceAll(/.{64}(?=.)/g, '$&\n')
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`
}
