import { createHash } from 'node:crypto'
import { accept, reject } from '#attestation'
import { BrokerError } from '../errors.ts'
import type { Mount } from '../mount_table.ts'
import { type RefusalCode, refusals, type Verdict } from '../refusals.ts'
import type { World } from '../world.ts'
import { type Login, type Logins, MOST_LOGINS } from './logins.ts'
import { type Boot, type Happened, type Latch, type MachineRecord, moved, noted } from './machine.ts'
import type { MachineId, Machines } from './machines.ts'
import { bootOf, isAnotherStart, isResetAlone } from './standing.ts'
import type { Worker } from './worker.ts'

/** What becomes of machines between their logins. Whatever ends what a machine was given stops issuing first, durably, and revokes then. */
export type Lifecycle = {
  readonly standing: (mount: Mount, tpmId: string) => Promise<MachineRecord>
  /** past the cache: not older than the question */
  readonly look: (mount: Mount, tpmId: string) => Promise<MachineRecord>
  /** A genuine quote was refused. When it shows that the machine is not what it should be, it has failed: until an operator clears it. */
  readonly failed: (mount: Mount, tpmId: string, failure: Failure) => Promise<void>
  /** A quote was accepted: a newer boot ends what the older one was given. The value is the epoch that counts from now on.
   *  @param bootId what the operating system calls its start, unsigned: a TPM that was reset under a system that went on raises an alarm */
  readonly booted: (mount: Mount, tpmId: string, counters: string, boot: Boot, bootId?: string) => Promise<Verdict<number>>
  /** Whether the machine may hold one more token. */
  readonly room: (mount: Mount, tpmId: string) => Promise<Verdict<undefined>>
  /** A token was issued and is not yet given out. It is revoked when something happened to the machine meanwhile; one that cannot be
   *  revoked is not given out then, nor where the role gives none. @param still whether what was decided on counts as it did */
  readonly hold: (
    mount: Mount,
    tpmId: string,
    login: Login,
    revocable: boolean,
    still: () => Promise<boolean>,
  ) => Promise<Verdict<undefined>>
  readonly clear: (mount: Mount, tpmId: string, why: string) => Promise<void>
  /** @param revoke at once what the machine has, and not only keep new credentials from it */
  readonly reattest: (mount: Mount, tpmId: string, why: string, revoke: boolean) => Promise<void>
  /** The machine was disabled or deleted, or the certificate of its TPM was revoked. */
  readonly end: (mount: Mount, tpmId: string, reason: 'disabled' | 'deleted' | 'revoked') => Promise<void>
  /** A key of the TPM was enrolled, perhaps anew, as after TPM2_Clear: its counters may begin again. */
  readonly enrolled: (mount: Mount, tpmId: string) => Promise<void>
}

export type Failure = {
  readonly code: RefusalCode
  readonly detail: string
  readonly role: string
  /** TPMS_ATTEST */
  readonly attest: Uint8Array
  /** wall clock when the quote came in, ms */
  readonly at: number
}

/** Somebody may have pulled the reset line of the TPM, to measure into it what was never started (CVE-2018-6622 and its kin). */
const RESET_ALONE = 'the TPM was reset, but its operating system says that it was not restarted'
/** A virtual machine was copied with its TPM, and both have started as often. */
const ANOTHER_START = 'two starts of an operating system are in one boot of the TPM: kexec, or a copy of the TPM'

export type LifecycleParts = {
  readonly world: World
  readonly machines: Machines
  readonly logins: Logins
  readonly worker: Worker
}

/** What a signed quote, or a log that explains one, shows of the state of a machine. What is only wrong with the evidence is no failure: nobody else could make a machine fail with it. */
export function isFailure(code: RefusalCode): boolean {
  return code === 'PCR_POLICY' || refusals[code].family === 'reference'
}

const idOf = (mount: Mount, tpmId: string): MachineId => ({ mountId: mount.id, tpmId })

export function openLifecycle(parts: LifecycleParts): Lifecycle {
  const { world, machines, logins, worker } = parts
  const happened = (reason: Happened['reason'], detail: string, at = world.now()): Happened => {
    return { id: world.random(16).toString('base64url'), reason, detail, at }
  }
  const change: Acts['change'] = async (mount, tpmId, make) => {
    await worker.announce(mount, tpmId)
    const after = await machines.change(idOf(mount, tpmId), make)
    worker.begin(mount, tpmId)
    return after
  }
  const acts = { ...parts, happened, change }
  return {
    standing: (mount, tpmId) => machines.get(idOf(mount, tpmId)),
    look: (mount, tpmId) => machines.fresh(idOf(mount, tpmId)),
    failed: async (mount, tpmId, { code, detail, role, attest, at }) => {
      const evidence = createHash('sha256').update(attest).digest('hex')
      const latch: Latch = { code, detail, role, at: new Date(at).toISOString(), evidence }
      const what = happened('failed', code, at)
      await change(mount, tpmId, kept => (kept.latch ? undefined : { ...moved(kept, what, true), latch }))
      world.log.warn(
        { tpm: tpmId, mount: mount.path, code },
        'a machine failed its attestation: it gets nothing until it is cleared',
      )
    },
    booted: (mount, tpmId, counters, boot, bootId = '') => booted(acts, mount, tpmId, counters, boot, bootId),
    room: async (mount, tpmId) => {
      const count = await logins.count(idOf(mount, tpmId))
      return count < MOST_LOGINS ? accept(undefined) : reject('TOO_MANY_LOGINS', `${count} tokens are alive`)
    },
    hold: (mount, tpmId, login, revocable, still) => hold(parts, idOf(mount, tpmId), login, revocable, still),
    clear: async (mount, tpmId, why) => {
      const what = happened('cleared', why)
      await change(mount, tpmId, kept => {
        if (!kept.latch) throw new BrokerError('bad_request', 'the machine has not failed: there is nothing to clear')
        const { latch: _, ...rest } = kept
        return noted(rest, what)
      })
    },
    reattest: async (mount, tpmId, why, revoke) => {
      const what = happened('reattest', why)
      await change(mount, tpmId, kept => moved(kept, what, revoke))
    },
    end: async (mount, tpmId, reason) => {
      const what = happened(reason, '')
      await change(mount, tpmId, kept => moved(kept, what, true))
    },
    enrolled: async (mount, tpmId) => {
      const known = (kept: MachineRecord) => Object.keys(kept.boots).length > 0 && !kept.recount
      await machines.change(idOf(mount, tpmId), kept => (known(kept) ? { ...kept, recount: true } : undefined))
    },
  }
}

type Acts = LifecycleParts & {
  readonly happened: (reason: Happened['reason'], detail: string) => Happened
  /** announced before it is durable, and begun to be carried out after that */
  readonly change: (
    mount: Mount,
    tpmId: string,
    make: (kept: MachineRecord) => MachineRecord | undefined,
  ) => Promise<MachineRecord>
}

async function booted(
  { world, machines, happened, change }: Acts,
  mount: Mount,
  tpmId: string,
  counters: string,
  boot: Boot,
  bootId: string,
): Promise<Verdict<number>> {
  const id = idOf(mount, tpmId)
  const { resetCount, restartCount } = boot
  const next = (kept: MachineRecord) => ({
    ...kept,
    recount: false,
    ...(bootId && { bootId }),
    boots: { ...kept.boots, [counters]: { resetCount, restartCount } },
  })
  const kept = await machines.get(id)
  const order = bootOf(kept, counters, boot)
  if (order === 'same') {
    if (isAnotherStart(kept, bootId)) world.log.warn({ tpm: tpmId, mount: mount.path, boot_id: bootId }, ANOTHER_START)
    return accept(kept.epoch)
  }
  if (order === 'first') return accept((await machines.change(id, now => (now.boots[counters] ? undefined : next(now)))).epoch)
  const wasReset = isResetAlone(kept, counters, boot, bootId)
  const what = happened('rebooted', wasReset ? RESET_ALONE : '')
  if (wasReset) world.log.error({ tpm: tpmId, mount: mount.path, boot_id: bootId }, RESET_ALONE)
  const after = await change(mount, tpmId, now =>
    bootOf(now, counters, boot) === 'newer' ? next(moved(now, what, true)) : undefined,
  )
  if (bootOf(after, counters, boot) === 'older') return reject('OLD_BOOT', 'the machine has shown a newer boot with another key')
  return accept(after.epoch)
}

async function hold(
  { machines, logins }: LifecycleParts,
  id: MachineId,
  login: Login,
  revocable: boolean,
  still: () => Promise<boolean>,
): Promise<Verdict<undefined>> {
  const { accessor, epoch } = login
  if (accessor === '' && revocable) return reject('NOT_REVOCABLE', 'the token has no accessor')
  try {
    if (accessor !== '') await logins.note(id, login)
    const now = await machines.fresh(id)
    if (!now.latch && epoch === now.epoch && (await still())) return accept(undefined)
  } catch (error) {
    if (accessor !== '') await logins.revoke(accessor).catch(() => undefined)
    throw error
  }
  if (accessor !== '') await logins.revoke(accessor)
  return reject('STALE_EPOCH', 'something happened to the machine, or to what its role wants, while it logged in')
}
