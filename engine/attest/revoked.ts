import { lookUpAgain } from '#attestation'
import { isConflict } from '../errors.ts'
import type { Lifecycle } from '../lifecycle/lifecycle.ts'
import type { Mount } from '../mount_table.ts'
import type { Store } from '../vault/store.ts'
import type { World } from '../world.ts'
import { type AttestConfig, type AttestSettings, configOf } from './settings.ts'
import type { Trust } from './trust.ts'

/** What became of endorsement certificates since their TPMs enrolled: makers revoke them, and CAs, later. */
export type Revoked = {
  /** The path that a TPM enrolled with: DER in base64, from its certificate to the anchor. */
  readonly keep: (mount: Mount, tpmId: string, path: readonly string[]) => Promise<void>
  /** Looks all TPMs of a mount up again, unless neither its lists nor their policy changed since. What was revoked is let in again when
   *  current lists of all of its CAs say so. @param ordered an operator changed them: then it is when no list speaks against it */
  readonly look: (mount: Mount, ordered?: boolean) => Promise<void>
  /** Looks one TPM up that has just enrolled: its certificate may have been revoked since it was shown. */
  readonly isRevoked: (mount: Mount, tpmId: string) => Promise<boolean>
}

export type RevokedPorts = {
  readonly settings: AttestSettings
  readonly store: Store
  readonly trust: Pick<Trust, 'of'>
  readonly lifecycle: Pick<Lifecycle, 'end'>
  readonly world: Pick<World, 'now'>
}

type Look = { readonly config: AttestConfig; readonly lists: readonly Buffer[]; readonly ordered: boolean }
type PathRecord = { readonly path: readonly string[]; readonly ended?: boolean }

/** Of a TPM that is revoked its record says so, for every replica: what reads that record refuses it (`REVOKED`). */
export function openRevoked({ settings, store, trust, lifecycle, world }: RevokedPorts): Revoked {
  const at = (mount: Mount, tpmId: string) => `${mount.id}/endorsement/${tpmId}`
  /** what each mount was looked through with last */
  const looked = new Map<string, readonly unknown[]>()

  const lookAt = async (mount: Mount, tpmId: string, { config, lists, ordered }: Look): Promise<boolean> => {
    const tpm = await settings.tpm.get(mount.id, tpmId)
    const kept = tpm && (await store.fresh<PathRecord>(at(mount, tpmId)))
    if (!kept) return false
    const rules = { at: new Date(world.now()), lists, allowSha1: config.sha1_makers.includes(tpm.maker) }
    const path = kept.value.path.map(der => Buffer.from(der, 'base64'))
    // that a list is missing or old was for the enrolment to judge: here only counts what a list says
    const found = config.crl === 'off' ? undefined : await lookUpAgain(path, { ...rules, revocation: 'soft' })
    const speaks = found?.ok === false && found.code === 'REVOKED'
    const was = tpm.revocation === 'revoked'
    // a list that says nothing, as whoever is between us and its host may have put there, takes nothing back
    const revoked = speaks || (was && !ordered && found?.ok === true && found.value.revocation !== 'checked')
    if (revoked !== was) await settings.tpm.write(mount.id, tpmId, { revocation: revoked ? 'revoked' : saidBy(found) })
    const { value, version } = kept
    if (revoked === (value.ended ?? false)) return revoked
    if (revoked) await lifecycle.end(mount, tpmId, 'revoked')
    // on record once it is done, so that it is done again when this does not come to its end
    await store.put(at(mount, tpmId), { ...value, ended: revoked } satisfies PathRecord, version)
    return revoked
  }
  const settled = async (mount: Mount, tpmId: string, look: Look, tries = 5): Promise<boolean> => {
    try {
      return await lookAt(mount, tpmId, look)
    } catch (error) {
      // somebody else wrote the record of the TPM
      if (tries === 1 || !isConflict(error)) throw error
      return settled(mount, tpmId, look, tries - 1)
    }
  }
  return {
    keep: (mount, tpmId, path) => store.put(at(mount, tpmId), { path } satisfies PathRecord),
    look: async (mount, ordered = false) => {
      const config = await configOf(settings, mount)
      const { lists } = await trust.of(mount, config)
      const now = [config.crl, lists]
      if (looked.get(mount.id)?.every((one, place) => one === now[place])) return
      for (const tpmId of await settings.tpm.list(mount.id)) await settled(mount, tpmId, { config, lists, ordered })
      looked.set(mount.id, now)
    },
    isRevoked: async (mount, tpmId) => {
      const config = await configOf(settings, mount)
      const { lists } = await trust.of(mount, config)
      return settled(mount, tpmId, { config, lists, ordered: false })
    },
  }
}

const saidBy = (found: Awaited<ReturnType<typeof lookUpAgain>> | undefined) => (found?.ok ? found.value.revocation : 'unknown')
