import { type AttestSettings, configOf, isFor } from '../attest/settings.ts'
import type { Metrics } from '../metrics.ts'
import type { Mount, MountTable } from '../mount_table.ts'
import type { OwnVault } from '../vault/own.ts'
import type { Store } from '../vault/store.ts'
import type { Signer } from '../vault/transit.ts'
import type { World } from '../world.ts'
import { type Courier, openCourier } from './courier.ts'
import { type Lifecycle, openLifecycle } from './lifecycle.ts'
import { type Login, type Logins, openLogins } from './logins.ts'
import { type Machines, openMachines } from './machines.ts'
import { openWebhooks, type Webhooks } from './webhooks.ts'
import { openWorker, type Worker, type WorkerPorts } from './worker.ts'

export type LifecycleService = Lifecycle & {
  readonly webhooks: Webhooks
  readonly courier: Courier
  /** Revokes what a disabled role or set of reference values gave, and drops what has ended, in the background: after a change, and now and then. */
  readonly tidy: (mount: Mount) => void
  /** The mount was disabled: what its machines hold is revoked by Vault itself. */
  readonly close: (mount: Mount) => Promise<void>
  readonly stop: () => Promise<void>
}

export type LifecyclePorts = {
  readonly world: World
  readonly own: OwnVault
  readonly store: Store
  readonly signer: Signer
  readonly metrics: Metrics
  readonly mounts: MountTable
  readonly settings: AttestSettings
  readonly ownUrl: () => string
  readonly endLeases: WorkerPorts['endLeases']
}

const SWEEP_MS = 5_000
const TIDY_MS = 600_000
/** By then no other replica decides on what was before a change (FRESH_MS), and what it had decided on is on record. */
const AGAIN_MS = 15_000

export function openLifecycleService(ports: LifecyclePorts): LifecycleService {
  const { world, own, store, signer, metrics, mounts, settings, ownUrl, endLeases } = ports
  const machines = openMachines(store)
  const logins = openLogins(own, store, world)
  const webhooks = openWebhooks(store)
  const networks = async (mount: Mount) => (await configOf(settings, mount)).webhook_networks
  const counted = (outcome: string) => metrics.webhookPushes.inc({ outcome })
  const courier = openCourier({ world, signer, webhooks, networks, ownUrl, counted })
  const ours = () => mounts.ofType('tpm-quote')
  const measured = (reason: string, seconds: number) => metrics.revocationSeconds.observe({ reason }, seconds)
  const worker = openWorker({ world, store, machines, logins, courier, mounts: ours, endLeases, measured })
  metrics.machinesOverdue.follow({}, worker.overdue)
  const chores = openChores(ports, machines, logins, worker)
  const lifecycle = openLifecycle({ world, machines, logins, worker })
  const close = async (mount: Mount) => {
    await courier.close(mount).catch((error: unknown) => {
      world.log.warn({ error, mount: mount.path }, 'the key for security events of a disabled mount could not be destroyed')
    })
  }
  return { ...lifecycle, webhooks, courier, tidy: chores.tidy, close, stop: chores.stop }
}

/** What is done on the clock. It ends with what is under way. */
function openChores({ world, mounts, settings }: LifecyclePorts, machines: Machines, logins: Logins, worker: Worker) {
  const running = new Set<Promise<void>>()
  const run = (job: () => Promise<void>) => {
    const failed = (error: unknown) => world.log.warn({ error }, 'machines could not be looked after: trying again soon')
    const flight: Promise<void> = job()
      .catch(failed)
      .finally(() => running.delete(flight))
    running.add(flight)
  }
  const tidyNow = (mount: Mount) => run(() => tidyMount(settings, machines, logins, mount))
  const again = new Set<NodeJS.Timeout>()
  const tidy = (mount: Mount) => {
    tidyNow(mount)
    const timer = setTimeout(() => {
      again.delete(timer)
      tidyNow(mount)
    }, AGAIN_MS).unref()
    again.add(timer)
  }
  const sweep = setInterval(() => running.size === 0 && run(worker.sweep), SWEEP_MS).unref()
  const broom = setInterval(() => mounts.ofType('tpm-quote').forEach(tidyNow), TIDY_MS).unref()
  return {
    tidy,
    stop: async () => {
      clearInterval(sweep)
      clearInterval(broom)
      for (const timer of again) clearTimeout(timer)
      await Promise.all(running)
      await worker.idle()
    },
  }
}

/** A role or a set that is gone, or disabled, vouches for nobody any more, nor a role for machines that it does not list. */
async function tidyMount(settings: AttestSettings, machines: Machines, logins: Logins, mount: Mount): Promise<void> {
  const [roleOf, referenceOf] = [goodIn(settings.role, mount), goodIn(settings.reference, mount)]
  for (const tpmId of await logins.holders(mount.id)) {
    const { since } = await machines.fresh({ mountId: mount.id, tpmId })
    const isGood = async ({ role: name, reference, epoch }: Login) => {
      const role = epoch >= since && (await roleOf(name))
      return role && isFor(role, tpmId) && (await referenceOf(reference)) !== undefined
    }
    await logins.end({ mountId: mount.id, tpmId }, async login => !(await isGood(login)))
  }
}

type Kept<Row> = { readonly fresh: (mountId: string, name: string) => Promise<Row | undefined> }

/** What was found good is so to the end, as whoever changes it has all looked at again. What was not may be new: it is looked at each time. */
function goodIn<Row extends { readonly disabled: boolean }>(records: Kept<Row>, mount: Mount) {
  const good = new Map<string, Row>()
  return async (name: string): Promise<Row | undefined> => {
    const record = good.get(name) ?? (await records.fresh(mount.id, name))
    if (!record || record.disabled) return undefined
    good.set(name, record)
    return record
  }
}
