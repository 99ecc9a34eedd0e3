import type { EkKind } from '#attestation'

/** The endorsement keys that the EK Credential Profile has templates for, the usual one first. */
export const ekKinds = ['rsa-2048', 'p-256', 'p-384'] as const satisfies readonly EkKind[]
export type { EkKind }

/** How an attestation key may sign, the fastest first. */
export const akKinds = ['ecdsa-p256', 'ecdsa-p384', 'rsassa-2048', 'rsapss-2048'] as const
export type AkKind = (typeof akKinds)[number]
