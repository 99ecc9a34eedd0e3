/** How many fields of the public key stand before the serial number, by kind of certificate (PROTOCOL.certkeys of OpenSSH). */
const KEY_FIELDS: Readonly<Record<string, number>> = {
  'ssh-rsa-cert-v01@openssh.com': 2,
  'ssh-ed25519-cert-v01@openssh.com': 1,
  'ecdsa-sha2-nistp256-cert-v01@openssh.com': 2,
  'ecdsa-sha2-nistp384-cert-v01@openssh.com': 2,
  'ecdsa-sha2-nistp521-cert-v01@openssh.com': 2,
  'sk-ssh-ed25519-cert-v01@openssh.com': 2,
  'sk-ecdsa-sha2-nistp256-cert-v01@openssh.com': 3,
}

/** When an OpenSSH certificate ends (`valid before`), in seconds since the epoch; undefined when it cannot be read or has no end. */
export function endOfCertificate(line: string): number | undefined {
  const [kind = '', blob = ''] = line.trim().split(/\s+/)
  const keyFields = KEY_FIELDS[kind]
  if (keyFields === undefined) return undefined
  const bytes = Buffer.from(blob, 'base64')
  try {
    // kind, nonce, key; serial (u64), type (u32); key id, principals; valid after (u64), valid before (u64)
    const afterKey = skip(bytes, 0, 2 + keyFields)
    const afterPrincipals = skip(bytes, afterKey + 8 + 4, 2)
    const end = bytes.readBigUInt64BE(afterPrincipals + 8)
    return end <= Number.MAX_SAFE_INTEGER ? Number(end) : undefined
  } catch (error) {
    if (error instanceof RangeError) return undefined
    throw error
  }
}

/** The place after so many strings, each behind its length (RFC 4251, 5). */
function skip(bytes: Buffer, from: number, strings: number): number {
  let at = from
  for (let left = strings; left > 0; left--) at += 4 + bytes.readUInt32BE(at)
  return at
}
