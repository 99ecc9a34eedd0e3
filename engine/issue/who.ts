import { accept, type BoundRequest, reject } from '#attestation'
import type { Appraiser, Evidence } from '../attest/appraise.ts'
import type { BoundKey } from '../attest/bound_key.ts'
import type { Metadata } from '../attest/login.ts'
import { stateOf, stateOfMetadata } from '../attest/machine_state.ts'
import { outOf } from '../attest/records.ts'
import type { AttestSettings } from '../attest/settings.ts'
import type { Session, Sessions } from '../lifecycle/sessions.ts'
import type { Mount, MountTable } from '../mount_table.ts'
import type { Verdict } from '../refusals.ts'
import type { Secret } from '../secret.ts'
import { NO_CONTEXT } from '../tasks/bindings.ts'
import type { Tasks } from '../tasks/service.ts'
import type { TokenFacts } from '../vault/authority.ts'
import type { World } from '../world.ts'
import type { Agent, Ask } from './decide.ts'

/** A request for a credential; `evidence` is there when the request brings a quote of its own. */
export type CredsRequest = Ask & {
  readonly role: string
  readonly evidence: Evidence | undefined
  /** the key that the request's own quote binds; the one of the login when absent */
  readonly keyThumbprint: string | undefined
  /** what the agent gives for the provider, such as a public key to sign */
  readonly parameters: Readonly<Record<string, unknown>>
  /** what an orchestrator signed of the task */
  readonly taskToken: Secret | undefined
  /** the token that asks */
  readonly token: Secret
}
export type WhoPorts = {
  readonly world: World
  readonly mounts: MountTable
  readonly attestSettings: AttestSettings
  readonly appraiser: Appraiser
  readonly sessions: Sessions
  readonly tasks: Tasks
}

/** Who the token belongs to: only what an attested login of one of our mounts wrote into it counts. */
export async function identify(ports: WhoPorts, mount: Mount, facts: TokenFacts, request: CredsRequest): Promise<Verdict<Known>> {
  const login = ports.mounts.find(facts.path)
  if (login?.type !== 'tpm-quote' || facts.path !== `${login.path}login`)
    return reject('NOT_ATTESTED', 'the token came from elsewhere')
  const meta = facts.meta as Metadata
  const tpm = await ports.attestSettings.tpm.get(login.id, meta.tpm_id)
  if (!tpm) return reject('AK_NOT_ENROLLED', 'the record of the TPM was deleted')
  const out = outOf(tpm, meta.tpm_id, meta.ak_name)
  if (out) return out
  if (isOlder(meta, tpm.enrolled_at)) return reject('SESSION_ENDED', 'the token is of a login before this TPM was enrolled here')
  const told = agentOf(login, facts, meta, tpm.labels, ports.world)
  const agent = request.evidence ? await quoted(ports, mount, login, told, meta, request, request.evidence) : accept(told)
  if (!agent.ok) return agent
  const session = await ports.sessions.appraise(login, meta, agent.value.fresh)
  if (!session.ok) return session
  const { attestationLeftSeconds } = session.value
  return accept({ agent: { ...agent.value, attestationLeftSeconds }, session: session.value })
}

/** Front doors whose clocks are further apart do not get along anyway. */
const APART_MS = 60_000

/** A batch token outlives the mount that it was got from, and one that is enabled at the same path knows nothing of what became of the machine before. */
const isOlder = ({ attested_at }: Metadata, enrolledAt: string) => Number(attested_at) * 1000 + APART_MS < Date.parse(enrolledAt)

export type Known = { readonly agent: Agent; readonly session: Session }

/** What the agent does this for: signed by an orchestrator for this very agent, or what an operator bound its entity to. */
export async function forTask(
  ports: WhoPorts,
  mount: Mount,
  known: Verdict<Known>,
  request: CredsRequest,
): Promise<Verdict<Agent>> {
  if (!known.ok) return known
  const { agent } = known.value
  const task = await ports.tasks.contextOf(mount, agent, request.taskToken)
  return task.ok ? accept({ ...agent, task: task.value }) : task
}

function agentOf(login: Mount, facts: TokenFacts, meta: Metadata, labels: readonly string[], world: World): Agent {
  return {
    tpmId: meta.tpm_id,
    mount: login.path,
    role: meta.login_role,
    entityId: facts.entityId,
    maker: meta.maker,
    firmwareVersion: meta.firmware_version,
    state: stateOfMetadata(meta),
    labels,
    task: NO_CONTEXT,
    keyThumbprint: meta.key_thumbprint,
    x5tS256: meta.x5t_s256 ?? '',
    keyCertified: meta.key_certified === 'true',
    tokenTtlSeconds: facts.ttlSeconds,
    attestationAgeSeconds: Math.max(0, Math.floor(world.now() / 1000) - Number(meta.attested_at)),
    attestationLeftSeconds: Number.POSITIVE_INFINITY,
    workLeftSeconds: Number.POSITIVE_INFINITY,
    fresh: false,
  }
}

/** The quote that came with the request: over this very request, by the key that logged in, against the reference values of its login role. */
async function quoted(
  ports: WhoPorts,
  mount: Mount,
  login: Mount,
  agent: Agent,
  meta: Metadata,
  request: CredsRequest,
  evidence: Evidence,
): Promise<Verdict<Agent>> {
  const bound: BoundRequest = {
    operation: 'creds',
    mount: mount.path,
    role: request.role,
    audience: request.audience ?? '',
    akName: Buffer.from(meta.ak_name, 'hex'),
    keyThumbprint: request.keyThumbprint ?? '',
    plugin: request.plugin ?? '',
    action: request.action ?? '',
    scope: request.scope,
  }
  const [attested, role] = await Promise.all([
    ports.appraiser.appraise(login, meta.login_role, bound, evidence),
    ports.attestSettings.role.get(login.id, meta.login_role),
  ])
  if (!attested.ok) return attested
  const key = keyBetween(agent, attested.value.key)
  // what the login had to show of its key, no other one comes in without
  if (role?.bind_key === 'certified' && !key.keyCertified)
    return reject('KEY_NOT_CERTIFIED', 'the quote named another key than the login, by its thumbprint alone')
  return accept({
    ...agent,
    ...key,
    firmwareVersion: String(attested.value.claims.firmwareVersion),
    state: stateOf(attested.value),
    attestationAgeSeconds: 0,
    fresh: true,
  })
}

/** The key of the request's own quote comes in place of the one of the login; what the login knows of the same key stays true. */
function keyBetween(
  login: Agent,
  { thumbprint, x5tS256, certified }: BoundKey,
): Pick<Agent, 'keyThumbprint' | 'x5tS256' | 'keyCertified'> {
  if (thumbprint === '') return login
  const same = thumbprint === login.keyThumbprint
  return {
    keyThumbprint: thumbprint,
    x5tS256: x5tS256 || (same ? login.x5tS256 : ''),
    keyCertified: certified || (same && login.keyCertified),
  }
}
