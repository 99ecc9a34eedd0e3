import { accept, reject } from '#attestation'
import { type Audit, type AuditFields, plain } from '../audit/index.ts'
import { cappedWarning } from '../capped.ts'
import type { Credential, Grant } from '../issuers/index.ts'
import type { Session } from '../lifecycle/sessions.ts'
import type { Mount } from '../mount_table.ts'
import type { Explanation } from '../policy/index.ts'
import type { RefusalCode, Verdict } from '../refusals.ts'
import { UNBOUNDED, type Work, type Working } from '../tasks/work.ts'
import type { Time } from '../time.ts'
import type { Identified } from '../vault/authority.ts'
import type { World } from '../world.ts'
import { entry, grantFields, issuedFields } from './account.ts'
import { type Asker, askerOf } from './asker.ts'
import { type Agent, type Ask, type Decision, decide, explained } from './decide.ts'
import type { Exchange } from './exchange.ts'
import { within } from './life.ts'
import type { Policies } from './policies.ts'
import type { Prepared, Source } from './prepared.ts'
import type { IssueSettings, RoleRecord } from './settings.ts'
import { type CredsRequest, forTask, identify, type WhoPorts } from './who.ts'

export type Issued = {
  readonly credential: Credential
  readonly grant: Grant
  readonly issuer: string
  /** seconds since the epoch: nothing that follows lives longer, unless the agent logs in anew; undefined without a limit */
  readonly renewableUntil: number | undefined
  /** how soon a sign of life is wanted; Infinity when none is */
  readonly beatWithinSeconds: number
  /** sentences for whoever can do something about it */
  readonly warnings: readonly string[]
}

/** The integration that a role names, for this agent; a refusal answers alike whether it is not there or not theirs. */
export type Sources = (mount: Mount, name: string, agent: Agent, asked: Asked) => Promise<Verdict<Source>>
type Asked = { readonly action: string; readonly role: string; readonly txn: string }

export type CredsPorts = WhoPorts & {
  readonly audit: Audit
  readonly time: Pick<Time, 'agreed' | 'assertAgreed'>
  readonly settings: IssueSettings
  readonly policies: Policies
  readonly sources: Sources
  readonly work: Work
  /** a credential was made from what a store said before it went down */
  readonly onStale: () => void
  readonly exchange: Exchange
}

export type Creds = {
  /** A sign of life, without asking for anything. */
  readonly beat: (mount: Mount, who: Identified, request: CredsRequest) => Promise<Verdict<Working>>
  /** Decides and issues. The intent is durable before anything secret is made. */
  readonly issue: (mount: Mount, who: Identified, request: CredsRequest, txn: string) => Promise<Verdict<Issued>>
  /** Decides for who asks, and issues nothing. */
  readonly decided: (
    mount: Mount,
    who: Identified,
    request: CredsRequest,
    txn: string,
  ) => Promise<Verdict<{ readonly grant: Grant; readonly prepared: Prepared }>>
  /** What would be decided for this agent, and why, and what the provider would be asked. Nothing is issued. */
  readonly simulate: (mount: Mount, role: string, agent: Agent, ask: Ask) => Promise<Simulated>
}

export type Simulated = {
  readonly verdict: Verdict<Decided & { readonly plan: object }>
  /** what the policies saw of it, and each said; undefined where they were not asked */
  readonly explanation: Explanation | undefined
}

export function openCreds(ports: CredsPorts): Creds {
  const decideFor = async (
    mount: Mount,
    name: string,
    agent: Agent,
    ask: Ask,
    txn: string,
    who: Identified | undefined,
  ): Promise<Verdict<Decided>> => {
    const [record, policies] = await Promise.all([ports.settings.role.get(mount.id, name), ports.policies.of(mount)])
    if (!record) return reject('ROLE', 'no role has this name')
    const work = who ? await workOf(ports, mount, name, record, agent, who) : accept(UNBOUNDED)
    if (!work.ok) return work
    const { leftSeconds: workLeftSeconds, beatWithinSeconds } = work.value
    const working = { ...agent, workLeftSeconds }
    const decision = decide(name, within(mount, record), policies, working, ask)
    if (!decision.ok) return decision
    const { action, leftSeconds } = decision.value
    const prepared = await prepare(ports, mount, record, agent, { action, role: name, txn }, leftSeconds)
    if (!prepared.ok) return prepared
    return accept({ ...decision.value, prepared: prepared.value, policyVersion: policies.version, beatWithinSeconds })
  }
  const ask = async (mount: Mount, who: Identified, request: CredsRequest, txn: string): Promise<Verdict<Asking>> => {
    const { facts, permitted } = who
    // what Vault answers tells its time, too
    if (!ports.time.agreed()) await permitted
    ports.time.assertAgreed()
    // a quote uses up its challenge and moves the clock of its key: not for who may not ask
    if (request.evidence) await permitted
    const known = await identify(ports, mount, facts, request)
    const agent = await forTask(ports, mount, known, request)
    const decided = agent.ok ? await decideFor(mount, request.role, agent.value, request, txn, who) : agent
    // who may not ask does not learn what would have been decided
    if (!known.ok || !agent.ok || !decided.ok) await permitted
    if (!known.ok) return known
    if (!agent.ok) return agent
    if (!decided.ok) return decided
    const grant = grantOf(decided.value, agent.value, request.parameters, txn, ports.world)
    return accept({ session: known.value.session, agent: agent.value, decided: decided.value, grant })
  }
  return {
    simulate: async (mount, name, agent, ask) => {
      const [record, policies] = await Promise.all([ports.settings.role.get(mount.id, name), ports.policies.of(mount)])
      const explanation = record && explained(name, within(mount, record), policies, agent, ask)
      const decided = await decideFor(mount, name, agent, ask, '', undefined)
      if (!decided.ok) return { verdict: decided, explanation }
      const plan = await ports.exchange.plan(decided.value.prepared, grantOf(decided.value, agent, {}, '', ports.world))
      return { verdict: plan.ok ? accept({ ...decided.value, plan: plan.value }) : plan, explanation }
    },
    beat: async (mount, who, request) => {
      await who.permitted
      ports.time.assertAgreed()
      const agent = await forTask(ports, mount, await identify(ports, mount, who.facts, request), request)
      if (!agent.ok) return agent
      const record = await ports.settings.role.get(mount.id, request.role)
      if (!record) return reject('ROLE', 'no role has this name')
      return workOf(ports, mount, request.role, record, agent.value, who)
    },
    decided: async (mount, who, request, txn) => {
      await who.permitted
      const asked = await ask(mount, who, request, txn)
      return asked.ok ? accept({ grant: asked.value.grant, prepared: asked.value.decided.prepared }) : asked
    },
    issue: async (mount, who, request, txn) => {
      const { facts, permitted } = who
      const asked = await ask(mount, who, request, txn)
      if (!asked.ok) return asked
      const { session, agent, decided, grant } = asked.value
      if (request.taskToken) await permitted
      const spent = request.taskToken ? await ports.tasks.spend(mount, request.taskToken) : accept(undefined)
      if (!spent.ok) return spent
      const still = unchanged(ports, mount, session, decided.policyVersion)
      // awaited behind the intent, which may fail first
      still.catch(() => undefined)
      await intended(ports, mount, request, grant, permitted, grantFields(grant, facts, decided))
      const same = await still
      if (!same.ok) return same
      return make(ports, request, decided, agent, grant, askerOf(mount, facts, request))
    },
  }
}

type Asking = { readonly session: Session; readonly agent: Agent; readonly decided: Decided; readonly grant: Grant }
type Decided = Decision & Pick<Working, 'beatWithinSeconds'> & { readonly prepared: Prepared; readonly policyVersion: string }

async function prepare(
  { sources, exchange }: CredsPorts,
  mount: Mount,
  record: RoleRecord,
  agent: Agent,
  asked: Asked,
  leftSeconds: number,
): Promise<Verdict<Prepared>> {
  if (record.integration === '') return exchange.prepare(mount, record, asked.action, undefined, leftSeconds)
  const source = await sources(mount, record.integration, agent, asked)
  return source.ok ? exchange.prepare(mount, record, asked.action, source.value, leftSeconds) : source
}

/** The intent is durable and Vault has said that this token may, both, before anything secret is made; the two do not wait for each other. */
async function intended(
  ports: CredsPorts,
  mount: Mount,
  request: CredsRequest,
  grant: Grant,
  permitted: Promise<void>,
  fields: AuditFields,
): Promise<void> {
  const written = ports.audit.append({ ...entry('intent', mount, request.role, grant.txn), fields })
  const [durable, allowed] = await Promise.allSettled([written, permitted])
  if (durable.status === 'rejected') throw durable.reason
  if (allowed.status === 'fulfilled') return
  ports.audit.appendLazy({
    ...entry('outcome', mount, request.role, grant.txn),
    fields: { result: plain('not permitted'), jti: plain(grant.jti) },
  })
  throw allowed.reason
}

/** What the decision was made on is looked at once more before anything is made. */
async function unchanged(ports: CredsPorts, mount: Mount, session: Session, policyVersion: string): Promise<Verdict<undefined>> {
  const [still, policies] = await Promise.all([ports.sessions.still(session), ports.policies.of(mount)])
  if (!still.ok) return still
  return policies.version === policyVersion ? accept(undefined) : reject('STALE_EPOCH', 'the policy is another one now')
}

/** The work that the request belongs to, of which it is a sign of life; it begins for none who may not ask. */
async function workOf(
  { work }: CredsPorts,
  mount: Mount,
  role: string,
  record: RoleRecord,
  agent: Agent,
  { facts, permitted }: Identified,
): Promise<Verdict<Working>> {
  const rules = { maxSeconds: record.max_work, heartbeatSeconds: record.heartbeat }
  if (rules.maxSeconds === 0 && rules.heartbeatSeconds === 0) return accept(UNBOUNDED)
  await permitted
  return work.beat(mount, { tpmId: agent.tpmId, accessor: facts.accessor, role, task: agent.task }, rules)
}

function grantOf(decision: Decided, agent: Agent, parameters: Grant['parameters'], txn: string, world: World): Grant {
  return {
    txn,
    jti: world.random(16).toString('base64url'),
    tpmId: agent.tpmId,
    plugin: decision.plugin,
    action: decision.action,
    scope: decision.scope,
    audience: decision.audience,
    permissions: decision.prepared.permissions,
    parameters,
    task: agent.task.org === '' ? undefined : agent.task,
    keyThumbprint: decision.keyThumbprint,
    x5tS256: decision.x5tS256,
    ttlSeconds: decision.ttlSeconds,
    issuedAt: Math.floor(world.now() / 1000),
  }
}

/** The one call that makes a secret. Whatever comes of it is in the audit log; when it fails, the caller gets nothing. */
async function make(
  ports: CredsPorts,
  request: CredsRequest,
  { prepared, reasons, policyVersion, leftSeconds, beatWithinSeconds }: Decided,
  agent: Agent,
  grant: Grant,
  asker: Asker,
): Promise<Verdict<Issued>> {
  const outcome = (result: string, fields: AuditFields) =>
    ports.audit.appendLazy({
      ...entry('outcome', prepared.mount, request.role, grant.txn),
      fields: { result: plain(result), jti: plain(grant.jti), ...fields },
    })
  try {
    // who was asked about the right has told the time
    ports.time.assertAgreed()
    const decidedBy = { policyVersion, reasons, login: agent.mount, role: agent.role, entityId: agent.entityId }
    const exchanged = await ports.exchange.issue(prepared, grant, asker, decidedBy)
    if (!exchanged.ok) {
      outcome('failed', { code: plain(exchanged.code satisfies RefusalCode) })
      return exchanged
    }
    const { credential, reused } = exchanged.value
    const { stale = false, warning } = prepared.source?.notes ?? {}
    outcome('issued', { ...issuedFields(credential), ...(reused ? { reused } : {}), ...(stale ? { stale } : {}) })
    if (stale) ports.onStale()
    const renewableUntil = Number.isFinite(leftSeconds) ? grant.issuedAt + Math.floor(leftSeconds) : undefined
    const own = warning === undefined ? [] : [warning]
    const warnings = [...own, ...cutOf(request, grant), ...endOf(renewableUntil, credential.expiresAt)]
    return accept({ credential, grant, issuer: prepared.record.issuer, renewableUntil, beatWithinSeconds, warnings })
  } catch (error) {
    outcome('failed', {})
    throw error
  }
}

/** As at Vault: who asked for a longer life than there is, by the role, the token or the attestation, is told. */
function cutOf({ ttlSeconds: wanted }: CredsRequest, { ttlSeconds }: Grant): readonly string[] {
  return wanted !== undefined && wanted > ttlSeconds ? [cappedWarning(wanted, ttlSeconds)] : []
}

/** The agent is told while there is time to log in anew. */
function endOf(renewableUntil: number | undefined, expiresAt: number): readonly string[] {
  if (renewableUntil === undefined || renewableUntil > expiresAt) return []
  const end = new Date(renewableUntil * 1000).toISOString()
  return [`nothing follows this credential after ${end}: attest the machine anew or begin a new session of the task before then`]
}
