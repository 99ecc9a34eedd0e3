import { accept, reject } from '#attestation'
import { hashed, plain } from '../audit/index.ts'
import { CONSENT_TYPE, type Consent } from '../consent/index.ts'
import type { Mount } from '../mount_table.ts'
import type { Verdict } from '../refusals.ts'
import type { Settle } from '../refuse.ts'
import type { Secret } from '../secret.ts'
import type { TaskContext } from '../tasks/context.ts'
import type { Identified } from '../vault/authority.ts'
import type { Creds, Issued } from './creds.ts'
import type { CredsRequest } from './who.ts'

/** Where an agent sends a person. */
export type Invitation = Awaited<ReturnType<Consent['ask']>>

/** Credentials that a person has to consent to: asking them, and what came of it. */
export type Consenting = {
  /** Decides as an issue would; then a person is to decide. */
  readonly ask: (mount: Mount, who: Identified, request: CredsRequest, txn: string) => Promise<Invitation>
  /** What the person let the agent have; undefined while nobody decided. Once: after that the agent asks as for any credential.
   *  @param handed what the request was answered with, and the task token of the task that it was asked in */
  readonly poll: (
    mount: Mount,
    who: Identified,
    role: string,
    handed: { readonly handle: string; readonly taskToken: Secret | undefined },
    token: Secret,
    txn: string,
  ) => Promise<Issued | undefined>
}

export type ConsentingParts = {
  readonly creds: Creds
  readonly consent: Consent
  readonly settle: Settle
  readonly issue: (mount: Mount, who: Identified, request: CredsRequest, txn: string) => Promise<Issued>
}

export function openConsenting({ creds, consent, settle, issue }: ConsentingParts): Consenting {
  const placeOf = (mount: Mount, { facts }: Identified, role: string, txn: string) => ({
    txn,
    operation: 'update',
    mount: mount.path,
    path: hashed(`consent/${role}`),
    fields: { pattern: plain('consent/:role'), accessor: hashed(facts.accessor), tpm_id: plain(facts.meta['tpm_id'] ?? '') },
  })
  return {
    ask: async (mount, who, request, txn) => {
      const place = placeOf(mount, who, request.role, txn)
      const { grant, prepared } = settle(await creds.decided(mount, who, request, txn), place, 'reason')
      if (prepared.record.issuer !== CONSENT_TYPE)
        settle(reject('INTEGRATION', 'the role issues without the consent of a person: ask at creds/'), place, 'reason')
      const { tpmId, plugin, action, scope, audience, ttlSeconds, task } = grant
      const integration = prepared.record.integration
      const wish = { role: request.role, integration, tpmId, plugin, action, scope, audience, ttlSeconds, task }
      return consent.ask(mount, wish, txn)
    },
    poll: async (mount, who, role, { handle, taskToken }, token, txn) => {
      await who.permitted
      const place = placeOf(mount, who, role, txn)
      const progress = settle(await progressOf(consent, mount, who, role, handle), place, 'reason')
      if (progress.state !== 'granted') return undefined
      const { plugin, action, scope, audience, ttlSeconds, task } = progress.wish
      const request = { role, plugin, action, scope, audience, ttlSeconds, ...NOTHING_MORE, taskToken, token }
      const { grant } = settle(await creds.decided(mount, who, request, txn), place, 'reason')
      if (!isSameTask(grant.task, task))
        settle(reject('TASK_TOKEN', 'the person was asked in another task: give a task token of that one'), place, 'reason')
      const issued = await issue(mount, who, request, txn)
      await progress.close()
      return issued
    },
  }
}

const NOTHING_MORE = { evidence: undefined, keyThumbprint: undefined, parameters: {} } as const

/** What a person was told of a task; a token that was signed anew may differ in the rest. */
function isSameTask(one: TaskContext | undefined, other: TaskContext | undefined): boolean {
  return TOLD.every(name => one?.[name] === other?.[name])
}

const TOLD = ['org', 'task', 'session', 'user'] as const

type Progress = NonNullable<Awaited<ReturnType<Consent['progress']>>>

async function progressOf(
  consent: Consent,
  mount: Mount,
  { facts }: Identified,
  role: string,
  handle: string,
): Promise<Verdict<Progress>> {
  const progress = await consent.progress(mount, handle, facts.meta['tpm_id'] ?? '')
  if (!progress || progress.wish.role !== role) return reject('CONSENT_EXPIRED', 'there is no such request of this machine')
  if (progress.state === 'denied') return reject('CONSENT_DENIED', 'the person said no')
  if (progress.state === 'failed') return reject('CONSENT_FAILED', 'the identity provider or the browser did not bring it back')
  return accept(progress)
}
