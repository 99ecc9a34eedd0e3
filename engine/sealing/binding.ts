import type { DestinationRule } from './destination.ts'

/** What a sealed token is good for, and in whose hands. */
export type Binding = {
  /** id of the mount that issued it */
  readonly tenant: string
  /** id of the TPM */
  readonly agent: string
  readonly plugin: string
  /** SHA-256 of the client certificate's DER, base64url (RFC 8705, 3.1) */
  readonly x5tS256: string
  readonly destinations: readonly DestinationRule[]
  readonly epoch: Epoch
}

/** Generations of the tenant and of the agent: a token of an earlier one is worth nothing. */
export type Epoch = readonly [tenant: number, agent: number]

/** What beside the binding the ciphertext is tied to. */
export type Frame = {
  /** transit key and version under which it is sealed, `assay-seal-v3` */
  readonly kid: string
  readonly jti: string
  /** seconds since the epoch */
  readonly exp: number
}

const FORM = 'assay sealed 1'

/** The authenticated data of the ciphertext: one canonical JSON array, so that no two bindings read alike. */
export function authenticatedData({ tenant, agent, plugin, x5tS256, destinations, epoch }: Binding, frame: Frame): Buffer {
  const places = destinations.map(({ scheme, host, port, methods, path }) => [scheme, host, port, methods, path])
  return Buffer.from(JSON.stringify([FORM, tenant, agent, plugin, x5tS256, places, epoch, frame.kid, frame.jti, frame.exp]))
}
