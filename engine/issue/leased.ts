import { createHash } from 'node:crypto'
import { BrokerError } from '../errors.ts'
import type { Credential, Grant } from '../issuers/index.ts'
import type { Keep } from '../issuers/issuer.ts'
import { NothingDone } from '../issuers/outbound.ts'
import { ExchangeRefusal, Unwanted } from '../issuers/refusal.ts'
import type { Begun } from '../leases/begin.ts'
import type { Handle } from '../leases/lease.ts'
import type { Leases } from '../leases/service.ts'
import type { Mount, MountTable } from '../mount_table.ts'
import type { Secret } from '../secret.ts'
import type { TokenFacts } from '../vault/authority.ts'
import { type Vault, VaultRefusal } from '../vault/client.ts'
import type { World } from '../world.ts'
import { openRecent } from './recent.ts'
import { keyOf } from './reuse.ts'

/** Who asks, and what makes two of their requests the same. */
export type Asker = {
  readonly token: Secret
  readonly accessor: string
  /** name of the role, as it was asked */
  readonly role: string
  /** the token had one use, and it is spent */
  readonly lastUse: boolean
  readonly request: string
}

/** Where a credential comes from, and for how long it may be renewed. */
type From = {
  readonly mount: Mount
  readonly issuer: string
  readonly integration: string
  readonly maxTtlSeconds: number
  /** an engine of Vault, which keeps the lease */
  readonly engine?: true | undefined
  /** everything that was decided: what is narrower now gets nothing of what was given before */
  readonly decision: object
}

/** Makes a credential that can be revoked under a lease: what it is known by is durable before its provider is called, and whoever asks the same
 *  again within a minute gets the same, or what they got before is revoked first. */
export type Leased = (from: From, grant: Grant, asker: Asker, make: Make) => Promise<Credential>
type Make = (keep?: Keep) => Promise<Credential>

/** Vault's own words. */
const LAST_USE = 'Secret cannot be returned; token had one use left, so leased credentials were immediately revoked.'

export function openLeased(leases: Leases, mounts: Pick<MountTable, 'still'>, vault: Vault, world: World): Leased {
  const lives = async ({ credential: { lease, expiresAt }, token }: Answer) => {
    if (!lease || expiresAt <= world.now() / 1000) return false
    const ours = await leases.lookup(lease.id)
    return ours ? ours.state === 'active' : livesAtVault(vault, lease.id, token)
  }
  const recent = openRecent<Answer>(world.monotonic, lives)
  return async (from, grant, asker, make) => {
    if (asker.lastUse) throw new BrokerError('bad_request', LAST_USE)
    const issue = () => (from.engine ? underToken : underLease)(leases, mounts, from, grant, asker, make)
    const question = `${asker.request} ${keyOf(from.decision)}`
    const { credential } = await recent.once(question, async () => ({ credential: await issue(), token: asker.token }))
    // of one that was given before a part of its life is over
    const left = credential.expiresAt - grant.issuedAt
    return credential.lease && credential.lease.durationSeconds > left
      ? { ...credential, lease: { ...credential.lease, durationSeconds: left } }
      : credential
  }
}

type Answer = { readonly credential: Credential; readonly token: Secret }

/** Of a lease of Vault's own, as whoever got it sees it: gone is only what Vault says is. */
async function livesAtVault(vault: Vault, leaseId: string, as: Secret): Promise<boolean> {
  try {
    await vault.write('sys/leases/lookup', { lease_id: leaseId }, { as })
    return true
  } catch (error) {
    return !(error instanceof VaultRefusal && error.status === 400)
  }
}

type Still = Pick<MountTable, 'still'>

async function underLease(
  leases: Leases,
  mounts: Still,
  from: From,
  grant: Grant,
  asker: Asker,
  make: Make,
): Promise<Credential> {
  const begun = await begin(leases, mounts, from, grant, asker)
  const credential = await make().catch((error: unknown) => failed(leases, begun, error))
  if (!credential.handle) {
    await begun.abandon(true)
    return credential
  }
  const { leaseId, expiresAt, issuedAt, maxExpiresAt } = await begun.confirm(credential.handle, credential.expiresAt)
  const durationSeconds = expiresAt - issuedAt
  const lease = { id: leaseId, durationSeconds, renewable: maxExpiresAt > expiresAt }
  return { ...credential, expiresAt: Math.min(credential.expiresAt, grant.issuedAt + durationSeconds), lease }
}

/** Of an engine the lease is Vault's, and hangs under a token that was made for it. Ours is for that token: so that another replica, or this one after
 *  it died, ends it before it makes a second. Vault ends it with the token of who asks: nobody has to watch that. */
async function underToken(
  leases: Leases,
  mounts: Still,
  from: From,
  grant: Grant,
  asker: Asker,
  make: Make,
): Promise<Credential> {
  let begun: Begun | undefined
  const unwatched = { ...asker, accessor: '' }
  const credential = await make(async under => {
    begun = await begin(leases, mounts, { ...from, maxTtlSeconds: grant.ttlSeconds }, grant, unwatched, under)
  }).catch((error: unknown) => failed(leases, begun, error))
  if (credential.handle && credential.lease) await begun?.confirm(credential.handle, credential.expiresAt)
  else await begun?.abandon(true)
  return credential
}

async function begin(
  leases: Leases,
  mounts: Still,
  from: From,
  { tpmId, txn, ttlSeconds }: Grant,
  { accessor, role, request }: Asker,
  under?: Handle,
): Promise<Begun> {
  const asked = { ...from, accessor, request, path: `creds/${role}`, role, tpmId, txn, ttlSeconds }
  const begun = await leases.begin({ ...asked, ...(under ? { under } : {}) })
  // whoever disables or moves the mount ends what has a lease by then: what has one only now is not made
  if (await mounts.still(from.mount)) return begun
  await begun.abandon(true)
  throw new BrokerError('unavailable', 'the mount is being disabled or moved')
}

async function failed(leases: Leases, begun: Begun | undefined, error: unknown): Promise<never> {
  // what nobody gets is revoked like any other, until it is done
  if (begun && error instanceof Unwanted)
    await leases.revoke((await begun.confirm(error.handle, Number.POSITIVE_INFINITY)).leaseId)
  // what a provider refused it did not make; what did not answer may have made it
  else await begun?.abandon(error instanceof ExchangeRefusal || error instanceof NothingDone)
  throw error
}

type Sent = {
  readonly role: string
  readonly token: Secret
  readonly taskToken: Secret | undefined
  readonly evidence: { readonly challenge: Buffer } | undefined
}

/** Everything that the client sent, and who it is: the clients of Vault send a request again when they heard nothing, and do not say so. A quote
 *  answers one challenge, so a request with a quote is like no other. */
export function askerOf(mount: Mount, { accessor, numUses }: TokenFacts, request: Sent): Asker {
  const { token, taskToken, evidence, ...asked } = request
  const parts = [mount.id, accessor, token.reveal(), taskToken?.reveal() ?? '', evidence?.challenge.toString('base64') ?? '']
  const text = JSON.stringify([...parts, Object.entries(asked).toSorted(([a], [b]) => (a < b ? -1 : 1))])
  return {
    token,
    accessor,
    role: request.role,
    lastUse: numUses === 1,
    request: createHash('sha256').update(text).digest('base64url'),
  }
}
