import type { BoundRequest, Selection } from '#attestation'
import { type Audit, type AuditFields, hashed, plain } from '../audit/index.ts'
import type { Lifecycle } from '../lifecycle/lifecycle.ts'
import type { Metrics } from '../metrics.ts'
import type { Mount } from '../mount_table.ts'
import type { Verdict } from '../refusals.ts'
import type { Place, Settle } from '../refuse.ts'
import type { Time } from '../time.ts'
import type { VaultReply } from '../vault/client.ts'
import type { CallOptions } from '../vault/transport.ts'
import type { World } from '../world.ts'
import type { Admission } from './admission.ts'
import type { Appraiser, Attested } from './appraise.ts'
import {
  type Asked,
  akPlaceOf,
  type ChallengeFields,
  credsRequest,
  type DocumentFields,
  evidenceOf,
  type LoginFields,
  loginRequest,
} from './asked.ts'
import type { Challenge, Challenges } from './challenges.ts'
import type { DocumentEvidence, Documents } from './documents.ts'
import { handOut } from './hand_out.ts'
import type { TokenDoor } from './login.ts'
import { type AkRecords, hex, outOf } from './records.ts'
import type { LogKind } from './rules.ts'
import { type AttestSettings, configOf, isFor } from './settings.ts'

type Drawn = Challenge & { readonly selection: Selection; readonly logs: readonly LogKind[] }

/** How an enrolled machine, or one with a document, comes to a token. Every refusal is thrown as BrokerError permission_denied, and is in the
 *  audit log with its reason. */
export type Logins = {
  readonly challenge: (mount: Mount, fields: ChallengeFields, asked: Asked) => Promise<Drawn>
  /** Vault's own reply to the login. */
  readonly login: (mount: Mount, fields: LoginFields, how: Asked & CallOptions) => Promise<VaultReply>
  readonly challengeDocument: (mount: Mount, fields: DocumentFields, asked: Asked) => Promise<Challenge>
  /** Vault's own reply to the login. */
  readonly loginDocument: (
    mount: Mount,
    fields: DocumentFields & DocumentEvidence,
    how: Asked & CallOptions,
  ) => Promise<VaultReply>
}

export type LoginParts = {
  readonly admission: Admission
  readonly appraiser: Appraiser
  readonly documents: Documents
  readonly challenges: Challenges
  readonly records: AkRecords
  readonly settings: AttestSettings
  readonly lifecycle: Lifecycle
  readonly door: TokenDoor
  readonly world: World
  readonly time: Pick<Time, 'assertAgreed'>
  readonly audit: Audit
  readonly settle: Settle
  readonly metrics: Metrics
}

export function openLogins(parts: LoginParts): Logins {
  const { admission, appraiser, documents, challenges, records, settings, lifecycle, door, world, time, audit, settle, metrics } =
    parts
  /** From an attested machine to Vault's own reply. */
  const enter = async (
    mount: Mount,
    attested: Attested,
    request: BoundRequest,
    place: Place,
    how: CallOptions,
  ): Promise<VaultReply> => {
    const facts = {
      tpm_id: plain(attested.tpmId),
      role: plain(request.role),
      reference: plain(attested.claims.reference),
      reference_version: attested.referenceVersion,
      session: plain(attested.claims.session),
    }
    settle(await lifecycle.room(mount, attested.tpmId), place, 'nothing')
    await audit.append({ type: 'intent', ...place, fields: facts })
    const ended = (fields: AuditFields) => audit.appendLazy({ type: 'outcome', ...place, fields: { ...facts, ...fields } })
    const reply = await door.login(mount, attested, request, how).catch((error: unknown) => {
      ended({ result: plain('failed') })
      throw error
    })
    const { revocable = true } = (await settings.role.get(mount.id, request.role)) ?? {}
    const role = { name: request.role, revocable, still: () => countsStill(settings, mount, request.role, attested) }
    settle(await handOut(lifecycle, world, mount, attested, role, reply), place, 'nothing')
    const accessor = reply.auth?.['accessor'] ?? reply.wrap_info?.['accessor']
    ended({ result: plain('issued'), accessor: hashed(String(accessor)) })
    return reply
  }
  return {
    challenge: async (mount, fields, { txn, from }) => {
      const place = akPlaceOf(mount, 'challenge', fields, txn)
      const request = fields.operation === 'creds' ? credsRequest(fields) : loginRequest(mount, fields)
      const find = async () => settle(await records.find(mount.id, request.akName), place, 'nothing')
      await admission.challenge({ mount, from }, request.akName, find)
      const { selection, logs } = settle(await appraiser.wanted(mount, fields.role), place, 'nothing')
      const { challenge_ttl } = await configOf(settings, mount)
      metrics.challengesDrawn.inc({})
      return { ...challenges.draw(request, challenge_ttl), selection, logs }
    },
    login: async (mount, fields, { txn, ...how }) => {
      admission.login({ mount, from: how.from }, fields.ak_name)
      time.assertAgreed()
      const request = loginRequest(mount, fields)
      const place = akPlaceOf(mount, 'login', fields, txn)
      const attested = settle(
        counted(metrics, await appraiser.appraise(mount, fields.role, request, evidenceOf(fields))),
        place,
        'nothing',
      )
      return enter(mount, attested, request, place, how)
    },
    challengeDocument: async (mount, fields, { txn, from }) => {
      admission.document({ mount, from })
      const place = akPlaceOf(mount, 'challenge/document', { ...fields, ak_name: NO_KEY }, txn)
      settle(await documents.wanted(mount, fields.role), place, 'nothing')
      const { challenge_ttl } = await configOf(settings, mount)
      metrics.challengesDrawn.inc({})
      return challenges.draw(loginRequest(mount, { ...fields, ak_name: NO_KEY }), challenge_ttl)
    },
    loginDocument: async (mount, fields, { txn, ...how }) => {
      admission.document({ mount, from: how.from })
      time.assertAgreed()
      const request = loginRequest(mount, { ...fields, ak_name: NO_KEY })
      const place = akPlaceOf(mount, 'login/document', { ...fields, ak_name: NO_KEY }, txn)
      const verdict = counted(metrics, await documents.appraise(mount, fields.role, request, fields))
      return enter(mount, settle(verdict, place, 'nothing'), request, place, how)
    },
  }
}

/** Whether the role wants what it wanted, and the set of reference values is the one that the machine was compared with; and whether the TPM and its key may
 *  come in: another replica may have been told that they may not, and have ended what there was, right before the token was made. */
async function countsStill(
  settings: AttestSettings,
  mount: Mount,
  name: string,
  { claims: { reference }, referenceVersion, tpmId, akName }: Attested,
): Promise<boolean> {
  const [role, set, tpm] = await Promise.all([
    settings.role.get(mount.id, name),
    settings.reference.get(mount.id, reference),
    settings.tpm.fresh(mount.id, tpmId),
  ])
  if (!tpm || outOf(tpm, tpmId, hex(akName))) return false
  const wants = role && !role.disabled && isFor(role, tpmId) && role.references.includes(reference)
  return wants === true && set?.disabled === false && set.version === referenceVersion
}

function counted<T>(metrics: Metrics, verdict: Verdict<T>): Verdict<T> {
  metrics.challengesRedeemed.inc({ outcome: verdict.ok ? 'ok' : 'refused' })
  return verdict
}

/** Documents are of no attestation key. */
const NO_KEY = Buffer.alloc(0)
