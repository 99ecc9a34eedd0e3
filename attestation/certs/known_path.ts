import { accept, type Rejection, type Verdict } from '../verdict.ts'
import { type Certificate, readCertificate } from './certificate.ts'
import type { Path } from './path_search.ts'
import { lookUp, type RevocationRules, type Unrevoked } from './revocation.ts'

/**
 * Looks a path up again that was found valid before, as makers revoke after a TPM was enrolled: in the lists of today, whatever
 * became of its dates meanwhile.
 * @param path DER, from the certificate in question to the trust anchor
 * @returns REVOKED or NO_CRL when refused, and what `readCertificate` returns of bytes that are no certificate
 */
export async function lookUpAgain(path: readonly Uint8Array[], rules: RevocationRules): Promise<Verdict<Unrevoked>> {
  const read = path.map(der => readCertificate(der))
  const fault = read.find((one): one is Rejection => !one.ok)
  if (fault) return fault
  const certificates = read.flatMap(one => (one.ok ? [one.value] : [])) as [Certificate, Certificate, ...Certificate[]]
  const found = await lookUp(certificates satisfies Path, rules)
  return 'code' in found ? found : accept(found)
}
