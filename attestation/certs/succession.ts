import { type Certificate, readCertificate } from './certificate.ts'
import { type RevocationList, readRevocationList } from './crl.ts'
import { issuerOfList, namesOf } from './names.ts'
import { isSignedBy, type RevocationRules } from './revocation.ts'

type Ders = readonly Uint8Array[]
export type SuccessionRules = Pick<RevocationRules, 'allowSha1'> & {
  /** DER of the CAs that are known, of any names */
  readonly cas: Ders
}

/**
 * Why lists may not take the place of others unseen, in words, or undefined: whoever is on the way from where they are published could send what
 * takes back what was revoked, as lists of yesterday, which their CA has signed as well, or some that nobody has. So for each list that counted there has to be
 * one of the same CA and scope that is no older (RFC 5280 5.2.3), and signed by that CA, where it is known.
 */
export async function successionFault(before: Ders, after: Ders, rules: SuccessionRules): Promise<string | undefined> {
  for (const list of before.flatMap(readOrNone)) {
    const cas = certificatesNamed(list.issuer, rules.cas)
    const signers = await signersOf(list, cas, rules)
    if (cas.length > 0 && signers.length === 0) continue // it never counted
    const issued = after.filter(der => issuerOfList(der)?.equals(list.issuer)).flatMap(readOrNone)
    const alike = issued.filter(one => JSON.stringify(one.scope) === JSON.stringify(list.scope))
    if (alike.length === 0) return 'a list that was there before is missing'
    const current = alike.filter(one => !isOlder(one, list))
    if (current.length === 0) return 'a list is older than the one that was there before'
    const signed = await Promise.all(current.map(async one => (await signersOf(one, signers, rules)).length > 0))
    if (signers.length > 0 && !signed.includes(true)) return 'a list is not signed by the CA that signed the one before'
  }
  return undefined
}

function readOrNone(der: Uint8Array): RevocationList[] {
  const read = readRevocationList(der)
  return read.ok ? [read.value] : []
}

function certificatesNamed(name: Buffer, cas: Ders): Certificate[] {
  const read = cas.filter(der => namesOf(der)?.subject.equals(name)).map(der => readCertificate(der))
  return read.flatMap(one => (one.ok ? [one.value] : []))
}

async function signersOf(list: RevocationList, cas: readonly Certificate[], rules: SuccessionRules): Promise<Certificate[]> {
  const signed = await Promise.all(cas.map(ca => isSignedBy(list, ca, rules)))
  return cas.filter((_, at) => signed[at])
}

/** By their numbers where both are of the same moment: CAs have begun to count anew, and have given two on one day. */
function isOlder(one: RevocationList, other: RevocationList): boolean {
  const between = one.thisUpdate.getTime() - other.thisUpdate.getTime()
  return between < 0 || (between === 0 && one.number !== undefined && other.number !== undefined && one.number < other.number)
}
