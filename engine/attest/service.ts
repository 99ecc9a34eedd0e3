import { createHash } from 'node:crypto'
import type { BoundRequest, Selection } from '#attestation'
import { type Audit, type AuditFields, hashed, plain } from '../audit/index.ts'
import { BrokerError } from '../errors.ts'
import { type LifecyclePorts, type LifecycleService, openLifecycleService } from '../lifecycle/service.ts'
import { openSessions, type Sessions } from '../lifecycle/sessions.ts'
import type { Metrics } from '../metrics.ts'
import type { Mount } from '../mount_table.ts'
import { type Limiter, openLimiter } from '../rate.ts'
import type { Verdict } from '../refusals.ts'
import type { Place, Settle } from '../refuse.ts'
import type { Authority, Caller } from '../vault/authority.ts'
import { absent, type Vault, type VaultReply } from '../vault/client.ts'
import type { Store } from '../vault/store.ts'
import type { Signer } from '../vault/transit.ts'
import type { CallOptions } from '../vault/transport.ts'
import type { World } from '../world.ts'
import { type Appraiser, type Attested, type Evidence, openAppraiser } from './appraise.ts'
import { type Approval, openApproval } from './approval.ts'
import type { KeyOffer } from './bound_key.ts'
import { type Challenge, type Challenges, openChallenges } from './challenges.ts'
import { openClocks } from './clocks.ts'
import { referenceFromCorim } from './corim.ts'
import { type DocumentEvidence, openDocuments } from './documents.ts'
import { openEndorse } from './endorsements.ts'
import { type Enrolled, type Offered, openEnrolment } from './enrol.ts'
import { referenceFromTpm } from './from_tpm.ts'
import { handOut } from './hand_out.ts'
import { nativeRole, openTokenDoor } from './login.ts'
import { openLogThread } from './logs/log_thread.ts'
import { openMeasurements } from './measurements.ts'
import { openModuli } from './moduli.ts'
import { hex, openAkRecords } from './records.ts'
import { openResults, type Results } from './results.ts'
import type { LogKind } from './rules.ts'
import { type AttestConfig, type AttestSettings, configOf, openAttestSettings } from './settings.ts'
import { openStrangers } from './strangers.ts'
import { openTrust, type Trust } from './trust.ts'

export type OfferFields = {
  readonly ek_certificate: Buffer
  readonly ek_public: Buffer
  readonly ak_public: Buffer
  readonly hierarchy: string
  readonly intermediates: readonly string[]
  readonly caller: Caller
  readonly txn: string
}
export type ChallengeFields = {
  readonly operation: string
  readonly ak_name: Buffer
  readonly role: string
  readonly audience: string
  readonly key_thumbprint: string
  readonly mount: string
  readonly creds_role: string
  readonly plugin: string
  readonly action: string
  readonly scope: readonly string[]
}
export type LoginFields = {
  readonly role: string
  readonly ak_name: Buffer
  readonly challenge: Buffer
  readonly attest: Buffer
  readonly signature: Buffer
  readonly pcrs: string
  readonly event_log: Buffer | undefined
  readonly ima_log: Buffer | undefined
  readonly key: KeyOffer
  readonly audience: string
  readonly key_thumbprint: string
}
export type DocumentFields = { readonly role: string; readonly audience: string; readonly key_thumbprint: string }
type Drawn = Challenge & { readonly selection: Selection; readonly logs: readonly LogKind[] }

/** What a `tpm-quote` mount does. Every refusal is thrown as BrokerError permission_denied, and is in the audit log with its reason. */
export type Attest = {
  readonly settings: AttestSettings
  readonly lifecycle: LifecycleService
  readonly sessions: Sessions
  readonly appraiser: Appraiser
  readonly challenges: Challenges
  readonly trust: Trust
  readonly approval: Approval
  /** what TPMs showed last */
  readonly results: Results
  readonly referenceFromTpm: (
    mount: Mount,
    name: string,
    tpmId: string,
    given: Parameters<typeof referenceFromTpm>[5],
  ) => ReturnType<typeof referenceFromTpm>
  readonly referenceFromCorim: (
    mount: Mount,
    name: string,
    given: Parameters<typeof referenceFromCorim>[3],
  ) => ReturnType<typeof referenceFromCorim>
  readonly configOf: (mount: Mount) => Promise<AttestConfig>
  readonly offer: (mount: Mount, fields: OfferFields) => Promise<Offered>
  readonly activate: (mount: Mount, enrollment: Buffer, secret: Buffer, txn: string) => Promise<Enrolled>
  readonly challenge: (mount: Mount, fields: ChallengeFields, txn: string) => Promise<Drawn>
  /** Vault's own reply to the login. */
  readonly login: (mount: Mount, fields: LoginFields, how: { txn: string } & CallOptions) => Promise<VaultReply>
  readonly challengeDocument: (mount: Mount, fields: DocumentFields, txn: string) => Promise<Challenge>
  /** Vault's own reply to the login. */
  readonly loginDocument: (
    mount: Mount,
    fields: DocumentFields & DocumentEvidence,
    how: { txn: string } & CallOptions,
  ) => Promise<VaultReply>
  /** The `jwt` role behind one of ours, with the operator's own token. */
  readonly readNativeRole: (mount: Mount, name: string, caller: Caller) => Promise<object>
  readonly writeNativeRole: (mount: Mount, name: string, token: object, caller: Caller) => Promise<void>
  readonly deleteNativeRole: (mount: Mount, name: string, caller: Caller) => Promise<void>
  /** Makes a new `jwt` mount ours, with the operator's own token; undoes what `close` can. */
  readonly open: (mount: Mount, caller: Caller) => Promise<void>
  readonly close: (mount: Mount) => Promise<void>
  /** Ends what runs beside. */
  readonly stop: () => Promise<void>
}

export type AttestPorts = {
  readonly world: World
  readonly vault: Vault
  readonly store: Store
  readonly signer: Signer
  readonly audit: Audit
  readonly authority: Authority
  readonly settle: Settle
  readonly metrics: Metrics
} & Pick<LifecyclePorts, 'own' | 'mounts' | 'ownUrl' | 'endLeases'>

export function openAttest(ports: AttestPorts): Attest {
  const { world, vault, store, signer, audit, settle, metrics } = ports
  const settings = openAttestSettings(store)
  const lifecycle = openLifecycleService({ ...ports, settings })
  const challenges = openChallenges(world)
  const records = openAkRecords(store, settings.tpm)
  const thread = openLogThread()
  const results = openResults(store, world)
  const measurements = openMeasurements(thread, results)
  const clocks = openClocks(store, world)
  const appraiser = openAppraiser({ settings, records, challenges, clocks, measurements, lifecycle, world })
  const trust = openTrust(settings, world)
  const moduli = openModuli(store)
  const approval = openApproval(settings, store, world)
  const enrolment = openEnrolment({ settings, store, world, endorse: openEndorse(trust, moduli, world), moduli, approval })
  const documents = openDocuments({ settings, challenges, trust, approval, lifecycle, world })
  const limit = openLimiter(world.monotonic)
  const bounded: Limiter = (rate, key) => {
    try {
      limit(rate, key)
    } catch (error) {
      // counted, not recorded: a flood of requests is no flood of records
      metrics.refusals.inc({ code: 'rate_limited' })
      throw error
    }
  }
  const strangers = openStrangers(bounded)
  metrics.challengesHeld.follow({}, challenges.taken)
  const door = openTokenDoor(vault, signer, store, world)
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
    settle(await handOut(lifecycle, world, mount, attested, { name: request.role, revocable }, reply), place, 'nothing')
    const accessor = reply.auth?.['accessor'] ?? reply.wrap_info?.['accessor']
    ended({ result: plain('issued'), accessor: hashed(String(accessor)) })
    return reply
  }
  return {
    settings,
    lifecycle,
    sessions: openSessions({ lifecycle, settings, world }),
    appraiser,
    challenges,
    trust,
    approval,
    results,
    referenceFromCorim: (...given) => referenceFromCorim(settings, ...given),
    referenceFromTpm: (...given) => referenceFromTpm(settings, results, ...given),
    configOf: mount => configOf(settings, mount),
    offer: async (mount, { ek_certificate, ek_public, ak_public, hierarchy, intermediates, caller, txn }) => {
      const place = placeOf(mount, 'enroll', txn)
      bounded('offersOfEk', digest(ek_public))
      // the dearest by far to answer
      if (isOnP384(ek_public)) bounded('offersOfP384')
      await mayEnrol(ports, settings, mount, caller, place)
      bounded('offers')
      await audit.append({ type: 'request', ...place, fields: { ek_public: hashed(ek_public), ak_public: hashed(ak_public) } })
      const chain = intermediates.map(one => Buffer.from(one, 'base64'))
      const offer = { ekCertificate: ek_certificate, ekPublic: ek_public, akPublic: ak_public, hierarchy, intermediates: chain }
      return settle(await enrolment.offer(mount, offer), place, 'nothing')
    },
    activate: async (mount, enrollment, secret, txn) => {
      const place = placeOf(mount, 'enroll/activate', txn)
      await audit.append({ type: 'request', ...place, fields: { enrollment: hashed(enrollment) } })
      const enrolled = settle(await enrolment.activate(mount, enrollment, secret), place, 'nothing')
      await lifecycle.enrolled(mount, enrolled.tpmId)
      audit.appendLazy({
        type: 'outcome',
        ...place,
        fields: { tpm_id: plain(enrolled.tpmId), ak_name: plain(hex(enrolled.akName)), result: plain(enrolled.status) },
      })
      return enrolled
    },
    challenge: async (mount, fields, txn) => {
      strangers.admit(keyOf(mount, fields))
      bounded('challengesOfAk', keyOf(mount, fields))
      const place = akPlaceOf(mount, 'challenge', fields, txn)
      const request = fields.operation === 'creds' ? credsRequest(fields) : loginRequest(mount, fields)
      settle(await records.find(mount.id, request.akName), place, 'nothing')
      strangers.found(keyOf(mount, fields))
      const { selection, logs } = settle(await appraiser.wanted(mount, fields.role), place, 'nothing')
      const { challenge_ttl } = await configOf(settings, mount)
      metrics.challengesDrawn.inc({})
      return { ...challenges.draw(request, challenge_ttl), selection, logs }
    },
    login: async (mount, fields, { txn, ...how }) => {
      bounded('loginsOfAk', keyOf(mount, fields))
      const request = loginRequest(mount, fields)
      const place = akPlaceOf(mount, 'login', fields, txn)
      const attested = settle(
        counted(metrics, await appraiser.appraise(mount, fields.role, request, evidenceOf(fields))),
        place,
        'nothing',
      )
      return enter(mount, attested, request, place, how)
    },
    challengeDocument: async (mount, fields, txn) => {
      bounded('documents', mount.id)
      const place = akPlaceOf(mount, 'challenge/document', { ...fields, ak_name: NO_KEY }, txn)
      settle(await documents.wanted(mount, fields.role), place, 'nothing')
      const { challenge_ttl } = await configOf(settings, mount)
      metrics.challengesDrawn.inc({})
      return challenges.draw(loginRequest(mount, { ...fields, ak_name: NO_KEY }), challenge_ttl)
    },
    loginDocument: async (mount, fields, { txn, ...how }) => {
      bounded('documents', mount.id)
      const request = loginRequest(mount, { ...fields, ak_name: NO_KEY })
      const place = akPlaceOf(mount, 'login/document', { ...fields, ak_name: NO_KEY }, txn)
      const verdict = counted(metrics, await documents.appraise(mount, fields.role, request, fields))
      return enter(mount, settle(verdict, place, 'nothing'), request, place, how)
    },
    readNativeRole: async (mount, name, { token }) =>
      (await absent(vault.read(rolePath(mount, name), { as: token })))?.data ?? {},
    writeNativeRole: async (mount, name, token, caller) =>
      void (await vault.write(rolePath(mount, name), { ...token, ...nativeRole(mount, name) }, { as: caller.token })),
    deleteNativeRole: (mount, name, { token }) => vault.delete(rolePath(mount, name), { as: token }),
    open: (mount, { token }) => door.open(mount, { as: token }),
    close: async mount => {
      await lifecycle.close(mount)
      await door.close(mount)
      await store.deleteAll(`${mount.id}/`)
    },
    stop: async () => {
      await lifecycle.stop()
      await thread.close()
    },
  }
}

function evidenceOf({ challenge, attest, signature, pcrs, event_log: eventLog, ima_log: imaList, key }: LoginFields): Evidence {
  return { challenge, attest, signature, pcrs, eventLog, imaList, key }
}

function counted<T>(metrics: Metrics, verdict: Verdict<T>): Verdict<T> {
  metrics.challengesRedeemed.inc({ outcome: verdict.ok ? 'ok' : 'refused' })
  return verdict
}

const rolePath = (mount: Mount, name: string) => `${mount.path}role/${name}`

function placeOf(mount: Mount, path: string, txn: string): Place {
  return { txn, operation: 'update', mount: mount.path, path }
}

/** Where something was asked of an attestation key, in words that whoever asked chose. */
function akPlaceOf(mount: Mount, path: string, { role, ak_name }: Pick<LoginFields, 'role' | 'ak_name'>, txn: string): Place {
  return { ...placeOf(mount, path, txn), fields: { role: hashed(role), ak_name: hashed(hex(ak_name)) } }
}

/** Documents are of no attestation key. */
const NO_KEY = Buffer.alloc(0)

/** TPMT_PUBLIC: TPM_ALG_ECC, whose nameAlg by the template is SHA-384. */
const isOnP384 = (ekPublic: Buffer) => ekPublic.subarray(0, 4).equals(ON_P384)
const ON_P384 = Buffer.from('0023000c', 'hex')

const keyOf = (mount: Mount, { ak_name }: Pick<LoginFields, 'ak_name'>) => `${mount.id} ${hex(ak_name)}`
const digest = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('base64')

async function mayEnrol(ports: AttestPorts, settings: AttestSettings, mount: Mount, caller: Caller, place: Place): Promise<void> {
  const { enrollment } = await configOf(settings, mount)
  if (enrollment !== 'token') return
  try {
    await ports.authority.require(caller, `${mount.path}enroll`, ['update'])
  } catch (error) {
    if (error instanceof BrokerError) ports.audit.appendLazy({ type: 'refusal', ...place, fields: { code: plain(error.code) } })
    throw error
  }
}

function loginRequest(mount: Mount, fields: Pick<LoginFields, 'role' | 'ak_name' | 'audience' | 'key_thumbprint'>): BoundRequest {
  const { role, audience, key_thumbprint: keyThumbprint } = fields
  const { ak_name: akName } = fields
  return { operation: 'login', mount: mount.path, role, audience, akName, keyThumbprint, plugin: '', action: '', scope: [] }
}

function credsRequest(fields: ChallengeFields): BoundRequest {
  const { audience, key_thumbprint: keyThumbprint, plugin, action, scope } = fields
  const mount = `${fields.mount.replace(/\/+$/, '')}/`
  return {
    operation: 'creds',
    mount,
    role: fields.creds_role,
    audience,
    akName: fields.ak_name,
    keyThumbprint,
    plugin,
    action,
    scope,
  }
}
