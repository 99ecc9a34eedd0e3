import { isDeepStrictEqual } from 'node:util'
import type { Mount } from '../mount_table.ts'
import type { Store } from '../vault/store.ts'
import type { World } from '../world.ts'
import type { Courier } from './courier.ts'
import type { Logins } from './logins.ts'
import type { Incident, MachineRecord } from './machine.ts'
import type { MachineId, Machines } from './machines.ts'

/** Does what incidents ask for: revokes what the machine had, then tells subscribers. Everything it has to do is durable; what was not
 *  finished, here or at a replica that is gone, is found again and done again, so a subscriber may hear of something twice. */
export type Worker = {
  /** Marks the machine before its record says that there is something to do, so that it is found whatever happens next. */
  readonly announce: (mount: Mount, tpmId: string) => Promise<void>
  /** Begins at once, in the background. */
  readonly begin: (mount: Mount, tpmId: string) => void
  /** Looks for what is left to do. */
  readonly sweep: () => Promise<void>
  /** how many machines have something left that was to be revoked half a minute ago */
  readonly overdue: () => number
  /** nothing is under way */
  readonly idle: () => Promise<void>
}

export type WorkerPorts = {
  readonly world: World
  readonly store: Store
  readonly machines: Machines
  readonly logins: Logins
  readonly courier: Courier
  readonly mounts: () => readonly Mount[]
  /** Revokes leases of the broker: all of the machine, or those that were asked for with these tokens. The value is how many are left. */
  readonly endLeases: (mount: Mount, tpmId: string, accessors: readonly string[] | 'all') => Promise<number>
  /** seconds from the quote or the order until the last token was revoked */
  readonly measured: (reason: Incident['reason'], seconds: number) => void
}

/** By then what is to be revoked is, when Vault and the providers answer. */
const OVERDUE_MS = 30_000

export function openWorker(ports: WorkerPorts): Worker {
  const { world, store, machines, mounts } = ports
  const flights = new Map<string, Promise<void>>()
  /** when what is left to be revoked was ordered, by machine */
  const left = new Map<string, number>()
  const markerOf = ({ mountId, tpmId }: MachineId) => `${mountId}/open/${tpmId}`

  const note = (id: MachineId, after: Incident, done = false) => machines.change(id, kept => replaced(kept, after, done))

  /** Of everything that happened: no subscriber keeps that waiting. */
  const end = async (mount: Mount, id: MachineId): Promise<MachineRecord> => {
    let record = await machines.fresh(id)
    const open = record.incidents.filter(({ ended }) => !ended)
    if (open[0]) left.set(markerOf(id), open[0].at)
    for (const incident of open) record = await note(id, await endSessions(ports, mount, id, incident))
    if (record.incidents.every(({ ended }) => ended)) left.delete(markerOf(id))
    return record
  }
  const work = async (mount: Mount, id: MachineId) => {
    let record = await end(mount, id)
    // each subscriber hears of one thing after the other, whoever else is down
    let waiting: readonly string[] = []
    for (const incident of record.incidents) {
      const { told, left } = await ports.courier.tell(mount, id.tpmId, incident, waiting)
      record = await note(id, { ...incident, told }, incident.ended && left.length === 0)
      waiting = left
    }
    if (record.incidents.length > 0) return
    await store.delete(markerOf(id))
    // something else may have been announced just before
    if ((await machines.fresh(id)).incidents.length > 0) await store.put(markerOf(id), {})
  }
  const begin = (mount: Mount, tpmId: string): Promise<void> => {
    const id = { mountId: mount.id, tpmId }
    const before = flights.get(markerOf(id)) ?? Promise.resolve()
    const flight = before
      .then(() => work(mount, id))
      .catch((error: unknown) => world.log.warn({ error, tpm: tpmId }, 'what happened to a machine could not be dealt with yet'))
      .finally(() => {
        if (flights.get(markerOf(id)) === flight) flights.delete(markerOf(id))
      })
    flights.set(markerOf(id), flight)
    return flight
  }
  return {
    announce: (mount, tpmId) => store.put(markerOf({ mountId: mount.id, tpmId }), {}),
    begin: (mount, tpmId) => void begin(mount, tpmId),
    sweep: async () => {
      const before = [...left.keys()]
      const open = new Set<string>()
      for (const mount of mounts())
        for (const tpmId of await store.list(`${mount.id}/open/`)) {
          const marker = markerOf({ mountId: mount.id, tpmId })
          open.add(marker)
          if (!flights.has(marker)) await begin(mount, tpmId)
        }
      // another replica was faster
      for (const marker of before) if (!open.has(marker)) left.delete(marker)
    },
    overdue: () => [...left.values()].filter(at => world.now() - at > OVERDUE_MS).length,
    idle: async () => {
      while (flights.size > 0) await Promise.all(flights.values())
    },
  }
}

/** Undefined when it is there already as it is to be: what waits for a subscriber is not written again and again. */
function replaced(kept: MachineRecord, after: Incident, done: boolean): MachineRecord | undefined {
  const at = kept.incidents.findIndex(({ id }) => id === after.id)
  if (at < 0 || (!done && isDeepStrictEqual(kept.incidents[at], after))) return undefined
  return { ...kept, incidents: kept.incidents.toSpliced(at, 1, ...(done ? [] : [after])) }
}

/** A boot leaves alone what the new boot was given; a failure leaves nothing. */
async function endSessions(ports: WorkerPorts, mount: Mount, id: MachineId, incident: Incident): Promise<Incident> {
  const { accessors, failed } = await ports.logins.end(id, login => login.epoch < incident.epoch)
  const left = await ports
    .endLeases(mount, id.tpmId, incident.reason === 'rebooted' ? accessors : 'all')
    .catch((error: unknown) => {
      ports.world.log.warn({ error, tpm: id.tpmId }, 'the leases of a machine could not be ended yet')
      return 1
    })
  const revoked = incident.revoked + accessors.length
  if (failed + left > 0) return { ...incident, revoked }
  ports.measured(incident.reason, Math.max(0, ports.world.now() - incident.at) / 1000)
  return { ...incident, revoked, ended: true }
}
