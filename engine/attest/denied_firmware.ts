import { type QuoteClaims, type Rejection, reject } from '#attestation'
import type { Lifecycle } from '../lifecycle/lifecycle.ts'
import type { Mount } from '../mount_table.ts'
import type { Store } from '../vault/store.ts'
import type { World } from '../world.ts'
import { type AkRecord, type BootRecord, bootFolder, recordOfKey } from './records.ts'
import { type AttestSettings, configOf } from './settings.ts'

/** Firmware with known holes is denied whatever the reference values of a role say (CVE-2023-1017, CVE-2025-2884 and their kin).
 *  @param denied versions as quotes say them, 16 hexadecimal digits in lower case
 *  @returns TPM_FIRMWARE, also where the TPM hides its version from the key */
export function deniedFirmware(
  denied: readonly string[],
  { firmwareVersion }: Pick<QuoteClaims, 'firmwareVersion'>,
  obfuscated: boolean,
): Rejection<'TPM_FIRMWARE'> | undefined {
  if (denied.length === 0) return undefined
  if (obfuscated) return reject('TPM_FIRMWARE', 'the TPM tells its firmware version only to keys of the endorsement hierarchy')
  return denied.includes(firmwareVersion) ? reject('TPM_FIRMWARE', `the firmware ${firmwareVersion} is denied`) : undefined
}

type Ports = {
  readonly settings: AttestSettings
  readonly store: Store
  readonly lifecycle: Pick<Lifecycle, 'standing' | 'failed' | 'end'>
  readonly world: World
}

/** By then every replica refuses what is denied (FRESH_MS), and what one of them gave before is on record. */
const KNOWN_MS = 15_000

/** What a mount denies, since when that is known here, and whose sessions were ended when everybody knew. */
type Denied = { readonly versions: string; readonly since: number; readonly ended: Set<string> }

/** Machines that showed such firmware with their last accepted quote have failed, as with a quote that shows it now. Where failures do not latch, what they
 *  have is revoked: once more after all replicas know, and no more from then on. */
export function openDeniedFirmware({ settings, store, lifecycle, world }: Ports): (mount: Mount) => Promise<void> {
  const known = new Map<string, Denied>()
  const knownOf = (mount: Mount, denied: readonly string[]): Denied => {
    const [versions, last] = [denied.join(), known.get(mount.id)]
    const now = last?.versions === versions ? last : { versions, since: world.monotonic(), ended: new Set<string>() }
    known.set(mount.id, now)
    return now
  }
  const end = async (mount: Mount, tpmId: string, { since, ended }: Denied): Promise<void> => {
    if (ended.has(tpmId)) return
    await lifecycle.end(mount, tpmId, 'disabled')
    if (world.monotonic() >= since + KNOWN_MS) ended.add(tpmId)
  }
  const fail = async (mount: Mount, tpmId: string, { code, detail }: Rejection<'TPM_FIRMWARE'>): Promise<void> => {
    if ((await lifecycle.standing(mount, tpmId)).latch) return
    await lifecycle.failed(mount, tpmId, { code, detail, role: '', attest: Buffer.alloc(0), at: world.now() })
  }
  return async mount => {
    const { denied_firmware, latch } = await configOf(settings, mount)
    const denied = denied_firmware.map(version => version.toLowerCase())
    const now = knownOf(mount, denied)
    if (denied.length === 0) return
    for (const akName of await store.list(bootFolder(mount.id))) {
      const boot = await store.get<BootRecord>(bootFolder(mount.id) + akName)
      const ak = boot && (await store.get<AkRecord>(recordOfKey(mount.id, akName)))
      if (!ak || ak.value.hierarchy === 'owner') continue
      const fault = deniedFirmware(denied, boot.value, false)
      if (!fault) continue
      await (latch ? fail(mount, ak.value.tpm_id, fault) : end(mount, ak.value.tpm_id, now))
    }
  }
}
