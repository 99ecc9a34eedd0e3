import { accept, reject } from '#attestation'
import type { Metadata } from '../attest/login.ts'
import { ALWAYS, windowOf, within } from '../attest/references.ts'
import { type AttestSettings, isFor } from '../attest/settings.ts'
import type { Mount } from '../mount_table.ts'
import type { Verdict } from '../refusals.ts'
import type { World } from '../world.ts'
import type { Lifecycle } from './lifecycle.ts'
import type { MachineRecord } from './machine.ts'
import { appraiseStanding, isUnmoved } from './standing.ts'

/** What stands behind a token, whenever it asks for something. */
export type Sessions = {
  /** Whether the machine, its login role and the reference values that it met are still what they were at login. @param fresh a quote came with the request */
  readonly appraise: (login: Mount, meta: Metadata, fresh: boolean) => Promise<Verdict<Session>>
  /** Looks again, past the cache, right before something is issued. */
  readonly still: (session: Session) => Promise<Verdict<undefined>>
}
export type Session = {
  readonly login: Mount
  readonly tpmId: string
  readonly machine: MachineRecord
  /** whole seconds until the attestation is older than the login role allows, or until the set of reference values that it stands on ends; Infinity without a limit */
  readonly attestationLeftSeconds: number
}

type Parts = {
  readonly lifecycle: Pick<Lifecycle, 'standing' | 'look'>
  readonly settings: Pick<AttestSettings, 'role' | 'reference'>
  readonly world: Pick<World, 'now'>
}

export function openSessions({ lifecycle, settings, world }: Parts): Sessions {
  return {
    appraise: async (login, meta, fresh) => {
      const { tpm_id: tpmId, login_role, reference } = meta
      const [machine, role, set] = await Promise.all([
        lifecycle.standing(login, tpmId),
        settings.role.get(login.id, login_role),
        settings.reference.get(login.id, reference),
      ])
      if (!role || role.disabled) return reject('ROLE_DISABLED', login_role)
      if (!isFor(role, tpmId)) return reject('ROLE', 'the role does not list this TPM any more')
      // the quote of the request was compared with what counts now
      if (!fresh && (!set || set.disabled)) return reject('REFERENCE_DISABLED', reference)
      const window = fresh || !set ? ALWAYS : windowOf(set)
      if (!within(window, world.now())) return reject('REFERENCE_WINDOW', `${reference} does not count any more`)
      const ageSeconds = Math.max(0, Math.floor(world.now() / 1000) - Number(meta.attested_at))
      const standing = appraiseStanding(machine, { epoch: Number(meta.epoch || 0), ageSeconds, fresh }, role.max_attestation_age)
      if (!standing.ok) return standing
      const limit = role.max_attestation_age || Number.POSITIVE_INFINITY
      const left = Math.min(fresh ? limit : limit - ageSeconds, Math.floor((window.until - world.now()) / 1000))
      return accept({ login, tpmId, machine, attestationLeftSeconds: left })
    },
    still: async ({ login, tpmId, machine }) => {
      const now = await lifecycle.look(login, tpmId)
      if (isUnmoved(machine, now)) return accept(undefined)
      return reject('STALE_EPOCH', `the machine was of epoch ${machine.epoch}, is of ${now.epoch}`)
    },
  }
}
