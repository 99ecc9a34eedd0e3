import { type Audit, plain } from '../audit/index.ts'
import { BrokerError } from '../errors.ts'
import type { Mount } from '../mount_table.ts'
import type { Handle, Made, Rotator, RotatorPorts, Supplied } from '../rotators/rotator.ts'
import type { Store } from '../vault/store.ts'
import type { World } from '../world.ts'
import { type Journal, type RotationState, readJournal, shown, timeOf, writeJournal } from './journal.ts'
import { keep } from './keep.ts'
import { WORK_MS } from './locks.ts'
import type { Hold, RootCredential } from './port.ts'
import type { Roots } from './roots.ts'
import type { IntegrationRecord, IntegrationSettings } from './settings.ts'

/** Who ordered a rotation: their token speaks to Vault's engines, else the broker's own does. */
export type Order = {
  readonly txn: string
  readonly by: string
  readonly supplied: Supplied
  readonly vaultWrite: (path: string) => Promise<void>
}

export type Subject = {
  readonly mount: Mount
  readonly name: string
  readonly record: IntegrationRecord
  readonly rotator: Rotator
  readonly ports: RotatorPorts
}

export type TurnParts = {
  readonly world: World
  readonly state: Store
  readonly audit: Audit
  readonly settings: IntegrationSettings
  readonly roots: Roots
}

/** The turn of whoever is alone with a root credential, and what they were ordered to do. */
export type Turn = TurnParts & { readonly subject: Subject; readonly root: RootCredential; readonly order: Order }

/** Other replicas may use what they read before for so long; what a store that is down said before, for longer. */
export const GRACE_SECONDS = 60

export const secondsOf = ({ now }: World) => Math.floor(now() / 1000)

/** What an earlier rotation left: made and never stored, or replaced and not retired. */
export async function settle(turn: Turn): Promise<void> {
  const { state, world, subject, root } = turn
  const journal = await readJournal(state, subject)
  const { rotator, ports } = subject
  if (journal?.state === 'made') {
    // stored it was, and nothing more: the one before is still to be ended
    if (same(journal.handle, rotator.handleOf?.(root.fields))) {
      await finish(turn, journal.handle, journal.old, {})
      return
    }
    await retire(turn, journal.handle, 'discarded')
  }
  if (journal?.state === 'making')
    for (const stray of (await rotator.strays?.(root.fields, windowOf(journal.at), ports)) ?? [])
      await retire(turn, stray, 'discarded')
  if (journal?.state === 'stored') {
    if (journal.retireAt > secondsOf(world)) return
    if (journal.old) await retire(turn, journal.old, 'retired')
  }
  if (journal && journal.state !== 'done') await writeJournal(state, subject, { state: 'done', at: journal.at })
}

async function retire(turn: Turn, handle: Handle, how: string): Promise<void> {
  const { subject, root } = turn
  // what was stored after all is in use
  if (same(handle, subject.rotator.handleOf?.(root.fields))) return
  await subject.rotator.retire?.(handle, root.fields, subject.ports)
  told(turn, how, handle)
}

/** Makes, proves and stores the next one. */
export async function replace(turn: Turn, hold: Hold): Promise<RotationState> {
  const { state, subject, root } = turn
  const { rotator } = subject
  await settle(turn)
  await intended(turn)
  const made = await making(turn, hold)
  const old = rotator.retire ? rotator.handleOf?.(root.fields) : undefined
  // what cannot be told from others is not ended when it is found: it may be the only one that is good now, and is stored before anything else
  const isTold = Object.keys(made.handle).length > 0
  const known: Journal = { state: 'made', at: secondsOf(turn.world), handle: made.handle, ...(old ? { old } : {}) }
  if (isTold) await writeJournal(state, subject, known)
  await proved(turn, made)
  await failing(turn, 'not stored', made.handle, async () => {
    if (isTold) await stillThere(turn, made.handle)
    await stored(turn, made)
  })
  return failing(turn, 'not finished', made.handle, () => finish(turn, made.handle, old, made.settings ?? {}))
}

/** Durable before anything is made. */
async function intended({ state, audit, subject, root, order }: Turn): Promise<void> {
  const before = await readJournal(state, subject)
  if (before?.state === 'stored')
    throw new BrokerError('conflict', `the last rotation ends at ${timeOf(before.retireAt)}: order the next one after that`)
  await audit.append({
    ...entry('intent', subject, order),
    fields: { by: plain(order.by), ...handleFields(subject.rotator.handleOf?.(root.fields) ?? {}) },
  })
}

async function making(turn: Turn, hold: Hold): Promise<Made> {
  const { state, world, subject, root, order } = turn
  const { rotator, ports } = subject
  await writeJournal(state, subject, { state: 'making', at: secondsOf(world) })
  const alone = { ...ports, http: ports.http.under(hold) }
  return failing(turn, 'not made', {}, () => rotator.make(root.fields, alone, order.supplied))
}

async function proved(turn: Turn, made: Made): Promise<void> {
  const { rotator, ports } = turn.subject
  try {
    await rotator.prove?.(made, turn.root.fields, ports)
  } catch (error) {
    told(turn, 'not proved', made.handle)
    // what cannot be undone now is undone by who looks next
    await settle(turn).catch(() => undefined)
    throw error
  }
}

/** Who took too long is taken for dead, and whoever looked next ended what was made; who deleted the integration meanwhile did not. */
async function stillThere({ state, subject, root }: Turn, handle: Handle): Promise<void> {
  const journal = await readJournal(state, subject)
  if (journal?.state === 'made' && same(journal.handle, handle)) return
  await subject.rotator.retire?.(handle, root.fields, subject.ports).catch(() => undefined)
  throw new BrokerError('conflict', 'the rotation took too long and was cleared up meanwhile: order it again')
}

async function stored({ roots, subject: { mount, name, record }, root }: Turn, made: Made): Promise<void> {
  if (Object.keys(made.secrets).length > 0) await keep(roots.of(mount, name, record, 0), root, made.secrets)
}

/** What is in use now is known as the one that was made; the one before has some time left. */
async function finish(
  turn: Turn,
  handle: Handle,
  old: Handle | undefined,
  next: IntegrationRecord['settings'],
): Promise<RotationState> {
  const { state, settings, world, subject } = turn
  const { mount, name, record } = subject
  // the end that an operator wrote was that of the one before; what else they wrote meanwhile stays
  await settings.integration.write(mount.id, name, kept => ({
    settings: { ...kept?.settings, ...next },
    expires_at: '',
    rotated_at: secondsOf(world),
  }))
  const now = secondsOf(world)
  const retireAt = now + GRACE_SECONDS + record.max_stale
  const journal: Journal = { state: old ? 'stored' : 'done', at: now, retireAt, ...(old ? { old } : {}) }
  await writeJournal(state, subject, journal)
  told(turn, 'rotated', handle)
  return shown(journal)
}

function failing<T>(turn: Turn, result: string, handle: Handle, work: () => Promise<T>): Promise<T> {
  return work().catch((error: unknown) => {
    told(turn, result, handle)
    throw error
  })
}

function told({ audit, subject, order }: Turn, result: string, handle: Handle): void {
  audit.appendLazy({ ...entry('outcome', subject, order), fields: { result: plain(result), ...handleFields(handle) } })
}

/** When what a rotation that began then made was made: nobody else's credential is taken for a stray. What is sent last is done some seconds later. */
function windowOf(at: number) {
  return { from: at, to: at + WORK_MS / 1000 + 10 }
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
