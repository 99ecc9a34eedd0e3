import { BrokerError } from '../errors.ts'
import type { Credential } from '../issuers/index.ts'
import type { Leases } from '../leases/service.ts'
import type { MountTable } from '../mount_table.ts'
import type { Secret } from '../secret.ts'
import { type Vault, VaultRefusal } from '../vault/client.ts'
import type { World } from '../world.ts'
import { openRecent } from './recent.ts'
import { keyOf } from './reuse.ts'
import { type Order, openUnderLease } from './under_lease.ts'

/** Makes a credential under a lease; whoever asks the same again within a minute gets the same, or what they got before is revoked first.
 *  `decision`: everything that was decided. What is narrower now gets nothing of what was given before. */
export type Leased = (order: Order, decision: object) => Promise<Credential>

/** Vault's own words. */
const LAST_USE = 'Secret cannot be returned; token had one use left, so leased credentials were immediately revoked.'

export function openLeased(leases: Leases, mounts: Pick<MountTable, 'still'>, vault: Vault, world: World): Leased {
  const issue = openUnderLease(leases, mounts)
  const lives = async ({ credential: { lease, expiresAt }, token }: Answer) => {
    if (!lease || expiresAt <= world.now() / 1000) return false
    const ours = await leases.lookup(lease.id)
    return ours ? ours.state === 'active' : livesAtVault(vault, lease.id, token)
  }
  const recent = openRecent<Answer>(world.monotonic, lives)
  return async (order, decision) => {
    const { asker, grant } = order
    if (asker.lastUse) throw new BrokerError('bad_request', LAST_USE)
    const question = `${asker.request} ${keyOf(decision)}`
    const { credential } = await recent.once(question, async () => ({ credential: await issue(order), token: asker.token }))
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
