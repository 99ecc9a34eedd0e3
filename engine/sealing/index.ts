/** Sealed tokens: what carries the real credential and is worth something only in the right hands, at the proxy, on the way to the right place. */
export { admits, type Destination, type DestinationRule, parseAuthority, parseRule, patternOf, ruleText } from './destination.ts'
export { type SealingMode, sealingModes } from './keys.ts'
export { type Holder, type Opened, type Opener, openOpener, type SealVerdict } from './open.ts'
export { type SealRefusal, sealRefusals } from './refusals.ts'
export { type Revocations, type RevocationWatch, watchRevocations } from './revocations.ts'
