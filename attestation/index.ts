/** The door of the attestation floor: evidence, what we trust and what we expect go in, a verdict comes out. Pure: no clock, no I/O. */
export { type BoundRequest, contextOf, qualifyingData } from './binding.ts'
export { type Family, type Refusal, refusals } from './refusals.ts'
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
export { accept, type Rejection, reject, type Verdict } from './verdict.ts'
