import { reject } from '#attestation'
import type { Appraiser } from '../attest/appraise.ts'
import type { MachineState } from '../attest/machine_state.ts'
import type { AttestSettings } from '../attest/settings.ts'
import { type Audit, hashed, plain } from '../audit/index.ts'
import { type Consent, openConsent, openGrants, openRequests } from '../consent/index.ts'
import { BrokerError } from '../errors.ts'
import type { Integrations } from '../integrations/service.ts'
import { openUpstreams } from '../issuers/outbound.ts'
import type { Longest } from '../leases/parts.ts'
import type { Provider } from '../leases/provider.ts'
import type { Leases } from '../leases/service.ts'
import type { Sessions } from '../lifecycle/sessions.ts'
import type { Metrics } from '../metrics.ts'
import type { Mount, MountTable } from '../mount_table.ts'
import type { Explanation } from '../policy/index.ts'
import { refusals } from '../refusals.ts'
import type { Settle } from '../refuse.ts'
import type { Deliver } from '../sealing/deliver.ts'
import { beyond, NO_CONTEXT, narrowed } from '../tasks/bindings.ts'
import type { TaskContext } from '../tasks/context.ts'
import type { Tasks } from '../tasks/service.ts'
import type { Work, Working } from '../tasks/work.ts'
import type { Time } from '../time.ts'
import type { Identified } from '../vault/authority.ts'
import type { Cipher } from '../vault/cipher.ts'
import type { Vault } from '../vault/client.ts'
import type { OwnVault } from '../vault/own.ts'
import type { RsaSigner } from '../vault/rsa_signer.ts'
import type { Store } from '../vault/store.ts'
import type { Signer } from '../vault/transit.ts'
import type { World } from '../world.ts'
import { type Authoring, openAuthoring } from './authoring.ts'
import { type Consenting, openConsenting } from './consenting.ts'
import { type Issued, openCreds, type Simulated, type Sources } from './creds.ts'
import type { Agent, Ask } from './decide.ts'
import { openExchange } from './exchange.ts'
import { type Keys, openKeys } from './keys.ts'
import { openLeased } from './leased.ts'
import { within } from './life.ts'
import { openPolicies, type Policies } from './policies.ts'
import { providerOf } from './provider.ts'
import { configOf, type IssueConfig, type IssueSettings, openIssueSettings } from './settings.ts'
import type { CredsRequest } from './who.ts'

/** An agent as an operator describes it to `simulate`. */
export type DescribedAgent = {
  readonly tpmId: string
  readonly mount: string
  readonly role: string
  readonly entityId: string
  readonly fresh: boolean
  readonly keyBound: boolean
  readonly firmwareVersion: string
  /** what its quote established */
  readonly state: MachineState
  /** whole seconds since that quote */
  readonly attestationAgeSeconds: number
  readonly task: Pick<TaskContext, 'org' | 'task' | 'session' | 'user' | 'integrations'>
}

/** What a `broker` mount does. A refusal is thrown as BrokerError permission_denied with its code and what to do next. */
export type Issue = {
  readonly settings: IssueSettings
  readonly policies: Policies
  readonly authoring: Authoring
  readonly keys: Keys
  readonly configOf: (mount: Mount) => Promise<IssueConfig>
  readonly issue: (mount: Mount, who: Identified, request: CredsRequest, txn: string) => Promise<Issued>
  /** A sign of life of an agent whose role wants them. */
  readonly beat: (mount: Mount, who: Identified, request: CredsRequest, txn: string) => Promise<Working>
  readonly simulate: (mount: Mount, role: string, agent: DescribedAgent, ask: Ask) => Promise<object>
  readonly open: (mount: Mount) => Promise<void>
  readonly close: (mount: Mount) => Promise<void>
  /** ends the connections to providers */
  readonly stop: () => Promise<void>
  /** what ends credentials that have a lease */
  readonly provider: Provider
  /** for how long they may be renewed */
  readonly longest: Longest
  /** for people: pages, and what they consented to */
  readonly consent: Consent
  /** for agents that need a person */
  readonly consenting: Consenting
}

export type IssueParts = {
  readonly world: World
  readonly time: Time
  readonly store: Store
  readonly signer: Signer
  readonly rsaSigner: RsaSigner
  readonly cipher: Cipher
  readonly vault: Vault
  readonly own: OwnVault
  readonly integrations: Integrations
  readonly tasks: Tasks
  readonly work: Work
  readonly audit: Audit
  readonly mounts: MountTable
  readonly metrics: Metrics
  readonly settle: Settle
  readonly leases: Leases
  readonly deliver: Deliver
  readonly attest: { readonly settings: AttestSettings; readonly appraiser: Appraiser; readonly sessions: Sessions }
  readonly ownUrl: () => string
}

export function openIssue(parts: IssueParts): Issue {
  const { world, store, signer, rsaSigner, cipher, audit, mounts, metrics, settle, attest } = parts
  const settings = openIssueSettings(store, rsaSigner)
  const policies = openPolicies(settings, world.monotonic)
  const keys = openKeys(signer, rsaSigner, settings, parts.ownUrl)
  const { appraiser, sessions, settings: attestSettings } = attest
  const upstreams = openUpstreams({ monotonic: world.monotonic })
  const leased = openLeased(parts.leases, mounts, parts.vault, world)
  const grants = openGrants(store, cipher, world)
  const exchange = openExchange({
    world,
    keys,
    signer,
    rsaSigner,
    cipher,
    vault: parts.vault,
    own: parts.own,
    upstreams,
    leased,
    grants,
    deliver: parts.deliver,
  })
  const { integrations, tasks, ownUrl } = parts
  const requests = openRequests(store, world)
  const consent = openConsent({ world, requests, grants, integrations, upstreams, mounts, audit, ownUrl })
  const sources: Sources = (mount, name, agent, { action, role, txn }) =>
    integrations.admit(mount, name, { entityId: agent.entityId, context: agent.task }, action, { txn, path: `creds/${role}` })
  const creds = openCreds({
    world,
    time: parts.time,
    audit,
    mounts,
    attestSettings,
    appraiser,
    sessions,
    settings,
    policies,
    sources,
    tasks,
    work: parts.work,
    exchange,
    onStale: () => metrics.staleReads.inc({}),
  })
  const issue: Issue['issue'] = async (mount, who, request, txn) => {
    const fields = {
      pattern: plain('creds/:role'),
      accessor: hashed(who.facts.accessor),
      tpm_id: plain(who.facts.meta['tpm_id'] ?? ''),
      plugin: hashed(request.plugin ?? ''),
      action: hashed(request.action ?? ''),
    }
    const place = { txn, operation: 'update', mount: mount.path, path: hashed(`creds/${request.role}`), fields }
    const issued = settle(await creds.issue(mount, who, request, txn), place, 'reason')
    metrics.issues.inc({ issuer: issued.issuer })
    return issued
  }
  return {
    settings,
    policies,
    authoring: openAuthoring(settings, policies),
    keys,
    configOf: mount => configOf(settings, mount),
    issue,
    beat: async (mount, who, request, txn) => {
      const fields = { pattern: plain('creds/:role/heartbeat'), accessor: hashed(who.facts.accessor) }
      const place = { txn, operation: 'update', mount: mount.path, path: hashed(`creds/${request.role}/heartbeat`), fields }
      return settle(await creds.beat(mount, who, request), place, 'reason')
    },
    simulate: async (mount, role, described, ask) => {
      assertSaid(described.task)
      const bound = await tasks.bindings.of(mount, described.entityId)
      const why = described.task.org === '' ? undefined : beyond(bound, described.task)
      if (why !== undefined) return told({ verdict: reject('TASK_TOKEN', why), explanation: undefined })
      return told(await creds.simulate(mount, role, await complete(attestSettings, mounts, described, bound), ask))
    },
    open: mount => keys.create(mount),
    stop: upstreams.close,
    close: async mount => {
      await keys.destroy(mount).catch((error: unknown) => {
        world.log.warn({ error, mount: mount.path }, 'the signing key of a disabled mount could not be destroyed')
      })
      policies.changed(mount)
      await integrations.drop(mount)
      await store.deleteAll(`${mount.id}/`)
    },
    provider: providerOf(exchange, mounts, integrations),
    longest: async ({ mountId, role }) => {
      const mount = mounts.ofType('broker').find(({ id }) => id === mountId)
      const record = await settings.role.get(mountId, role)
      return mount && record && within(mount, record).max_ttl
    },
    consent,
    consenting: openConsenting({ creds, consent, settle, issue }),
  }
}

/** A task token says its organisation; what would be left out beside none is not to be taken for said. */
function assertSaid({ org, task, session, user, integrations }: DescribedAgent['task']): void {
  if (org === '' && (`${task}${session}${user}` !== '' || integrations !== undefined))
    throw new BrokerError('bad_request', 'org: wanted with task, session, user and integrations, as task tokens say it with them')
}

/** The described agent with what is on record of its TPM and its entity. */
async function complete(
  settings: AttestSettings,
  mounts: MountTable,
  described: DescribedAgent,
  bound: TaskContext = NO_CONTEXT,
): Promise<Agent> {
  const path = `${described.mount.replace(/\/+$/, '')}/`
  const login = mounts.find(`${path}login`)
  const tpm = login ? await settings.tpm.get(login.id, described.tpmId) : undefined
  return {
    tpmId: described.tpmId,
    mount: path,
    role: described.role,
    entityId: described.entityId,
    maker: tpm?.maker ?? '',
    firmwareVersion: described.firmwareVersion,
    state: described.state,
    labels: tpm?.labels ?? [],
    task: described.task.org === '' ? bound : narrowed({ ...NO_CONTEXT, ...described.task }, bound),
    keyThumbprint: described.keyBound ? 'the key of the agent' : '',
    x5tS256: described.keyBound ? 'the certificate of the agent' : '',
    keyCertified: described.keyBound,
    tokenTtlSeconds: Number.POSITIVE_INFINITY,
    attestationAgeSeconds: described.fresh ? 0 : described.attestationAgeSeconds,
    attestationLeftSeconds: Number.POSITIVE_INFINITY,
    workLeftSeconds: Number.POSITIVE_INFINITY,
    fresh: described.fresh,
  }
}

function told({ verdict, explanation }: Simulated): object {
  if (!verdict.ok)
    return {
      allowed: false,
      code: verdict.code,
      reason: refusals[verdict.code].means,
      detail: verdict.detail,
      next: refusals[verdict.code].next,
      ...seenIn(explanation),
    }
  const { plugin, action, scope, audience, ttlSeconds, keyThumbprint, reasons, prepared, plan } = verdict.value
  const asked = { plugin, action, scope, audience, ttl: ttlSeconds, key_bound: keyThumbprint !== '' }
  return { allowed: true, ...asked, policies: reasons, permissions: prepared.permissions, request: plan, ...seenIn(explanation) }
}

/** For who looks for what a policy compares with: the request as the policies saw it. */
function seenIn(explanation: Explanation | undefined): object {
  const { request, permits, forbids } = explanation ?? {}
  if (!request) return {}
  const { action, resource, context, entities } = request
  return { permits, forbids, seen: { principal: entities[0]?.attrs, action, resource, context } }
}
