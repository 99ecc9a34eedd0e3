import type { BoundRequest } from '#attestation'
import { BrokerError } from '../errors.ts'
import { confirmationOf, signJwt } from '../jwt.ts'
import type { Mount } from '../mount_table.ts'
import { type Vault, VaultRefusal, type VaultReply } from '../vault/client.ts'
import type { Store } from '../vault/store.ts'
import type { Signer } from '../vault/transit.ts'
import type { CallOptions } from '../vault/transport.ts'
import type { World } from '../world.ts'
import type { Attested } from './appraise.ts'
import { metadataOfState } from './machine_state.ts'
import { hex } from './records.ts'

/** The way from an attestation result to a real Vault token: a 30-second JWT, signed inside transit, for the `jwt` mount behind ours. */
export type TokenDoor = {
  /** Makes the key and tells the `jwt` mount to trust it, with the operator's own token. */
  readonly open: (mount: Mount, as: CallOptions) => Promise<void>
  readonly close: (mount: Mount) => Promise<void>
  readonly login: (mount: Mount, attested: Attested, request: BoundRequest, how: CallOptions) => Promise<VaultReply>
}

/** Facts of a login that become the token's metadata, where `creds` reads them again: strings only. */
export const METADATA = [
  'tpm_id',
  // `role` is the jwt method's own
  'login_role',
  'ak_name',
  'key_thumbprint',
  'maker',
  'reference',
  'reference_version',
  'secure_boot',
  'boot_log',
  'ima',
  'reset_count',
  'restart_count',
  'firmware_version',
  'attested_at',
  'epoch',
  'key_certified',
  // Vault's metadata keys have no `#`
  'x5t_s256',
] as const
export type Metadata = Readonly<Record<(typeof METADATA)[number], string>>

const ISSUER = 'assay'
const LIFE_SECONDS = 30
// hosts differ by a little: the JWT starts to live some seconds ago
const SKEW_SECONDS = 5

const keyName = (mount: Mount) => `assay-login-${mount.id}`
const audienceOf = (mount: Mount) => `assay/${mount.id}`
/** The version that the `jwt` mount trusts: a key that was rotated behind our back goes on signing with this one until the mount is configured anew. */
const trustPath = (mount: Mount) => `${mount.id}/login`

export function openTokenDoor(vault: Vault, signer: Signer, store: Store, world: World): TokenDoor {
  return {
    open: async (mount, as) => {
      await signer.create(keyName(mount))
      const key = await signer.key(keyName(mount))
      await vault.write(
        `${mount.path}config`,
        { jwt_validation_pubkeys: key.versions.map(one => one.publicPem), bound_issuer: ISSUER },
        as,
      )
      await store.put(trustPath(mount), { version: key.latest.version })
    },
    close: async mount => {
      await signer.destroy(keyName(mount)).catch((error: unknown) => {
        world.log.warn({ error, mount: mount.path }, 'the login key of a disabled mount could not be destroyed')
      })
      await store.delete(trustPath(mount))
    },
    login: async (mount, attested, request, how) => {
      const jwt = await loginJwt(mount, attested, request)
      try {
        const reply = await vault.write(`${mount.path}login`, { role: request.role, jwt }, how)
        if (!reply?.auth && !reply?.wrap_info) throw new BrokerError('unavailable', 'vault answered a login without a token')
        return reply
      } catch (error) {
        if (!(error instanceof VaultRefusal)) throw error
        world.log.warn(
          { status: error.status, errors: error.errors, mount: mount.path },
          'vault refused the login of an attested machine',
        )
        throw new BrokerError('permission_denied', 'vault refused the login of this role', { cause: error })
      }
    },
  }

  async function loginJwt(mount: Mount, attested: Attested, request: BoundRequest): Promise<string> {
    const trusted = await store.get<{ version: number }>(trustPath(mount))
    const key = await signer.key(keyName(mount))
    const version = key.versions.find(one => one.version === trusted?.value.version)
    if (!version)
      throw new BrokerError(
        'unavailable',
        `the mount ${mount.path} trusts no version of its login key: write ${mount.path}config`,
      )
    return signJwt(signer, key, version, 'JWT', claimsOf(mount, attested, request, world))
  }
}

function claimsOf(mount: Mount, attested: Attested, request: BoundRequest, world: World): Record<string, unknown> {
  const start = Math.floor(world.now() / 1000)
  const { claims } = attested
  const metadata: Metadata = {
    tpm_id: attested.tpmId,
    login_role: request.role,
    ak_name: hex(attested.akName),
    key_thumbprint: request.keyThumbprint,
    maker: attested.maker,
    ...metadataOfState(attested),
    reset_count: String(claims.resetCount),
    restart_count: String(claims.restartCount),
    firmware_version: String(claims.firmwareVersion),
    attested_at: String(start),
    epoch: String(attested.epoch),
    key_certified: String(attested.key.certified),
    x5t_s256: attested.key.x5tS256,
  }
  const { thumbprint, x5tS256 } = attested.key
  const cnf = thumbprint ? { cnf: confirmationOf(thumbprint, x5tS256) } : {}
  const times = { iat: start - SKEW_SECONDS, nbf: start - SKEW_SECONDS, exp: start - SKEW_SECONDS + LIFE_SECONDS }
  return {
    iss: ISSUER,
    aud: audienceOf(mount),
    sub: attested.tpmId,
    ...times,
    ...attested.eat,
    ...cnf,
    ...metadata,
  }
}

/** The native role behind one of ours: who may log in by JWT is decided here, everything about the token is the operator's. */
export function nativeRole(mount: Mount, role: string): Readonly<Record<string, unknown>> {
  return {
    role_type: 'jwt',
    user_claim: 'sub',
    bound_audiences: [audienceOf(mount)],
    bound_claims: { login_role: role },
    claim_mappings: Object.fromEntries(METADATA.map(name => [name, name])),
    // Vault's defaults would let a 30-second JWT live for minutes
    expiration_leeway: 1,
    not_before_leeway: 1,
    clock_skew_leeway: 1,
  }
}
