import { reject, type VerifiedEk } from '#attestation'
import { openCollection } from '../collection.ts'
import { ignoreConflict } from '../conflicts.ts'
import { BrokerError } from '../errors.ts'
import { text, type Values } from '../fields.ts'
import type { Mount } from '../mount_table.ts'
import type { Verdict } from '../refusals.ts'
import type { Store } from '../vault/store.ts'
import type { World } from '../world.ts'
import { type AttestSettings, certificateFields } from './settings.ts'

/** A TPM that has shown its certificate and opened its credential, and that an operator has not decided on, or has denied. */
const pendingFields = {
  state: text('`waiting` or `denied`.', { fallback: 'waiting', choices: ['waiting', 'denied'] }),
  ...certificateFields,
  revocation: text('Whether its makers had current revocation lists.', { fallback: '' }),
  ak_name: text('Name of the attestation key that it came with first, hex.', { fallback: '' }),
  requested_at: text('When it came first.', { fallback: '' }),
  decided_at: text('When it was denied.', { fallback: '' }),
  reason: text('Why, in the words of the operator.', { fallback: '' }),
}
type Pending = Values<typeof pendingFields>

/** What is known of a TPM from its certificate. */
export type TpmFacts = Values<typeof certificateFields> & { readonly revocation: string }

export const factsOf = (ek: VerifiedEk): TpmFacts => ({
  maker: ek.manufacturer,
  model: ek.model,
  version: ek.version,
  ek_type: ek.kind,
  ek_certificate_sha256: ek.certificateSha256,
  revocation: ek.revocation,
})

export type Approval = {
  /** ids of those that wait, and of those that were denied */
  readonly list: (mount: Mount) => Promise<readonly string[]>
  /** Whether this TPM, which nobody registered, may go on to be enrolled or to wait. */
  readonly unwelcome: (mount: Mount, tpmId: string) => Promise<Verdict<never> | undefined>
  /** Lets it wait; coming again changes nothing. @throws BrokerError rate_limited when too many wait */
  readonly wait: (mount: Mount, tpmId: string, facts: TpmFacts & { readonly ak_name: string }) => Promise<void>
  /** @throws BrokerError not_found */
  readonly read: (mount: Mount, tpmId: string) => Promise<Pending>
  /** Registers the TPM, which then enrols like any other that is registered, or remembers that it may not.
   *  @throws BrokerError not_found; bad_request without a decision */
  readonly decide: (mount: Mount, tpmId: string, decision: string | undefined, reason: string) => Promise<void>
  /** It may come and wait again. */
  readonly forget: (mount: Mount, tpmId: string) => Promise<void>
}

/** Each is a TPM of a trusted maker, so there are no more of them than somebody bought. */
const MAX_WAITING = 1000

export function openApproval(settings: Pick<AttestSettings, 'tpm'>, store: Store, world: World): Approval {
  const waiting = openCollection(store, 'pending', pendingFields)
  const denied = openCollection(store, 'denied', pendingFields)
  const now = () => new Date(world.now()).toISOString()
  const read = async ({ id }: Mount, tpmId: string, missing = ''): Promise<Pending> => {
    const kept = (await denied.fresh(id, tpmId)) ?? (await waiting.fresh(id, tpmId))
    if (!kept) throw new BrokerError('not_found', missing)
    return kept
  }
  const forget = async ({ id }: Mount, tpmId: string) => {
    await denied.delete(id, tpmId)
    await waiting.delete(id, tpmId)
  }
  /** Somebody may have approved of it at the same time: whoever denied it would take a machine to be out that is in. */
  const refuteApproval = async ({ id }: Mount, tpmId: string) => {
    if (!(await settings.tpm.fresh(id, tpmId))) return
    await denied.delete(id, tpmId)
    throw new BrokerError('conflict', 'somebody else approved of this TPM at the same time: disable it under tpm/')
  }
  return {
    read: (mount, tpmId) => read(mount, tpmId),
    forget,
    list: async ({ id }) => [...new Set([...(await waiting.list(id)), ...(await denied.list(id))])].toSorted(),
    unwelcome: async (mount, tpmId) => ((await denied.get(mount.id, tpmId)) ? reject('ENROLMENT_DENIED', tpmId) : undefined),
    wait: async (mount, tpmId, facts) => {
      if (await waiting.get(mount.id, tpmId)) return
      if ((await waiting.list(mount.id)).length >= MAX_WAITING)
        throw new BrokerError('rate_limited', 'too many TPMs wait for approval: have the operator decide on some')
      await waiting.write(mount.id, tpmId, kept => (kept ? {} : { ...facts, requested_at: now() })).catch(ignoreConflict)
    },
    decide: async (mount, tpmId, decision, reason) => {
      if (decision === undefined) throw new BrokerError('bad_request', 'decision: wanted approve or deny')
      const kept = await read(
        mount,
        tpmId,
        'id: no TPM of this id waits or was denied at this mount: the list of pending/ has those that do',
      )
      if (decision === 'deny') {
        await denied.write(mount.id, tpmId, { ...kept, state: 'denied', reason, decided_at: now() })
        await waiting.delete(mount.id, tpmId)
        return refuteApproval(mount, tpmId)
      }
      const { maker, model, version, ek_type, ek_certificate_sha256, revocation } = kept
      const facts = { maker, model, version, ek_type, ek_certificate_sha256, revocation }
      await settings.tpm.write(mount.id, tpmId, { ...facts, approved_at: now(), approval_reason: reason })
      return forget(mount, tpmId)
    },
  }
}
