import { createHmac, timingSafeEqual } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { accept, admitAk, admitEk, type Hierarchy, makeCredential, reject, type VerifiedEk } from '#attestation'
import { retryConflicts } from '../conflicts.ts'
import { isConflict } from '../errors.ts'
import { gatherBy } from '../gather.ts'
import type { Mount } from '../mount_table.ts'
import type { Verdict } from '../refusals.ts'
import type { Store } from '../vault/store.ts'
import type { World } from '../world.ts'
import { type Approval, factsOf, type TpmFacts } from './approval.ts'
import { openUsed } from './challenges.ts'
import type { Endorse, Endorsement } from './endorsements.ts'
import type { Moduli } from './moduli.ts'
import { type AkRecord, akPath, type BootRecord, bootPath, hex } from './records.ts'
import type { Revoked } from './revoked.ts'
import { type AttestSettings, configOf } from './settings.ts'

/** What an attester offers: byte fields are the structures that the contract names. */
export type Offer = Endorsement & { readonly akPublic: Buffer; readonly hierarchy: Hierarchy }
export type Offered = {
  readonly tpmId: string
  readonly akName: Buffer
  readonly credentialBlob: Buffer
  readonly encryptedSecret: Buffer
  readonly enrollment: Buffer
  readonly expiresInSeconds: number
}
/** `pending`: the TPM has shown that it is one, and an operator has to approve of it before it comes again. */
export type Enrolled = { readonly status: 'enrolled' | 'pending'; readonly tpmId: string; readonly akName: Buffer }

export type Enrolment = {
  /** Checks both public areas and the EK chain; answers with a credential that only that TPM can open (TPM 2.0 Library Part 1, Credential Protection). */
  readonly offer: (mount: Mount, offer: Offer) => Promise<Verdict<Offered>>
  /** Takes the opened credential and writes the record, once. */
  readonly activate: (mount: Mount, enrollment: Buffer, secret: Buffer) => Promise<Verdict<Enrolled>>
}

const LIFE_SECONDS = 120
const TAG = 32
/** Each time another replica was first: there are not so many. */
const TRIES = 8

/** What waits for its activation travels with the attester, under a key made at start: an unanswered offer costs no memory. */
type Pending = {
  /** no two offers are the same, and so no two secrets */
  readonly id: string
  readonly mountId: string
  readonly expiresAt: number
  readonly akName: string
  readonly record: AkRecord
  readonly tpm: TpmFacts
  /** DER in base64, from the endorsement certificate to the anchor */
  readonly path: readonly string[]
}

export type EnrolmentParts = {
  readonly settings: AttestSettings
  readonly store: Store
  readonly world: World
  readonly endorse: Endorse
  readonly moduli: Moduli
  readonly approval: Approval
  readonly revoked: Pick<Revoked, 'keep' | 'isRevoked'>
}

export function openEnrolment(parts: EnrolmentParts): Enrolment {
  const { settings, world, endorse } = parts
  const key = world.random(32)
  const used = openUsed(world.monotonic)
  const note = openNote(settings)
  const tagOf = (label: string, body: Uint8Array) => createHmac('sha256', key).update(label).update(body).digest()

  const seal = (pending: Pending): Buffer => {
    const body = Buffer.from(JSON.stringify(pending))
    return Buffer.concat([body, tagOf('enrollment', body)])
  }
  const open = (enrollment: Buffer, mount: Mount): Verdict<Pending> => {
    const body = enrollment.subarray(0, -TAG)
    const tag = enrollment.subarray(-TAG)
    if (tag.length !== TAG || !timingSafeEqual(tag, tagOf('enrollment', body)))
      return reject('CHALLENGE_UNKNOWN', 'this replica did not make the offer')
    const pending = JSON.parse(body.toString('utf8')) as Pending
    if (pending.mountId !== mount.id) return reject('SESSION_BINDING', 'made for another mount')
    if (world.monotonic() > pending.expiresAt) return reject('CHALLENGE_EXPIRED', 'the offer is past its life')
    if (!used.add(tag.toString('base64'), pending.expiresAt)) return reject('CHALLENGE_USED', 'the offer was answered before')
    return accept(pending)
  }

  return {
    offer: async (mount, offer) => {
      const config = await configOf(settings, mount)
      if (!config.hierarchies.includes(offer.hierarchy)) return reject('HIERARCHY', 'the hierarchy is not configured')
      const ek = await endorse(mount, offer, config)
      if (!ek.ok) return ek
      // of a TPM that somebody made: to judge a large key takes its time
      const ak = admitAk(offer.akPublic)
      if (!ak.ok) return ak
      const standing = await standingOf(parts, mount, ek.value.id, hex(ak.value.name))
      if (!standing.ok) return standing
      const pending = pendingOf(mount, offer, ek.value, ak.value.name, world)
      const enrollment = seal(pending)
      const { credentialBlob, encryptedSecret } = makeCredential({
        ek: ek.value.key,
        akName: ak.value.name,
        secret: tagOf('secret', enrollment),
        random: world.random,
      })
      return accept({
        tpmId: ek.value.id,
        akName: ak.value.name,
        credentialBlob,
        encryptedSecret,
        enrollment,
        expiresInSeconds: LIFE_SECONDS,
      })
    },
    activate: async (mount, enrollment, secret) => {
      const pending = open(enrollment, mount)
      if (!pending.ok) return pending
      const expected = tagOf('secret', enrollment)
      if (secret.length !== expected.length || !timingSafeEqual(secret, expected))
        return reject('ACTIVATION', 'the secret is not the one in the credential')
      // an operator may have changed their mind since the offer
      const { tpm_id: tpmId } = pending.value.record
      const standing = await standingOf(parts, mount, tpmId, pending.value.akName)
      if (!standing.ok) return standing
      if (standing.value === 'enrols') return record({ ...parts, note }, mount, pending.value)
      const { akName, tpm } = pending.value
      await parts.approval.wait(mount, tpmId, { ...tpm, ak_name: akName })
      return accept({ status: 'pending', tpmId, akName: Buffer.from(akName, 'hex') })
    },
  }
}

/** Whether a TPM that shows what it is may enrol, has to wait for an operator, or neither. */
async function standingOf(
  { settings, approval }: EnrolmentParts,
  mount: Mount,
  tpmId: string,
  akName: string,
): Promise<Verdict<'enrols' | 'waits'>> {
  // past the cache: a TPM that was deleted or disabled at another replica would write itself anew
  const [known, { enrollment }] = await Promise.all([settings.tpm.fresh(mount.id, tpmId), configOf(settings, mount)])
  if (known?.disabled) return reject('TPM_DISABLED', tpmId)
  if (known?.disabled_aks.includes(akName)) return reject('AK_DISABLED', akName)
  if (known || !isByList(enrollment)) return accept('enrols')
  if (enrollment === 'listed') return reject('NOT_LISTED', tpmId)
  return (await approval.unwelcome(mount, tpmId)) ?? accept('waits')
}

/** Whether only what has a record may enrol. */
const isByList = (enrollment: string) => enrollment === 'listed' || enrollment === 'approved'

function pendingOf(mount: Mount, offer: Offer, ek: VerifiedEk, akName: Buffer, world: World): Pending {
  return {
    id: world.random(16).toString('base64'),
    mountId: mount.id,
    expiresAt: Math.floor(world.monotonic()) + LIFE_SECONDS * 1000,
    akName: hex(akName),
    record: {
      tpm_id: ek.id,
      ak_public: offer.akPublic.toString('base64'),
      ek_public: offer.ekPublic.toString('base64'),
      hierarchy: offer.hierarchy,
      enrolled_at: new Date(world.now()).toISOString(),
    },
    tpm: factsOf(ek),
    path: ek.path.map(der => der.toString('base64')),
  }
}

/** Create-only: a key that is there for this TPM already starts its clock anew, where it lives now; for another TPM it is refused. */
async function record(
  parts: EnrolmentParts & { readonly note: Note },
  mount: Mount,
  pending: Pending,
): Promise<Verdict<Enrolled>> {
  const { store, moduli, revoked, note } = parts
  const akName = Buffer.from(pending.akName, 'hex')
  const path = akPath(mount.id, akName)
  const ek = admitEk(Buffer.from(pending.record.ek_public, 'base64'))
  if (ek.ok && ek.value.public.kind === 'rsa' && !(await moduli.add(mount, ek.value.public.modulus)))
    return reject('WEAK_KEY', 'the modulus has a prime in common with that of another TPM')
  try {
    await store.put(path, pending.record, 0)
  } catch (error) {
    if (!isConflict(error)) throw error
    const kept = await store.fresh<AkRecord>(path)
    if (kept?.value.tpm_id !== pending.record.tpm_id) return reject('EK_IN_USE', 'the key is enrolled for another TPM')
    const moved = { ...pending.record, enrolled_at: kept.value.enrolled_at }
    if (!isDeepStrictEqual(moved, kept.value)) await store.put(path, moved, kept.version)
    // the TPM has just shown that the key is in it: new firmware, or counters that were cleared, may come with it
    await beginAnew(store, bootPath(mount.id, akName))
  }
  const tpmId = pending.record.tpm_id
  await revoked.keep(mount, tpmId, pending.path)
  if (!(await note(mount, pending))) {
    await store.delete(path)
    return reject('NOT_LISTED', tpmId)
  }
  if (await revoked.isRevoked(mount, tpmId)) return reject('REVOKED', 'its maker revoked the endorsement certificate')
  return accept({ status: 'enrolled', tpmId, akName })
}

async function beginAnew(store: Store, path: string): Promise<void> {
  const boot = (await store.fresh<BootRecord>(path))?.value
  if (boot) await store.put(path, { ...boot, anew: true } satisfies BootRecord)
}

/** A key that is enrolled, in the record of its TPM. @returns false when an operator deleted that meanwhile, and nobody is to write it anew */
type Note = (mount: Mount, pending: Pending) => Promise<boolean>

class Unlisted extends Error {}

/** Other keys of the same TPM may be enrolled at this moment, and all of them end up in its record: those that come here together are written together, so that
 *  only other replicas come between. */
function openNote(settings: AttestSettings): Note {
  type Item = { readonly mount: Mount; readonly pending: Pending }
  const write = async (items: readonly [Item, ...Item[]]): Promise<boolean> => {
    const [{ mount, pending }] = items
    const { enrollment } = await configOf(settings, mount)
    try {
      await settings.tpm.write(mount.id, pending.record.tpm_id, kept => {
        if (!kept && isByList(enrollment)) throw new Unlisted()
        return {
          ...pending.tpm,
          // that a certificate was revoked since it was shown is for `isRevoked` to take back
          ...(kept?.revocation === 'revoked' && { revocation: 'revoked' }),
          ak_names: [...new Set([...(kept?.ak_names ?? []), ...items.map(item => item.pending.akName)])],
          enrolled_at: kept?.enrolled_at || pending.record.enrolled_at,
        }
      })
      return true
    } catch (error) {
      if (error instanceof Unlisted) return false
      throw error
    }
  }
  const placeOf = ({ mount, pending }: Item) => `${mount.id}/${pending.record.tpm_id}`
  const together = async (items: readonly Item[]): Promise<readonly boolean[]> => {
    const [first, ...rest] = items
    const isNoted = first !== undefined && (await retryConflicts(TRIES, () => write([first, ...rest])))
    return items.map(() => isNoted)
  }
  const note = gatherBy<Item, boolean>(placeOf, together)
  return (mount, pending) => note({ mount, pending })
}
