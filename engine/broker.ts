import { type Attest, openAttest } from './attest/service.ts'
import { type Audit, type AuditOptions, openAudit } from './audit/index.ts'
import { ignoreConflict } from './conflicts.ts'
import { BrokerError } from './errors.ts'
import { type Integrations, openIntegrations } from './integrations/service.ts'
import { type Issue, openIssue } from './issue/service.ts'
import { openBrokerLeases } from './leases/broker.ts'
import type { Leases } from './leases/service.ts'
import type { Metrics } from './metrics.ts'
import { type MountTable, openMountTable } from './mount_table.ts'
import { openSettle } from './refuse.ts'
import type { Revocations, SealingMode } from './sealing/index.ts'
import { openSealing } from './sealing/service.ts'
import { Secret } from './secret.ts'
import { openTasks, type Tasks } from './tasks/service.ts'
import { openWork } from './tasks/work.ts'
import { openTime, type Time } from './time.ts'
import { type Authority, type Caller, openAuthority } from './vault/authority.ts'
import { openCipher } from './vault/cipher.ts'
import { openVault, type Vault } from './vault/client.ts'
import { openOwn } from './vault/own.ts'
import { openPlacesCheck } from './vault/places.ts'
import type { Places } from './vault/provision.ts'
import { openRsaSigner } from './vault/rsa_signer.ts'
import { type AppRole, openSession, type Session } from './vault/session.ts'
import { openStore, type Store } from './vault/store.ts'
import { openSigner } from './vault/transit.ts'
import type { TransportOptions } from './vault/transport.ts'
import type { World } from './world.ts'

/** Everything that the floor above can ask for. */
export type Broker = {
  readonly vault: Vault
  readonly session: Session
  readonly time: Pick<Time, 'agreed'>
  readonly authority: Authority
  /** Whether this token may sign with a key of the operators in transit itself. @throws BrokerError permission_denied naming the right that it wants */
  readonly maySign: (caller: Caller, key: string) => Promise<void>
  readonly mounts: MountTable
  readonly audit: Audit
  readonly attest: Attest
  readonly issue: Issue
  readonly leases: Leases
  readonly integrations: Integrations
  readonly tasks: Tasks
  /** ends sealed tokens before their time */
  readonly revocations: Revocations
  readonly metrics: Metrics
  readonly version: string
  /** Puts it into a token that gives it once: Vault's `wrap_info`. */
  readonly wrap: (content: Readonly<Record<string, unknown>>, ttl: string) => Promise<object>
  /** Whether the mounts of its keys and records are there. @throws BrokerError unavailable that names the one that is not */
  readonly inPlace: () => Promise<void>
  /** Stops in order: nothing is issued any more, the audit log is durable, the own token is revoked, whatever of this fails. */
  readonly close: () => Promise<void>
}

export type BrokerOptions = {
  readonly world: World
  readonly metrics: Metrics
  /** of this service, as mounts show it */
  readonly version: string
  readonly vault: Omit<TransportOptions, 'observe'>
  readonly places: Places
  readonly approle: AppRole
  readonly auditFile: string
  /** how long the disk may take for a group of records */
  readonly auditDeadlineMs: number
  /** how real tokens are encrypted in sealed ones; `datakey` when left out */
  readonly sealing?: SealingMode
  /** where this service is reached, without a slash at the end; asked when it is needed, as the port may be chosen at start */
  readonly ownUrl: () => string
}

/** Logs in to Vault, opens the audit log, learns the mounts.
 *  @throws BrokerError unavailable, naming what is missing: it does not start half, and leaves no token of its own behind */
export async function openBroker(options: BrokerOptions): Promise<Broker> {
  await using opening = new AsyncDisposableStack()
  const { world, metrics, places } = options
  const time = openTime(world)
  const observe: typeof metrics.upstream = (method, status, seconds, date) => {
    time.told(date)
    metrics.upstream(method, status, seconds, date)
  }
  const vault = openVault({ ...options.vault, observe })
  opening.defer(() => vault.close())
  const session = await openSession(vault, options.approle, world)
  opening.defer(() => session.stop())
  const own = openOwn(vault, session, world.log)
  const inPlace = openPlacesCheck(own, places)
  await inPlace()
  const store = openStore(own, places.kv, world.monotonic)
  // whichever is ready after the other failed is closed, too
  const ready = <T>(opened: Promise<T>) => opened.catch(() => undefined)
  const [audit, mounts] = await Promise.all([
    opening.adopt(openLog(options, store), async log => (await ready(log))?.close()),
    opening.adopt(openMountTable(own, store, { monotonic: world.monotonic, onError: onTableError(world) }), async table =>
      (await ready(table))?.stop(),
    ),
  ])
  const signer = openSigner(own, places.transit, world.monotonic)
  const rsaSigner = openRsaSigner(own, places.transit, world.monotonic)
  const cipher = openCipher(own, places.transit)
  const authority = openAuthority(vault, own, world.monotonic)
  const settle = openSettle(audit, metrics)
  const { ownUrl, sealing: mode = 'datakey' } = options
  const sealing = openSealing({ world, time, own, store, signer, transit: places.transit, mode })
  const attest: Attest = openAttest({
    world,
    time,
    vault,
    own,
    store,
    signer,
    audit,
    authority,
    settle,
    metrics,
    mounts,
    ownUrl,
    endLeases: async (_mount, tpmId, accessors) => {
      // what is sealed has no lease: it ends with its generation
      const [left] = await Promise.all([endLeases(leases, tpmId, accessors), sealing.revocations.raise({ agent: tpmId })])
      return left
    },
  })
  opening.defer(() => attest.stop())
  const tasks = openTasks(store, world, time)
  const work = openWork({
    state: store,
    time,
    end: async accessor => void (await leases.revokeWhere({ accessor })),
    heartbeatOf: async ({ id }, role) => (await issue.settings.role.get(id, role))?.heartbeat,
  })
  const integrations = openIntegrations({
    world,
    state: store,
    own,
    cipher,
    signer,
    rsaSigner,
    audit,
    mounts,
    metrics,
    tasks,
    work,
    keyOf: mount => issue.keys.read(mount),
  })
  opening.defer(() => integrations.close())
  const leases = await openBrokerLeases({
    world,
    time,
    own,
    audit,
    metrics,
    kv: places.kv,
    provider: () => issue.provider,
    longest: lease => issue.longest(lease),
  })
  const issue: Issue = openIssue({
    world,
    time,
    vault,
    own,
    store,
    signer,
    rsaSigner,
    cipher,
    audit,
    mounts,
    metrics,
    settle,
    attest,
    integrations,
    tasks,
    work,
    leases,
    ownUrl,
    deliver: sealing.deliver,
  })
  opening.defer(() => issue.stop())
  // the first to stop: what is being revoked is revoked by an issuer
  opening.defer(() => leases.stop())
  const wrap: Broker['wrap'] = async (content, ttl) => (await own.write('sys/wrapping/wrap', content, ttl))?.wrap_info ?? {}
  const parts = opening.move()
  return {
    vault,
    session,
    time,
    authority,
    maySign: openSigning(authority, places),
    mounts,
    audit,
    attest,
    issue,
    leases,
    integrations,
    tasks,
    metrics,
    version: options.version,
    inPlace,
    close: () => parts.disposeAsync(),
    wrap,
    revocations: sealing.revocations,
  }
}

function openSigning(authority: Authority, { transit }: Places): Broker['maySign'] {
  return async (caller, key) => {
    const path = `${transit}/sign/${key}`
    const may = await authority.granted(caller, path)
    if (!may(['update']))
      throw new BrokerError('permission_denied', `permission denied: who names a key in transit wants update on ${path}`)
  }
}

/** Leases of a machine: all of them, or those that were asked for with these tokens. The value is how many could not be ended yet. */
async function endLeases(leases: Leases, tpmId: string, accessors: readonly string[] | 'all'): Promise<number> {
  if (accessors === 'all') return (await leases.revokeWhere({ tpmId })).left
  let left = 0
  for (const accessor of accessors) left += (await leases.revokeWhere({ accessor })).left
  return left
}

function onTableError(world: World): (error: unknown) => void {
  return error => world.log.warn({ error }, 'the table of mounts could not be read: the last one stays in use')
}

async function openLog({ world, auditFile, auditDeadlineMs: deadlineMs, metrics }: BrokerOptions, store: Store): Promise<Audit> {
  const key = await auditKey(world, store)
  world.log.hide(key)
  const onBad: AuditOptions['onBad'] = fault => {
    metrics.auditProblems.inc({ kind: fault.kind })
    world.log.error(fault, 'the audit log has a fault')
  }
  return openAudit({ file: auditFile, deadlineMs, key, now: world.now, onBad, ...metrics.audit })
}

const AUDIT_KEY = 'audit-key'

/** The key under which sensitive values are hashed: one for all replicas, made by whoever starts first. */
async function auditKey(world: World, store: Store): Promise<Secret<Uint8Array>> {
  const kept = await store.fresh<{ key: string }>(AUDIT_KEY)
  if (kept) return new Secret(Buffer.from(kept.value.key, 'base64'))
  await store.put(AUDIT_KEY, { key: world.random(32).toString('base64') }, 0).catch(ignoreConflict)
  return auditKey(world, store)
}
