import { setTimeout as sleep } from 'node:timers/promises'
import { type Audit, plain } from '../audit/index.ts'
import { BrokerError, isConflict } from '../errors.ts'
import type { Outbound, Throttled } from '../issuers/outbound.ts'
import { signJwt, signRs256 } from '../jwt.ts'
import type { Mount } from '../mount_table.ts'
import { rotatorFor } from '../rotators/index.ts'
import type { Handle, Made, Rotator, RotatorPorts, Secrets, Supplied } from '../rotators/rotator.ts'
import type { RsaSigner } from '../vault/rsa_signer.ts'
import type { Store } from '../vault/store.ts'
import type { Signer, SigningKey } from '../vault/transit.ts'
import type { World } from '../world.ts'
import { keep } from './keep.ts'
import { WORK_MS } from './locks.ts'
import type { Hold, RootCredential } from './port.ts'
import type { Roots } from './roots.ts'
import { type IntegrationRecord, type IntegrationSettings, rotationOf, settingsOf } from './settings.ts'

/** Who ordered a rotation: their token speaks to Vault's engines, else the broker's own does. */
export type Order = {
  readonly txn: string
  readonly by: string
  readonly supplied: Supplied
  readonly vaultWrite: (path: string) => Promise<void>
}

/** How far a rotation got: kept, so that one that died half-way is cleared up. */
type Journal =
  | { readonly state: 'making'; readonly at: number }
  | { readonly state: 'made'; readonly at: number; readonly handle: Handle; readonly old?: Handle }
  | { readonly state: 'stored'; readonly at: number; readonly old?: Handle; readonly retireAt: number }
  | { readonly state: 'done'; readonly at: number }

export type RotationState = { readonly state: 'never' | Journal['state']; readonly at: string; readonly retires_at: string }

/** Replaces root credentials. The one in use stays good until the next was proved and stored, and for a while after that. */
export type Rotation = {
  /** @throws BrokerError: the one in use is in use still, and what was made is undone or will be */
  readonly rotate: (mount: Mount, name: string, order: Order) => Promise<RotationState>
  readonly state: (mount: Mount, name: string) => Promise<RotationState>
  /** What time has brought: retires what was replaced, clears up what died, rotates what is due. */
  readonly tend: (mount: Mount, name: string, order: Order) => Promise<void>
}

export type RotationParts = {
  readonly world: World
  readonly state: Store
  readonly audit: Audit
  readonly settings: IntegrationSettings
  readonly roots: Roots
  readonly signer: Signer
  readonly rsaSigner: RsaSigner
  /** that the mount signs with */
  readonly keyOf: (mount: Mount) => Promise<SigningKey>
  readonly outbound: (mount: Mount, name: string, ca: string, throttled: Throttled | undefined) => Outbound
  readonly sleep?: (ms: number) => Promise<unknown>
}

/** Other replicas may use what they read before for so long; what a store that is down said before, for longer. */
const GRACE_SECONDS = 60

type Subject = {
  readonly mount: Mount
  readonly name: string
  readonly record: IntegrationRecord
  readonly rotator: Rotator
  readonly ports: RotatorPorts
}

export function openRotation(parts: RotationParts): Rotation {
  const { world, state, audit, settings, roots } = parts
  const now = () => Math.floor(world.now() / 1000)
  const at = (mount: Mount, name: string) => `${mount.id}/rotation/${name}`
  const journalOf = async (mount: Mount, name: string) => (await state.fresh<Journal>(at(mount, name)))?.value
  const write = ({ mount, name }: Subject, journal: Journal) => state.put(at(mount, name), journal)
  const rootOf = ({ mount, name, record }: Subject) => roots.of(mount, name, record, 0)

  const subjectOf = async (mount: Mount, name: string, order: Order): Promise<Subject> => {
    const record = await settings.integration.fresh(mount.id, name)
    if (!record) throw new BrokerError('not_found', '')
    const its = settingsOf(record)
    const found = rotatorFor(record.type, its)
    if (!found)
      throw new BrokerError('bad_request', 'nothing can rotate this kind of root credential: write the next one into secrets')
    const ports: RotatorPorts = {
      integration: name,
      settings: its,
      own: rotationOf(record),
      http: parts.outbound(mount, name, typeof its['ca'] === 'string' ? its['ca'] : '', found.rotator.throttled),
      key: () => parts.keyOf(mount),
      sign: (key, typ, claims) => signJwt(parts.signer, key, key.latest, typ, claims),
      signRs256: (key, claims) => signRs256(parts.rsaSigner, key, claims),
      vaultWrite: order.vaultWrite,
      now: world.now,
      sleep: parts.sleep ?? sleep,
    }
    return { mount, name, record, rotator: found.rotator, ports }
  }
  const told = (subject: Subject, order: Order, result: string, handle: Handle = {}) =>
    audit.appendLazy({ ...entry('outcome', subject, order), fields: { result: plain(result), ...handleFields(handle) } })

  /** What an earlier rotation left: made and never stored, or replaced and not retired. */
  const settle = async (subject: Subject, root: RootCredential, order: Order): Promise<void> => {
    const journal = await journalOf(subject.mount, subject.name)
    const { rotator, ports } = subject
    if (journal?.state === 'made') {
      // stored it was, and nothing more: the one before is still to be ended
      if (same(journal.handle, rotator.handleOf?.(root.fields))) {
        await finish(subject, journal.handle, journal.old, {}, order)
        return
      }
      await retire(subject, root, journal.handle, order, 'discarded')
    }
    if (journal?.state === 'making')
      for (const stray of (await rotator.strays?.(root.fields, windowOf(journal.at), ports)) ?? [])
        await retire(subject, root, stray, order, 'discarded')
    if (journal?.state === 'stored') {
      if (journal.retireAt > now()) return
      if (journal.old) await retire(subject, root, journal.old, order, 'retired')
    }
    if (journal && journal.state !== 'done') await write(subject, { state: 'done', at: journal.at })
  }
  const retire = async (subject: Subject, root: RootCredential, handle: Handle, order: Order, how: string): Promise<void> => {
    // what was stored after all is in use
    if (same(handle, subject.rotator.handleOf?.(root.fields))) return
    await subject.rotator.retire?.(handle, root.fields, subject.ports)
    told(subject, order, how, handle)
  }

  const rotateNow = async (subject: Subject, root: RootCredential, hold: Hold, order: Order): Promise<RotationState> => {
    const { rotator, ports } = subject
    const failing = <T>(result: string, handle: Handle, work: () => Promise<T>): Promise<T> =>
      work().catch((error: unknown) => {
        told(subject, order, result, handle)
        throw error
      })
    await settle(subject, root, order)
    const before = await journalOf(subject.mount, subject.name)
    if (before?.state === 'stored')
      throw new BrokerError('conflict', `the last rotation ends at ${timeOf(before.retireAt)}: order the next one after that`)
    await audit.append({
      ...entry('intent', subject, order),
      fields: { by: plain(order.by), ...handleFields(rotator.handleOf?.(root.fields) ?? {}) },
    })
    await write(subject, { state: 'making', at: now() })
    const alone = { ...ports, http: ports.http.under(hold) }
    const made = await failing('not made', {}, () => rotator.make(root.fields, alone, order.supplied))
    const old = rotator.retire ? rotator.handleOf?.(root.fields) : undefined
    // what cannot be told from others is not ended when it is found: it may be the only one that is good now, and is stored before anything else
    const isTold = Object.keys(made.handle).length > 0
    if (isTold) await write(subject, { state: 'made', at: now(), handle: made.handle, ...(old ? { old } : {}) })
    await proved(subject, root, made, order)
    await failing('not stored', made.handle, async () => {
      if (isTold) await stillThere(subject, root, made.handle)
      await store(subject, root, made)
    })
    return failing('not finished', made.handle, () => finish(subject, made.handle, old, made.settings ?? {}, order))
  }
  /** Who took too long is taken for dead, and whoever looked next ended what was made; who deleted the integration meanwhile did not. */
  const stillThere = async ({ mount, name, rotator, ports }: Subject, root: RootCredential, handle: Handle): Promise<void> => {
    const journal = await journalOf(mount, name)
    if (journal?.state === 'made' && same(journal.handle, handle)) return
    await rotator.retire?.(handle, root.fields, ports).catch(() => undefined)
    throw new BrokerError('conflict', 'the rotation took too long and was cleared up meanwhile: order it again')
  }
  /** What is in use now is known as the one that was made; the one before has some time left. */
  const finish = async (
    subject: Subject,
    handle: Handle,
    old: Handle | undefined,
    next: IntegrationRecord['settings'],
    order: Order,
  ): Promise<RotationState> => {
    const { mount, name, record } = subject
    // the end that an operator wrote was that of the one before; what else they wrote meanwhile stays
    await settings.integration.write(mount.id, name, kept => ({
      settings: { ...kept?.settings, ...next },
      expires_at: '',
      rotated_at: now(),
    }))
    const retireAt = now() + GRACE_SECONDS + record.max_stale
    const stored: Journal = { state: old ? 'stored' : 'done', at: now(), retireAt, ...(old ? { old } : {}) }
    await write(subject, stored)
    told(subject, order, 'rotated', handle)
    return shown(stored)
  }
  const proved = async (subject: Subject, root: RootCredential, made: Made, order: Order): Promise<void> => {
    try {
      await subject.rotator.prove?.(made, root.fields, subject.ports)
    } catch (error) {
      told(subject, order, 'not proved', made.handle)
      // what cannot be undone now is undone by who looks next
      await settle(subject, root, order).catch(() => undefined)
      throw error
    }
  }
  const store = async ({ mount, name, record }: Subject, root: RootCredential, made: Made): Promise<void> => {
    if (Object.keys(made.secrets).length > 0) await keep(roots.of(mount, name, record, 0), root, made.secrets)
  }

  return {
    state: async (mount, name) => shown(await journalOf(mount, name)),
    rotate: async (mount, name, order) => {
      const subject = await subjectOf(mount, name, order)
      const { secrets, settings: given } = order.supplied
      // whoever brings the next one expects that it is taken
      if (!subject.rotator.supplied && Object.keys({ ...secrets, ...given }).length > 0)
        throw new BrokerError('bad_request', 'secrets, settings: wanted none, as the next root credential is made here')
      return rootOf(subject).alone((root, hold) => rotateNow(subject, root, hold, order))
    },
    tend: async (mount, name, order) => {
      const record = await settings.integration.get(mount.id, name)
      const journal = await journalOf(mount, name)
      const open =
        journal !== undefined &&
        (journal.state === 'stored' ? journal.retireAt <= now() : journal.state !== 'done' && journal.at < now() - GRACE_SECONDS)
      const due = isDue(record, now()) && journal?.state !== 'stored'
      if (!open && !due) return
      const subject = await subjectOf(mount, name, order)
      await rootOf(subject)
        .alone(async (root, hold) => {
          // another replica may have done it meanwhile
          const there = await settings.integration.fresh(mount.id, name)
          if (isDue(there, now())) await rotateNow(subject, root, hold, order)
          else await settle(subject, root, order)
        })
        .catch((error: unknown) => {
          if (!isConflict(error)) throw error
        })
    },
  }
}

/** When what a rotation that began then made was made: nobody else's credential is taken for a stray. What is sent last is done some seconds later. */
function windowOf(at: number) {
  return { from: at, to: at + WORK_MS / 1000 + 10 }
}

function isDue(record: IntegrationRecord | undefined, now: number): boolean {
  return record !== undefined && record.rotate_every > 0 && now - record.rotated_at >= record.rotate_every
}

function same(one: Handle, other: Handle | undefined): boolean {
  return other !== undefined && Object.keys(one).length > 0 && JSON.stringify(one) === JSON.stringify(other)
}

function entry(type: 'intent' | 'outcome', { mount, name }: Subject, { txn }: Order) {
  return { type, txn, operation: 'rotate', mount: mount.path, path: `integration/${name}` } as const
}

function handleFields(handle: Handle) {
  return Object.keys(handle).length > 0 ? { handle: plain(JSON.stringify(handle)) } : {}
}

function shown(journal: Journal | undefined): RotationState {
  if (!journal) return { state: 'never', at: '', retires_at: '' }
  return { state: journal.state, at: timeOf(journal.at), retires_at: journal.state === 'stored' ? timeOf(journal.retireAt) : '' }
}

const timeOf = (seconds: number) => new Date(seconds * 1000).toISOString()

/** An order that brings nothing. */
export const NOTHING: Supplied = { secrets: {} satisfies Secrets, settings: {} }
