import type { Lifecycle } from '../lifecycle/lifecycle.ts'
import type { Login } from '../lifecycle/logins.ts'
import type { Mount } from '../mount_table.ts'
import type { Verdict } from '../refusals.ts'
import type { VaultReply } from '../vault/client.ts'
import type { World } from '../world.ts'
import type { Attested } from './appraise.ts'

/** Of a token inside a wrapping nobody here knows how long it lives: Vault is asked for it soon. */
const UNKNOWN_SECONDS = 60

/** Puts a token on record before anybody gets it, so that it can be revoked when the machine reboots or fails. */
export function handOut(
  lifecycle: Lifecycle,
  world: World,
  mount: Mount,
  { tpmId, claims, epoch }: Attested,
  role: { readonly name: string; readonly revocable: boolean; readonly still: () => Promise<boolean> },
  reply: VaultReply,
): Promise<Verdict<undefined>> {
  const { accessor, lease_duration: life } = reply.auth ?? {}
  const wrapped = reply.wrap_info?.['wrapped_accessor']
  const login: Login = {
    accessor: text(accessor) || text(wrapped),
    role: role.name,
    reference: claims.reference,
    epoch,
    expires_at: Math.floor(world.now() / 1000) + (typeof life === 'number' ? life : UNKNOWN_SECONDS),
  }
  return lifecycle.hold(mount, tpmId, login, role.revocable, role.still)
}

const text = (value: unknown) => (typeof value === 'string' ? value : '')
