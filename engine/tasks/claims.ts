import { accept, reject } from '#attestation'
import type { Verdict } from '../refusals.ts'
import type { TaskContext } from './context.ts'

/** Whom a task token may be used by, and what it says. */
export type TaskClaims = {
  readonly context: TaskContext
  readonly jti: string
  /** seconds since the epoch */
  readonly issuedAt: number
  readonly expiresAt: number
  /** id of a TPM or of an identity entity; empty when the token is bound to a key alone */
  readonly agent: string
  /** RFC 7638 thumbprint; empty when the token names the agent alone */
  readonly keyThumbprint: string
}

const MAX_TEXT = 256
const MAX_ACTORS = 8
const MAX_INTEGRATIONS = 256

/** Reads the claims of a token whose signature, issuer, audience and times were checked:
 *  `{iss, aud, iat, exp, jti, txn, sub: user, act: {sub: agent, act: {...}}, cnf: {jkt}, tctx: {org, task, session, integrations}}`.
 *  @see RFC 8693, 4.1 (`act`); draft-ietf-oauth-transaction-tokens (`txn`, `tctx`) */
export function readClaims(claims: Readonly<Record<string, unknown>>): Verdict<TaskClaims> {
  const { jti, iat, exp, sub, txn } = claims
  const details = objectOf(claims['tctx'])
  const actors = actorsOf(claims['act'])
  const integrations = namesOf(details?.['integrations'])
  if (typeof iat !== 'number' || typeof exp !== 'number') return reject('TASK_TOKEN', 'iat and exp are wanted')
  if (!isText(jti) || jti === '') return reject('TASK_TOKEN', 'jti is wanted')
  if (!details) return reject('TASK_TOKEN', 'tctx is wanted, an object')
  if (!actors) return reject('TASK_TOKEN', `act is wanted as RFC 8693 has it, at most ${MAX_ACTORS} deep`)
  if (integrations === false) return reject('TASK_TOKEN', 'tctx.integrations is wanted as a list of names')
  const texts = {
    org: details['org'],
    task: details['task'] ?? '',
    session: details['session'] ?? '',
    user: sub ?? '',
    txn: txn ?? '',
  }
  const strange = Object.entries(texts).find(([, value]) => !isText(value))
  if (strange) return reject('TASK_TOKEN', `${strange[0]} is no text of at most ${MAX_TEXT} characters`)
  if (texts.org === '') return reject('TASK_TOKEN', 'tctx.org is wanted')
  const thumbprint = objectOf(claims['cnf'])?.['jkt']
  // it was to be bound to some key
  if (thumbprint !== undefined && (!isText(thumbprint) || thumbprint === ''))
    return reject('TASK_TOKEN', 'cnf.jkt is no thumbprint of a key')
  const bound = { agent: actors[0] ?? '', keyThumbprint: thumbprint ?? '' }
  if (bound.agent === '' && bound.keyThumbprint === '')
    return reject('TASK_TOKEN', 'act.sub or cnf.jkt is wanted: the agent that it is for')
  const context = { ...(texts as Record<keyof typeof texts, string>), actors, integrations }
  return accept({ context, jti, issuedAt: iat, expiresAt: exp, ...bound })
}

/** `sub` of each nested actor, the present one first; nothing when there is no `act`; undefined when it cannot be read. */
function actorsOf(act: unknown): readonly string[] | undefined {
  const actors: string[] = []
  for (let at = act; at !== undefined; at = objectOf(at)?.['act']) {
    const sub = objectOf(at)?.['sub']
    if (!isText(sub) || sub === '' || actors.length === MAX_ACTORS) return undefined
    actors.push(sub)
  }
  return actors
}

function namesOf(value: unknown): readonly string[] | undefined | false {
  if (value === undefined) return undefined
  return Array.isArray(value) && value.length <= MAX_INTEGRATIONS && value.every(isText) ? value : false
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value.length <= MAX_TEXT && value.isWellFormed()
}

function objectOf(value: unknown): Readonly<Record<string, unknown>> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Readonly<Record<string, unknown>>)
    : undefined
}
