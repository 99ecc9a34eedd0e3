import { accept, allOf, type Verdict } from '../verdict.ts'
import { readCertificate } from './certificate.ts'
import type { Path } from './path_search.ts'
import { lookUp, type RevocationRules, type Unrevoked } from './revocation.ts'

/**
 * Looks a path up again that was found valid before, as makers revoke after a TPM was enrolled: in the lists of today, whatever
 * became of its dates meanwhile.
 * @param path DER, from the certificate in question to the trust anchor
 * @returns REVOKED or NO_CRL when refused, and what `readCertificate` returns of bytes that are no certificate
 */
export async function lookUpAgain(path: readonly Uint8Array[], rules: RevocationRules): Promise<Verdict<Unrevoked>> {
  const read = allOf(path.map(readCertificate))
  if (!read.ok) return read
  const found = await lookUp(read.value as unknown as Path, rules)
  return 'code' in found ? found : accept(found)
}
