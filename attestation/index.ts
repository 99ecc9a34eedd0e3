/** The door of the attestation floor: evidence, what we trust and what we expect go in, a verdict comes out. Pure: no clock, no I/O. */
export { type AkRules, type AttestationKey, admitAk } from './attestation_key.ts'
export { type BoundRequest, contextOf, qualifyingData } from './binding.ts'
export { sharesPrime, weaknessOf } from './certs/weak_keys.ts'
export type { Session } from './clock.ts'
export { type Credential, type CredentialInput, makeCredential } from './credential.ts'
export { admitEk, type EkKind, type EndorsementKey, ekKinds, tpmIdOf } from './endorsement.ts'
export { type PcrTable, parsePcrTable } from './pcr_table.ts'
export { type Bank, banks, type ReferenceSet, type ReferenceValues, type Selection } from './pcrs.ts'
export { type Hierarchy, hierarchies, qualifiedNameOf } from './qualified_name.ts'
export { authenticate, type Expected, type QuoteClaims, type QuoteEvidence, verifyQuote } from './quote.ts'
export { type Family, type Refusal, refusals } from './refusals.ts'
export { refusalsTable } from './refusals_table.ts'
export { type BankSelection, type Clock, parseQuote, type Quote } from './tpm2/attest.ts'
export { parse, Reader, Writer } from './tpm2/bytes.ts'
export { alg, attestType, attribute, type Curve, curves, GENERATED, type Hash, handle, hashes, hashOf } from './tpm2/constants.ts'
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
export type { SignatureScheme } from './tpm2/signature.ts'
export { accept, type Rejection, reject, type Verdict } from './verdict.ts'
export { type EkEvidence, type EkRules, type VerifiedEk, verifyEk } from './verify_ek.ts'
