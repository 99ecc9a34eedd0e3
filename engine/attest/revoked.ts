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
  /** Looks all TPMs of a mount up again, unless neither its lists nor their policy changed since. */
  readonly look: (mount: Mount) => Promise<void>
}

export type RevokedPorts = {
  readonly settings: AttestSettings
  readonly store: Store
  readonly trust: Pick<Trust, 'of'>
  readonly lifecycle: Pick<Lifecycle, 'end'>
  readonly world: Pick<World, 'now'>
}

type PathRecord = { readonly path: readonly string[] }

/** Of a TPM that is revoked its record says so, for every replica: what reads that record refuses it (`REVOKED`). */
export function openRevoked({ settings, store, trust, lifecycle, world }: RevokedPorts): Revoked {
  const at = (mount: Mount, tpmId: string) => `${mount.id}/endorsement/${tpmId}`
  /** what each mount was looked through with last */
  const looked = new Map<string, readonly unknown[]>()

  const lookAt = async (mount: Mount, tpmId: string, config: AttestConfig, lists: readonly Buffer[]): Promise<void> => {
    const tpm = await settings.tpm.get(mount.id, tpmId)
    const kept = tpm && (await store.fresh<PathRecord>(at(mount, tpmId)))
    if (!kept) return
    const rules = { at: new Date(world.now()), lists, allowSha1: config.sha1_makers.includes(tpm.maker) }
    const path = kept.value.path.map(der => Buffer.from(der, 'base64'))
    // that a list is missing or old was for the enrolment to judge: here only counts what a list says
    const found = config.crl === 'off' ? undefined : await lookUpAgain(path, { ...rules, revocation: 'soft' })
    const revoked = found?.ok === false && found.code === 'REVOKED'
    if (revoked === (tpm.revocation === 'revoked')) return
    await settings.tpm.write(mount.id, tpmId, { revocation: revoked ? 'revoked' : 'unknown' })
    if (revoked) await lifecycle.end(mount, tpmId, 'revoked')
  }
  return {
    keep: (mount, tpmId, path) => store.put(at(mount, tpmId), { path } satisfies PathRecord),
    look: async mount => {
      const config = await configOf(settings, mount)
      const { lists } = await trust.of(mount, config)
      const now = [config.crl, lists]
      if (looked.get(mount.id)?.every((one, place) => one === now[place])) return
      for (const tpmId of await settings.tpm.list(mount.id))
        await lookAt(mount, tpmId, config, lists).catch((error: unknown) => {
          if (!isConflict(error)) throw error // another replica does the same
        })
      looked.set(mount.id, now)
    },
  }
}
