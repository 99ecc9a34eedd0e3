import type { Audit } from '../audit/index.ts'
import { type LifecyclePorts, type LifecycleService, openLifecycleService } from '../lifecycle/service.ts'
import { openSessions, type Sessions } from '../lifecycle/sessions.ts'
import type { Metrics } from '../metrics.ts'
import type { Mount } from '../mount_table.ts'
import type { Settle } from '../refuse.ts'
import type { Time } from '../time.ts'
import type { Authority, Caller } from '../vault/authority.ts'
import type { Vault } from '../vault/client.ts'
import type { Store } from '../vault/store.ts'
import type { Signer } from '../vault/transit.ts'
import type { World } from '../world.ts'
import { openAdmission } from './admission.ts'
import { type Appraiser, openAppraiser } from './appraise.ts'
import { type Approval, openApproval } from './approval.ts'
import { type Challenges, openChallenges } from './challenges.ts'
import { openClocks } from './clocks.ts'
import { referenceFromCorim } from './corim.ts'
import { openDeniedFirmware } from './denied_firmware.ts'
import { openDocuments } from './documents.ts'
import { openEndorse } from './endorsements.ts'
import { openEnrolment } from './enrol.ts'
import { type Enrolling, openEnrolling } from './enrolling.ts'
import { referenceFromTpm } from './from_tpm.ts'
import { openRefresh } from './list_refresh.ts'
import { openTokenDoor } from './login.ts'
import { type Logins, openLogins } from './logins.ts'
import { openLogThread } from './logs/log_thread.ts'
import { openMeasurements } from './measurements.ts'
import { openModuli } from './moduli.ts'
import { type NativeRoles, openNativeRoles } from './native_roles.ts'
import { openAkRecords } from './records.ts'
import { openResults, type Results } from './results.ts'
import { openRevoked, type Revoked } from './revoked.ts'
import { type AttestConfig, type AttestSettings, configOf, openAttestSettings } from './settings.ts'
import { openTrust, type Trust } from './trust.ts'
import { openWatch, type Watch } from './watch.ts'

/** What a `tpm-quote` mount does. */
export type Attest = Enrolling &
  Logins &
  NativeRoles & {
    readonly settings: AttestSettings
    readonly lifecycle: LifecycleService
    readonly sessions: Sessions
    readonly appraiser: Appraiser
    readonly challenges: Challenges
    readonly trust: Trust
    readonly approval: Approval
    /** looks again at machines that enrolled before */
    readonly watch: Watch
    readonly isRevoked: Revoked['isRevoked']
    /** what TPMs showed last */
    readonly results: Results
    readonly referenceFromTpm: (
      mount: Mount,
      name: string,
      tpmId: string,
      given: Parameters<typeof referenceFromTpm>[5],
      writer: string,
    ) => ReturnType<typeof referenceFromTpm>
    readonly referenceFromCorim: (
      mount: Mount,
      name: string,
      given: Parameters<typeof referenceFromCorim>[3],
      writer: string,
    ) => ReturnType<typeof referenceFromCorim>
    readonly configOf: (mount: Mount) => Promise<AttestConfig>
    /** Makes a new `jwt` mount ours, with the operator's own token; undoes what `close` can. */
    readonly open: (mount: Mount, caller: Caller) => Promise<void>
    readonly close: (mount: Mount) => Promise<void>
    /** Ends what runs beside. */
    readonly stop: () => Promise<void>
  }

export type AttestPorts = {
  readonly world: World
  readonly time: Time
  readonly vault: Vault
  readonly store: Store
  readonly signer: Signer
  readonly audit: Audit
  readonly authority: Authority
  readonly settle: Settle
  readonly metrics: Metrics
} & Pick<LifecyclePorts, 'own' | 'mounts' | 'ownUrl' | 'endLeases'>

export function openAttest(ports: AttestPorts): Attest {
  const { world, time, vault, store, signer, audit, settle, metrics } = ports
  const settings = openAttestSettings(store)
  const lifecycle = openLifecycleService({ ...ports, settings })
  const challenges = openChallenges(world)
  const records = openAkRecords(store, settings.tpm)
  const thread = openLogThread()
  const results = openResults(store, world)
  const measurements = openMeasurements(thread, results)
  const clocks = openClocks(store, world)
  const appraiser = openAppraiser({ settings, records, challenges, clocks, measurements, lifecycle, world })
  const refresh = openRefresh({ settings, store, world, changed: mount => watch.begin(mount) })
  const trust = openTrust(settings, refresh, world)
  const revoked = openRevoked({ settings, store, trust, lifecycle, world })
  const denied = openDeniedFirmware({ settings, store, lifecycle, world })
  const watch = openWatch({ looks: [revoked.look, denied], mounts: () => ports.mounts.ofType('tpm-quote'), world })
  const moduli = openModuli(store)
  const approval = openApproval(settings, store, world)
  const enrolment = openEnrolment({
    settings,
    store,
    world,
    endorse: openEndorse(trust, moduli, world),
    moduli,
    approval,
    revoked,
  })
  const documents = openDocuments({ settings, challenges, trust, approval, lifecycle, results, world })
  metrics.challengesHeld.follow({}, challenges.taken)
  const door = openTokenDoor(vault, signer, store, world)
  const admission = openAdmission(world, metrics)
  const shared = { admission, settings, lifecycle, audit, settle }
  return {
    settings,
    lifecycle,
    sessions: openSessions({ lifecycle, settings, world }),
    appraiser,
    challenges,
    trust,
    approval,
    watch,
    isRevoked: revoked.isRevoked,
    results,
    referenceFromCorim: (...given) => referenceFromCorim(settings, ...given),
    referenceFromTpm: (...given) => referenceFromTpm(settings, results, ...given),
    configOf: mount => configOf(settings, mount),
    ...openEnrolling({ ...shared, enrolment, authority: ports.authority }),
    ...openLogins({ ...shared, appraiser, documents, challenges, records, door, world, time, metrics }),
    ...openNativeRoles(vault),
    open: (mount, { token }) => door.open(mount, { as: token }),
    close: async mount => {
      await lifecycle.close(mount)
      await door.close(mount)
      await store.deleteAll(`${mount.id}/`)
    },
    stop: async () => {
      await watch.stop()
      await lifecycle.stop()
      await thread.close()
    },
  }
}
