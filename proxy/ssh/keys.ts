import { createPublicKey, type KeyObject, sign as signBytes, verify as verifyBytes } from 'node:crypto'
import { readable, readSsh, sshStrings } from '#engine'

/** How signatures of one kind are made: hash, and what of the key. @see RFC 8709 (Ed25519), RFC 5656 (ECDSA), RFC 8332 (RSA with SHA-2) */
const SIGNATURES: Readonly<Record<string, { readonly key: string; readonly hash: string | null; readonly size?: number }>> = {
  'ssh-ed25519': { key: 'ssh-ed25519', hash: null },
  'ecdsa-sha2-nistp256': { key: 'ecdsa-sha2-nistp256', hash: 'sha256', size: 32 },
  'ecdsa-sha2-nistp384': { key: 'ecdsa-sha2-nistp384', hash: 'sha384', size: 48 },
  'ecdsa-sha2-nistp521': { key: 'ecdsa-sha2-nistp521', hash: 'sha512', size: 66 },
  'rsa-sha2-256': { key: 'ssh-rsa', hash: 'sha256' },
  'rsa-sha2-512': { key: 'ssh-rsa', hash: 'sha512' },
}

const CURVES: Readonly<Record<string, string>> = { nistp256: 'P-256', nistp384: 'P-384', nistp521: 'P-521' }

/** Undefined for kinds that are not served, and for what is no key. */
export function publicKeyOf(blob: Buffer): KeyObject | undefined {
  const jwk = readable(() => jwkOf(blob))
  try {
    return jwk && createPublicKey({ key: jwk, format: 'jwk' })
  } catch {
    return undefined
  }
}

function jwkOf(blob: Buffer): Record<string, string> | undefined {
  const reader = readSsh(blob)
  const kind = reader.string().toString()
  const fields: Buffer[] = []
  while (reader.left() > 0) fields.push(reader.string())
  const [first, second] = fields
  if (kind === 'ssh-ed25519' && first && fields.length === 1)
    return { kty: 'OKP', crv: 'Ed25519', x: first.toString('base64url') }
  if (!first || !second || fields.length !== 2) return undefined
  if (kind === 'ssh-rsa')
    return { kty: 'RSA', e: unsigned(first).toString('base64url'), n: unsigned(second).toString('base64url') }
  const size = SIGNATURES[kind]?.size
  const crv = CURVES[first.toString()]
  // an uncompressed point
  if (size === undefined || kind !== `ecdsa-sha2-${first.toString()}` || crv === undefined) return undefined
  if (second.length !== 1 + 2 * size || second[0] !== 4) return undefined
  return { kty: 'EC', crv, x: second.toString('base64url', 1, 1 + size), y: second.toString('base64url', 1 + size) }
}

/** Whether the key of this blob made the signature, a blob too, over the data. SHA-1 does not count. */
export function verifies(blob: Buffer, data: Buffer, signature: Buffer): boolean {
  const key = publicKeyOf(blob)
  const found = readable(() => {
    const [keyed, reader] = [readSsh(blob).string().toString(), readSsh(signature)]
    const [name, bytes] = [reader.string().toString(), reader.string()]
    const way = SIGNATURES[name]
    return reader.left() === 0 && way?.key === keyed ? { way, bytes } : undefined
  })
  if (!key || !found) return false
  const { hash, size } = found.way
  const bytes = size === undefined ? found.bytes : readable(() => fromIntegers(found.bytes, size))
  return bytes !== undefined && verifyBytes(hash, data, { key, dsaEncoding: 'ieee-p1363' }, bytes)
}

/** A signature as SSH writes it. @param name of a kind of signature that the key can make */
export function sign(name: string, key: KeyObject, data: Buffer): Buffer {
  const way = SIGNATURES[name]
  if (!way) throw new Error('no kind of signature')
  const bytes = signBytes(way.hash, data, { key, dsaEncoding: 'ieee-p1363' })
  return sshStrings(name, way.size === undefined ? bytes : toIntegers(bytes, way.size))
}

/** The kind of signature that is asked for with a certificate of this kind, and the flags of an agent's request. @see draft-miller-ssh-agent, 4.5.1 */
export function signatureFor(certificateKind: string, flags: number): string | undefined {
  const kind = certificateKind.replace('-cert-v01@openssh.com', '')
  if (kind !== 'ssh-rsa') return SIGNATURES[kind] && kind
  return flags & 4 ? 'rsa-sha2-512' : flags & 2 ? 'rsa-sha2-256' : undefined
}

/** Without the zero that keeps a number from being negative. */
const unsigned = (bytes: Buffer) => (bytes[0] === 0 ? bytes.subarray(1) : bytes)

/** Two numbers, each of the size of the curve, from how SSH writes numbers (`mpint`), and back. */
function fromIntegers(bytes: Buffer, size: number): Buffer | undefined {
  const reader = readSsh(bytes)
  const both = [reader.string(), reader.string()].map(unsigned)
  if (reader.left() > 0 || both.some(one => one.length > size)) return undefined
  return Buffer.concat(both.flatMap(one => [Buffer.alloc(size - one.length), one]))
}

function toIntegers(bytes: Buffer, size: number): Buffer {
  const both = [bytes.subarray(0, size), bytes.subarray(size)].map(one => {
    const from = one.findIndex(byte => byte !== 0)
    const short = one.subarray(from === -1 ? size : from)
    return (short[0] ?? 0) < 0x80 ? short : Buffer.concat([Buffer.alloc(1), short])
  })
  return sshStrings(...both)
}
