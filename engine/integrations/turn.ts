import { type Audit, plain } from '../audit/index.ts'
import { BrokerError, isConflict } from '../errors.ts'
import type { Mount } from '../mount_table.ts'
import type { Handle, Made, Rotator, RotatorPorts, Supplied } from '../rotators/rotator.ts'
import type { Kept, Store } from '../vault/store.ts'
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

/** The turn of whoever is alone with a root credential, and what they were ordered to do. `journal`: as it was read, or written, last. */
export type Turn = TurnParts & {
  readonly subject: Subject
  readonly root: RootCredential
  readonly order: Order
  readonly journal?: Kept<Journal> | undefined
}

/** Other replicas may use what they read before for so long; what a store that is down said before, for longer. */
export const GRACE_SECONDS = 60

export const secondsOf = ({ now }: World) => Math.floor(now() / 1000)

/** What an earlier rotation left: made and never stored, or replaced and not retired. */
export async function settle(given: Turn): Promise<Turn> {
  const journal = await readJournal(given.state, given.subject)
  const turn = { ...given, journal }
  if (journal?.value.state === 'stored') return retired(turn, journal.value)
  // whoever wrote it may stand still: from here on they write it no more
  return journal === undefined || journal.value.state === 'done' ? turn : cleared(await noted(turn, journal.value), journal.value)
}

async function noted(turn: Turn, journal: Journal): Promise<Turn> {
  return { ...turn, journal: await writeJournal(turn.state, turn.subject, journal, turn.journal) }
}

async function retired(turn: Turn, { at, old, retireAt }: Extract<Journal, { state: 'stored' }>): Promise<Turn> {
  if (retireAt > secondsOf(turn.world)) return turn
  if (old) await retire(turn, old, 'retired')
  return noted(turn, { state: 'done', at })
}

async function cleared(turn: Turn, journal: Extract<Journal, { state: 'making' | 'made' }>): Promise<Turn> {
  const { subject, root } = turn
  const { rotator, ports } = subject
  if (journal.state === 'making') {
    const strays = (await rotator.strays?.(root.fields, windowOf(journal.at), ports)) ?? []
    for (const stray of strays) await retire(turn, stray, 'discarded')
    if (!rotator.strays && !rotator.supplied) unknown(turn)
    return noted(turn, { state: 'done', at: journal.at })
  }
  // stored it was, and nothing more: the one before is still to be ended
  if (same(journal.handle, inUse(turn))) return finish(turn, journal.handle, journal.old, {})
  return discarded(await barred(turn), journal)
}

/** Nobody can be asked what came of it: the one in use may have been replaced by one that is nowhere. */
function unknown(turn: Turn): void {
  const { mount, name } = turn.subject
  turn.world.log.warn({ mount: mount.path, integration: name }, UNKNOWN)
  told(turn, 'unknown', {})
}

const UNKNOWN =
  'a rotation died before it stored what the provider gave: if the root credential is refused from now on, write the next one into secrets'

/** Whoever made it may be about to store it, and would when it is ended: not over another version. */
async function barred(turn: Turn): Promise<Turn> {
  const { roots, root, subject } = turn
  if (!subject.rotator.retire) return turn
  const own = roots.of(subject.mount, subject.name, subject.record, 0)
  await own.replace(root, root.version)
  return { ...turn, root: await own.fresh() }
}

async function discarded(turn: Turn, { at, handle }: Pick<Extract<Journal, { state: 'made' }>, 'at' | 'handle'>): Promise<Turn> {
  await retire(turn, handle, 'discarded')
  return noted(turn, { state: 'done', at })
}

async function retire(turn: Turn, handle: Handle, how: string): Promise<void> {
  const { subject, root } = turn
  // what was stored after all is in use
  if (same(handle, inUse(turn))) return
  await subject.rotator.retire?.(handle, root.fields, subject.ports)
  told(turn, how, handle)
}

/** Makes, proves and stores the next one. */
export async function replace(given: Turn, hold: Hold): Promise<RotationState> {
  const ready = await settle(given)
  await intended(ready)
  const begun = await noted(ready, { state: 'making', at: secondsOf(ready.world) })
  const made = await making(begun, hold)
  const { rotator } = begun.subject
  const old = rotator.retire ? inUse(begun) : undefined
  // what cannot be told from others is not ended when it is found: it may be the only one that is good now, and is stored before anything else
  const isTold = Object.keys(made.handle).length > 0
  const turn = isTold ? await known(begun, made, old) : begun
  await proved(turn, made)
  await failing(turn, 'not stored', made.handle, async () => {
    if (isTold) await stillThere(turn, made.handle)
    await stored(turn, made, !isTold)
  })
  const { journal } = await failing(turn, 'not finished', made.handle, () => finish(turn, made.handle, old, made.settings ?? {}))
  return shown(journal?.value)
}

/** Durable before anything is made. */
async function intended(turn: Turn): Promise<void> {
  const { audit, subject, order, journal } = turn
  if (journal?.value.state === 'stored')
    throw new BrokerError(
      'conflict',
      `the last rotation ends at ${timeOf(journal.value.retireAt)}: order the next one after that`,
    )
  await audit.append({
    ...entry('intent', subject, order),
    fields: { by: plain(order.by), ...handleFields(inUse(turn) ?? {}) },
  })
}

async function making(turn: Turn, hold: Hold): Promise<Made> {
  const { rotator, ports } = turn.subject
  const alone = { ...ports, http: ports.http.under(hold) }
  try {
    return await failing(turn, 'not made', {}, () => rotator.make(turn.root.fields, alone, turn.order.supplied))
  } catch (error) {
    // it was told what came of it: who looks next has nothing to look for
    if (!rotator.strays) await noted(turn, { state: 'done', at: secondsOf(turn.world) }).catch(() => undefined)
    throw error
  }
}

/** Durable before it is proved, so that it is ended where it is not. */
async function known(turn: Turn, { handle }: Made, old: Handle | undefined): Promise<Turn> {
  const journal: Journal = { state: 'made', at: secondsOf(turn.world), handle, ...(old ? { old } : {}) }
  return noted(turn, journal).catch((error: unknown) => (isConflict(error) ? late(turn, handle) : Promise.reject(error)))
}

async function proved(turn: Turn, made: Made): Promise<void> {
  const { rotator, ports } = turn.subject
  try {
    await rotator.prove?.(made, turn.root.fields, ports)
  } catch (error) {
    told(turn, 'not proved', made.handle)
    // what cannot be undone now is undone by who looks next
    await discarded(turn, { at: secondsOf(turn.world), handle: made.handle }).catch(() => undefined)
    throw error
  }
}

/** Who took too long is taken for dead, and whoever looked next ended what was made; who deleted the integration meanwhile did not. */
async function stillThere(turn: Turn, handle: Handle): Promise<void> {
  const there = await readJournal(turn.state, turn.subject)
  if (there?.version !== turn.journal?.version) await late(turn, handle)
}

async function late({ subject, root }: Turn, handle: Handle): Promise<never> {
  await subject.rotator.retire?.(handle, root.fields, subject.ports).catch(() => undefined)
  throw new BrokerError('conflict', 'the rotation took too long and was cleared up meanwhile: order it again')
}

/** @param only it may be the only one that is good now; else whoever cleared up wrote another version */
async function stored({ roots, subject: { mount, name, record }, root }: Turn, made: Made, only: boolean): Promise<void> {
  if (Object.keys(made.secrets).length > 0) await keep(roots.of(mount, name, record, 0), root, made.secrets, { only })
}

/** What is in use now is known as the one that was made; the one before has some time left. */
async function finish(turn: Turn, handle: Handle, old: Handle | undefined, next: IntegrationRecord['settings']): Promise<Turn> {
  const { settings, world, subject } = turn
  const { mount, name, record } = subject
  // the end that an operator wrote was that of the one before; what else they wrote meanwhile stays
  await settings.integration.write(mount.id, name, kept => ({
    settings: { ...kept?.settings, ...next },
    expires_at: '',
    rotated_at: secondsOf(world),
  }))
  const now = secondsOf(world)
  const retireAt = now + GRACE_SECONDS + record.max_stale
  const done = await noted(turn, { state: old ? 'stored' : 'done', at: now, retireAt, ...(old ? { old } : {}) })
  told(turn, 'rotated', handle)
  return done
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

/** Clocks of providers may differ from ours by so much. */
const SKEW_SECONDS = 5

/** When what a rotation that began then made was made, by the provider's clock: nobody else's credential is taken for a stray. What is sent last is done
 *  some seconds later. */
function windowOf(at: number) {
  return { from: at - SKEW_SECONDS, to: at + WORK_MS / 1000 + 10 + SKEW_SECONDS }
}

const inUse = ({ subject: { rotator, ports }, root }: Pick<Turn, 'subject' | 'root'>) =>
  rotator.handleOf?.(root.fields, ports.settings)

function same(one: Handle, other: Handle | undefined): boolean {
  return other !== undefined && Object.keys(one).length > 0 && JSON.stringify(one) === JSON.stringify(other)
}

function entry(type: 'intent' | 'outcome', { mount, name }: Subject, { txn }: Order) {
  return { type, txn, operation: 'rotate', mount: mount.path, path: `integration/${name}` } as const
}

function handleFields(handle: Handle) {
  return Object.keys(handle).length > 0 ? { handle: plain(JSON.stringify(handle)) } : {}
}
