import { createHash } from 'node:crypto'
import {
  createLocalJWKSet,
  createRemoteJWKSet,
  customFetch,
  decodeJwt,
  errors,
  type JSONWebKeySet,
  type JWTPayload,
  type JWTVerifyGetKey,
  jwtVerify,
} from 'jose'
import { LRUCache } from 'lru-cache'
import { accept, type Rejection, reject } from '#attestation'
import type { Collection } from '../collection.ts'
import { wasFirst } from '../conflicts.ts'
import { BrokerError } from '../errors.ts'
import { type Http, openHttp } from '../http.ts'
import type { Mount } from '../mount_table.ts'
import type { RefusalCode, Verdict } from '../refusals.ts'
import type { Secret } from '../secret.ts'
import type { Time } from '../time.ts'
import { FRESH_MS, type Store } from '../vault/store.ts'
import type { World } from '../world.ts'
import { type Bindings, beyond, NO_CONTEXT, narrowed, openBindings } from './bindings.ts'
import { readClaims, type TaskClaims } from './claims.ts'
import type { TaskContext } from './context.ts'
import { type Orchestrator, openOrchestrators, type orchestratorFields } from './orchestrators.ts'

/** Who presents a task token. */
export type Bearer = { readonly tpmId: string; readonly entityId: string; readonly keyThumbprint: string }

/** What a task is about: what an orchestrator signed, within what an operator bound the agent to. */
export type Tasks = {
  readonly orchestrators: Collection<typeof orchestratorFields>
  /** an orchestrator was written or deleted here */
  readonly changed: (mount: Mount) => void
  readonly bindings: Bindings
  /** Without a token it is what the agent is bound to, or nothing. */
  readonly contextOf: (mount: Mount, bearer: Bearer, token: Secret | undefined) => Promise<Verdict<TaskContext>>
  /** Right before something is issued for a token that `contextOf` accepted: one that is for one credential is used up by it. */
  readonly spend: (mount: Mount, token: Secret) => Promise<Verdict<undefined>>
  /** Forgets what has expired of the tokens that were used. */
  readonly sweep: (mount: Mount) => Promise<void>
}

const TYPE = 'txntoken+jwt'
const SKEW_SECONDS = 5
/** Clocks of replicas may differ by so much: none forgets what another one still takes. */
const APART_SECONDS = 300
const KEY_SETS = 64
const MOUNTS = 256
const JWKS_TIMEOUT_MS = 3_000

export function openTasks(state: Store, world: World, time: Pick<Time, 'earlier'>): Tasks {
  const orchestrators = openOrchestrators(state)
  const bindings = openBindings(state)
  const keys = openKeySets()
  const used = openUsed(state)
  const names = new LRUCache<string, readonly string[]>({
    max: MOUNTS,
    ttl: FRESH_MS,
    ttlResolution: 0,
    perf: { now: world.monotonic },
  })
  const namesOf = async (mount: Mount): Promise<readonly string[]> => {
    const found = names.get(mount.id) ?? (await orchestrators.list(mount.id))
    names.set(mount.id, found, { noUpdateTTL: true })
    return found
  }
  const speakerOf = async (mount: Mount, issuer: unknown): Promise<Orchestrator | undefined> => {
    const records = await Promise.all((await namesOf(mount)).map(name => orchestrators.get(mount.id, name)))
    return records.find(record => record?.issuer === issuer)
  }
  const claimsOf = async (mount: Mount, token: Secret): Promise<Verdict<{ claims: TaskClaims; by: Orchestrator }>> => {
    const by = await speakerOf(mount, issuerIn(token))
    // whoever is not known is not asked for keys either
    if (!by) return reject('TASK_TOKEN', 'no trusted orchestrator signed it')
    const payload = await verified(token, by, keys(by), world.now())
    if (!payload.ok) return payload
    const claims = readClaims(payload.value)
    return claims.ok ? accept({ claims: claims.value, by }) : claims
  }
  return {
    orchestrators,
    changed: mount => void names.delete(mount.id),
    bindings,
    contextOf: async (mount, bearer, token) => {
      const bound = await bindings.of(mount, bearer.entityId)
      if (!token) return accept(bound ?? NO_CONTEXT)
      const read = await claimsOf(mount, token)
      if (!read.ok) return read
      const { claims, by } = read.value
      const wrong = misuse(claims, by, bearer, bound)
      if (wrong) return wrong
      return accept(narrowed(claims.context, bound))
    },
    spend: async (mount, token) => {
      const by = await speakerOf(mount, issuerIn(token))
      if (!by) return reject('TASK_TOKEN', 'its orchestrator is not trusted any more')
      if (!by.single_use) return accept(undefined)
      const { jti = '', exp = 0 } = decodeJwt(token.reveal())
      return (await used.first(mount, by.issuer, jti, exp))
        ? accept(undefined)
        : reject('TASK_TOKEN_USED', 'a credential was given for it')
    },
    sweep: mount => used.sweep(mount, time.earlier()),
  }
}

/** `iss` before anything is verified, to find the keys to verify with. */
function issuerIn(token: Secret): unknown {
  try {
    return decodeJwt(token.reveal()).iss
  } catch {
    return undefined
  }
}

async function verified(token: Secret, by: Orchestrator, keys: JWTVerifyGetKey, now: number): Promise<Verdict<JWTPayload>> {
  try {
    const { payload } = await jwtVerify(token.reveal(), keys, {
      issuer: by.issuer,
      audience: by.audience,
      algorithms: [...by.algorithms],
      typ: TYPE,
      requiredClaims: ['iat', 'exp', 'jti'],
      clockTolerance: SKEW_SECONDS,
      maxTokenAge: by.max_life,
      currentDate: new Date(now),
    })
    return accept(payload)
  } catch (error) {
    return unverified(error)
  }
}

const KEYS_FAILED = new Set(['ERR_JWKS_TIMEOUT', 'ERR_JWKS_INVALID', 'ERR_JOSE_GENERIC'])

/** What jose says of a token names claims, never their values; a key set that cannot be had is no fault of the token. */
function unverified(error: unknown): Verdict<JWTPayload> {
  if (!(error instanceof errors.JOSEError) || KEYS_FAILED.has(error.code))
    throw new BrokerError('unavailable', 'the keys of the orchestrator cannot be had', { cause: error })
  if (error instanceof errors.JWTExpired) return reject('TASK_TOKEN', 'it has expired')
  if (error instanceof errors.JWTClaimValidationFailed)
    return reject('TASK_TOKEN', `its ${error.claim} is not the one that is wanted`)
  return reject('TASK_TOKEN', 'its signature, its algorithm or its form is not accepted')
}

function misuse(
  { context, agent, keyThumbprint, issuedAt, expiresAt }: TaskClaims,
  by: Orchestrator,
  bearer: Bearer,
  bound: TaskContext | undefined,
): Rejection<RefusalCode> | undefined {
  const its = agent === '' || agent === bearer.tpmId || agent === bearer.entityId
  if (!its) return reject('TASK_TOKEN_AGENT', 'it names another agent')
  if (keyThumbprint !== '' && keyThumbprint !== bearer.keyThumbprint)
    return reject('TASK_TOKEN_AGENT', 'it is bound to another key')
  if (expiresAt - issuedAt > by.max_life) return reject('TASK_TOKEN', `it lives longer than ${by.max_life} seconds`)
  if (!by.orgs.includes(context.org)) return reject('TASK_TOKEN', 'its orchestrator may not speak for the organisation')
  const why = beyond(bound, context)
  return why === undefined ? undefined : reject('TASK_TOKEN', why)
}

/** Key sets by what they are configured with; those from a URL are fetched when a key is missing, and not more often than every 30 seconds. */
function openKeySets(): (by: Orchestrator) => JWTVerifyGetKey {
  const sets = new LRUCache<string, JWTVerifyGetKey>({ max: KEY_SETS })
  const http = openHttp({ deadlineMs: JWKS_TIMEOUT_MS })
  return by => {
    const key = by.jwks_url || JSON.stringify(by.jwks)
    const set = sets.get(key) ?? make(by, http)
    sets.set(key, set)
    return set
  }
}

function make(by: Orchestrator, http: Http): JWTVerifyGetKey {
  if (by.jwks_url === '') return createLocalJWKSet(by.jwks as unknown as JSONWebKeySet)
  const fetched = async (url: string, { headers }: { readonly headers: Headers }) => {
    const { status, body } = await http.send({ method: 'GET', url, headers: Object.fromEntries(headers) })
    return new Response(status === 200 ? new Uint8Array(body) : null, { status })
  }
  return createRemoteJWKSet(new URL(by.jwks_url), { timeoutDuration: JWKS_TIMEOUT_MS, [customFetch]: fetched })
}

type Used = {
  /** True once for each token, among all replicas: a record that is created and never replaced. */
  readonly first: (mount: Mount, issuer: string, jti: string, expiresAt: number) => Promise<boolean>
  readonly sweep: (mount: Mount, now: number) => Promise<void>
}

function openUsed(state: Store): Used {
  const folder = (mount: Mount) => `${mount.id}/task-used/`
  return {
    first: async (mount, issuer, jti, expiresAt) => {
      const name = createHash('sha256')
        .update(JSON.stringify([issuer, jti]))
        .digest('hex')
      return wasFirst(state.put(`${folder(mount)}${name}`, { expires_at: expiresAt + SKEW_SECONDS + APART_SECONDS }, 0))
    },
    sweep: async (mount, now) => {
      for (const name of await state.list(folder(mount))) {
        const kept = await state.fresh<{ expires_at: number }>(`${folder(mount)}${name}`)
        if (kept && kept.value.expires_at * 1000 < now) await state.delete(`${folder(mount)}${name}`)
      }
    },
  }
}
