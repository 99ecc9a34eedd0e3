/** The door of the attestation floor: evidence, what we trust and what we expect go in, a verdict comes out. Pure: no clock, no I/O. */
export { type AkRules, type AttestationKey, admitAk } from './attestation_key.ts'
export { type BoundRequest, contextOf, qualifyingData } from './binding.ts'
export { type KeyEvidence, type KeyRules, verifyCertifiedKey } from './certified_key.ts'
export { type Certificate, isCertificate, publicKeyOf, readCertificate } from './certs/certificate.ts'
export { type RevocationList, readRevocationList } from './certs/crl.ts'
export { readEkCertificate } from './certs/ek_certificate.ts'
export { lookUpAgain } from './certs/known_path.ts'
export { isAmong } from './certs/makers.ts'
export { type Trust, validatePath } from './certs/path.ts'
export { type RevocationPolicy, revocationPolicies } from './certs/revocation.ts'
export { successionFault } from './certs/succession.ts'
export { sharesPrime, weaknessOf } from './certs/weak_keys.ts'
export { bootClaimsOf, eatClaims, eatOfDocument, hexOf } from './claims.ts'
export type { Session } from './clock.ts'
export { type Credential, type CredentialInput, makeCredential } from './credential.ts'
export { admitEk, type EkKind, type EndorsementKey, ekKinds, ekProfile, tpmIdOf } from './endorsement.ts'
export { appraiseEventLogs, type LogRules } from './eventlog/appraisal.ts'
export type { BootClaims } from './eventlog/boot_claims.ts'
export { type EventLog, type LogFormat, type PcrEvent, parseEventLog } from './eventlog/event_log.ts'
export { type ImaEntry, type ImaEntryRules, readImaEntry } from './eventlog/ima_entry.ts'
export { appraiseImaList, type ImaClaims, type ImaFile, type ImaRules, type Rounds } from './eventlog/ima_list.ts'
export type { ImaTemplate } from './eventlog/ima_template.ts'
export { replayEventLog } from './eventlog/replay.ts'
export type { Database, DatabaseClaims, DatabaseEntry } from './eventlog/secure_boot.ts'
export type { DocumentClaims, ExpectedDocument, Format } from './formats/format.ts'
export { formats } from './formats/index.ts'
export { type PcrBank, type PcrTable, parsePcrTable } from './pcr_table.ts'
export { type Bank, banks, isReset, type ReferenceSet, type ReferenceValues, type Selection } from './pcrs.ts'
export { type Hierarchy, hierarchies, qualifiedNameOf } from './qualified_name.ts'
export { authenticate, type Expected, type QuoteClaims, type QuoteEvidence, verifyQuote } from './quote.ts'
export { appraiseReferences, type Logs, type Quoted, type Reference, type Shown } from './reference/appraisal.ts'
export type { BootRules } from './reference/boot_rules.ts'
export type { CommandLineRules } from './reference/command_line.ts'
export { type Corim, type CorimKey, verifyCorim } from './reference/corim.ts'
export { type FileList, readFileList } from './reference/file_list.ts'
export type { ImaReference, ImaSummary } from './reference/ima_rules.ts'
export { type Family, type Refusal, refusals } from './refusals.ts'
export { refusalsTable } from './refusals_table.ts'
export { sameBytes } from './same_bytes.ts'
export { thumbprintOf } from './thumbprint.ts'
export { type BankSelection, type Clock, parseQuote, type Quote } from './tpm2/attest.ts'
export { parse, Reader, Writer } from './tpm2/bytes.ts'
export {
  alg,
  attestType,
  attribute,
  type Curve,
  curves,
  GENERATED,
  type Hash,
  handle,
  hashes,
  hashOf,
  PCRS,
} from './tpm2/constants.ts'
export { kdfa, kdfe } from './tpm2/kdf.ts'
export {
  type EccPublic,
  jwkOf,
  keyObjectOf,
  nameOf,
  type Public,
  parsePublic,
  type RsaPublic,
  type Scheme,
  type Symmetric,
  spkiOf,
} from './tpm2/public.ts'
export { type SignatureScheme, type SigningKey, verifySignature } from './tpm2/signature.ts'
export { accept, type Rejection, reject, type Verdict } from './verdict.ts'
export { type EkEvidence, type EkRules, type VerifiedEk, verifyEk } from './verify_ek.ts'
