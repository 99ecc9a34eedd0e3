import { setTimeout as sleep } from 'node:timers/promises'
import { ignoreConflict } from '../conflicts.ts'
import { BrokerError } from '../errors.ts'
import type { Outbound, Throttled } from '../issuers/outbound.ts'
import { signJwt, signRs256 } from '../jwt.ts'
import type { Mount } from '../mount_table.ts'
import { rotatorFor } from '../rotators/index.ts'
import type { RotatorPorts, Secrets, Supplied } from '../rotators/rotator.ts'
import type { RsaSigner } from '../vault/rsa_signer.ts'
import type { Signer, SigningKey } from '../vault/transit.ts'
import { type Journal, type RotationState, readJournal, shown } from './journal.ts'
import type { Hold } from './port.ts'
import { type IntegrationRecord, madeOf, rotationOf, settingsOf } from './settings.ts'
import { GRACE_SECONDS, type Order, replace, type Subject, secondsOf, settle, type Turn, type TurnParts } from './turn.ts'

/** Replaces root credentials. The one in use stays good until the next was proved and stored, and for a while after that. */
export type Rotation = {
  /** @throws BrokerError: the one in use is in use still, and what was made is undone or will be */
  readonly rotate: (mount: Mount, name: string, order: Order) => Promise<RotationState>
  readonly state: (mount: Mount, name: string) => Promise<RotationState>
  /** What time has brought: retires what was replaced, clears up what died, rotates what is due. */
  readonly tend: (mount: Mount, name: string, order: Order) => Promise<void>
}

export type RotationParts = TurnParts & {
  readonly signer: Signer
  readonly rsaSigner: RsaSigner
  /** that the mount signs with */
  readonly keyOf: (mount: Mount) => Promise<SigningKey>
  readonly outbound: (mount: Mount, name: string, ca: string, throttled: Throttled | undefined) => Outbound
}

export function openRotation(parts: RotationParts): Rotation {
  const { world, state, settings, roots } = parts
  const now = () => secondsOf(world)
  const alone = <T>({ mount, name, record }: Subject, order: Order, work: (turn: Turn, hold: Hold) => Promise<T>) =>
    roots.of(mount, name, record, 0).alone(async (root, hold) => {
      const subject = await subjectOf(parts, mount, name, order)
      // whoever waited here may find the integration of somebody else
      if (madeOf(subject.record) !== madeOf(record)) throw new BrokerError('not_found', '')
      return work({ ...parts, subject, root, order }, hold)
    })
  return {
    state: async (mount, name) => shown((await readJournal(state, { mount, name }))?.value),
    rotate: async (mount, name, order) => {
      const subject = await subjectOf(parts, mount, name, order)
      const { secrets, settings: given } = order.supplied
      // whoever brings the next one expects that it is taken
      if (!subject.rotator.supplied && Object.keys({ ...secrets, ...given }).length > 0)
        throw new BrokerError('bad_request', 'secrets, settings: wanted none, as the next root credential is made here')
      return alone(subject, order, replace)
    },
    tend: async (mount, name, order) => {
      const record = await settings.integration.get(mount.id, name)
      const journal = (await readJournal(state, { mount, name }))?.value
      const due = isDue(record, now()) && journal?.state !== 'stored'
      if (!due && !isOpen(journal, now())) return
      const subject = await subjectOf(parts, mount, name, order)
      await alone(subject, order, async (turn, hold) => {
        // another replica may have done it meanwhile
        if (isDue(turn.subject.record, now())) await replace(turn, hold)
        else await settle(turn)
      }).catch(ignoreConflict)
    },
  }
}

async function subjectOf(parts: RotationParts, mount: Mount, name: string, order: Order): Promise<Subject> {
  const record = await parts.settings.integration.fresh(mount.id, name)
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
    now: parts.world.now,
    sleep,
  }
  return { mount, name, record, rotator: found.rotator, ports }
}

/** Something is left to be done, and it is time, or whoever began it has had theirs. */
function isOpen(journal: Journal | undefined, now: number): boolean {
  if (journal === undefined || journal.state === 'done') return false
  return journal.state === 'stored' ? journal.retireAt <= now : journal.at < now - GRACE_SECONDS
}

function isDue(record: IntegrationRecord | undefined, now: number): boolean {
  return record !== undefined && record.rotate_every > 0 && now - record.rotated_at >= record.rotate_every
}

/** An order that brings nothing. */
export const NOTHING: Supplied = { secrets: {} satisfies Secrets, settings: {} }
