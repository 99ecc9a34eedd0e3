/** Sealed tokens: what carries the real credential and is worth something only in the right hands, at the proxy, on the way to the right place. */
export type { Binding, Epoch } from './binding.ts'
export { type Deliver, openDeliver, rulesOf } from './deliver.ts'
export { admits, type Destination, type DestinationRule, fits, parseAuthority, parseRule, ruleText } from './destination.ts'
export { type SealingMode, sealingModes } from './keys.ts'
export { type Holder, type Opened, type Opener, openOpener, type SealVerdict } from './open.ts'
export { type SealRefusal, sealRefusals } from './refusals.ts'
export { openRevocations, type Revocations, type RevocationWatch, watchRevocations } from './revocations.ts'
export { openSealer, type Sealed, type Sealer, type ToSeal } from './seal.ts'
