import { isAmong, lookUpAgain } from '#attestation'
import { retryConflicts } from '../conflicts.ts'
import type { Lifecycle } from '../lifecycle/lifecycle.ts'
import type { Mount } from '../mount_table.ts'
import type { Store } from '../vault/store.ts'
import type { World } from '../world.ts'
import { type EndorsementRecord, endorsementFolder } from './records.ts'
import { type AttestConfig, type AttestSettings, configOf } from './settings.ts'
import type { Trust } from './trust.ts'

/** What became of endorsement certificates since their TPMs enrolled: makers revoke them, and CAs, later. */
export type Revoked = {
  /** The path that a TPM enrolled with: DER in base64, from its certificate to the anchor. */
  readonly keep: (mount: Mount, tpmId: string, path: readonly string[]) => Promise<void>
  /** Looks all TPMs of a mount up again, unless neither its lists nor their policy changed since. */
  readonly look: (mount: Mount) => Promise<void>
  /** Looks one TPM up that has just enrolled, as its certificate may have been revoked since it was shown, or whose record an operator wrote. */
  readonly isRevoked: (mount: Mount, tpmId: string) => Promise<boolean>
}

export type RevokedPorts = {
  readonly settings: AttestSettings
  readonly store: Store
  readonly trust: Pick<Trust, 'of'>
  readonly lifecycle: Pick<Lifecycle, 'end'>
  readonly world: Pick<World, 'now'>
}

/** Each time somebody else wrote the record of the TPM: there are not so many. */
const TRIES = 5

type Look = { readonly config: AttestConfig; readonly lists: readonly Buffer[] }

/** Of a TPM that is revoked its record says so, for every replica: what reads that record refuses it (`REVOKED`). */
export function openRevoked({ settings, store, trust, lifecycle, world }: RevokedPorts): Revoked {
  const at = (mount: Mount, tpmId: string) => endorsementFolder(mount.id) + tpmId
  /** what each mount was looked through with last */
  const looked = new Map<string, readonly unknown[]>()

  const lookNow = async (mount: Mount): Promise<Look> => {
    const config = await configOf(settings, mount)
    return { config, lists: (await trust.of(mount, config)).lists }
  }
  const lookAt = async (mount: Mount, tpmId: string, { config, lists }: Look): Promise<boolean> => {
    const tpm = await settings.tpm.get(mount.id, tpmId)
    const kept = tpm && (await store.fresh<EndorsementRecord>(at(mount, tpmId)))
    if (!kept) return false
    // that a list is missing or old was for the enrolment to judge: here only counts what a list says
    const revocation = config.crl === 'off' ? 'off' : 'soft'
    const rules = { at: new Date(world.now()), lists, revocation, allowSha1: isAmong(config.sha1_makers, tpm.maker) } as const
    const path = kept.value.path.map(der => Buffer.from(der, 'base64'))
    const found = await lookUpAgain(path, rules)
    const revoked = !found.ok && found.code === 'REVOKED'
    const changes = revoked !== (tpm.revocation === 'revoked')
    if (changes) await settings.tpm.write(mount.id, tpmId, { revocation: saidBy(found) })
    const { value, version } = kept
    if (!changes && revoked === (value.ended ?? false)) return revoked
    if (revoked) await lifecycle.end(mount, tpmId, 'revoked')
    // on record once it is done, so that it is done again when this does not come to its end
    await store.put(at(mount, tpmId), { ...value, ended: revoked } satisfies EndorsementRecord, version)
    return revoked
  }
  const settled = (mount: Mount, tpmId: string, look: Look) => retryConflicts(TRIES, () => lookAt(mount, tpmId, look))
  return {
    keep: (mount, tpmId, path) => store.put(at(mount, tpmId), { path } satisfies EndorsementRecord),
    look: async mount => {
      const look = await lookNow(mount)
      const now = [look.config.crl, look.config.sha1_makers.join(), look.lists]
      if (looked.get(mount.id)?.every((one, place) => one === now[place])) return
      for (const tpmId of await settings.tpm.list(mount.id)) await settled(mount, tpmId, look)
      looked.set(mount.id, now)
    },
    isRevoked: async (mount, tpmId) => settled(mount, tpmId, await lookNow(mount)),
  }
}

function saidBy(found: Awaited<ReturnType<typeof lookUpAgain>>): string {
  if (found.ok) return found.value.revocation
  return found.code === 'REVOKED' ? 'revoked' : 'unknown'
}
