import { type AlgorithmIdentifier, RSASSAPSSParams } from 'pkijs'

/** Signature algorithms by OID: the hash, or that it is in the parameters. */
const signatureHash = new Map<string, string>([
  ['1.2.840.113549.1.1.4', 'md5'],
  ['1.2.840.113549.1.1.5', 'sha1'],
  ['1.2.840.113549.1.1.11', 'sha256'],
  ['1.2.840.113549.1.1.12', 'sha384'],
  ['1.2.840.113549.1.1.13', 'sha512'],
  ['1.2.840.10045.4.1', 'sha1'],
  ['1.2.840.10045.4.3.2', 'sha256'],
  ['1.2.840.10045.4.3.3', 'sha384'],
  ['1.2.840.10045.4.3.4', 'sha512'],
])
const RSASSA_PSS = '1.2.840.113549.1.1.10'
const pssHash = new Map<string, string>([
  ['1.3.14.3.2.26', 'sha1'],
  ['2.16.840.1.101.3.4.2.1', 'sha256'],
  ['2.16.840.1.101.3.4.2.2', 'sha384'],
  ['2.16.840.1.101.3.4.2.3', 'sha512'],
])

/** Hashes for which somebody may have made another document; SHA-1 where it is not allowed. */
export function isWeak(hash: string | undefined, allowSha1 = false): boolean {
  return hash === 'md5' || (hash === 'sha1' && !allowSha1)
}

/** What a certificate or list was signed over a digest of, or undefined for what is not accepted anywhere. */
export function signatureHashOf({ algorithmId, algorithmParams }: AlgorithmIdentifier): string | undefined {
  if (algorithmId !== RSASSA_PSS) return signatureHash.get(algorithmId)
  try {
    return pssHash.get(new RSASSAPSSParams({ schema: algorithmParams }).hashAlgorithm.algorithmId)
  } catch {
    return undefined
  }
}
