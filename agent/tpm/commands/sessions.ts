import { alg, handle, kdfa, type Public, Writer } from '#attestation'
import type { Authorization } from '../authorization.ts'
import { sessionType } from '../codes.ts'
import { type HmacSession, hmacSession, NONCE_SIZE } from '../hmac_session.ts'
import { password, policy } from '../password.ts'
import { saltFor } from '../salt.ts'
import { type Entity, entity, type Tpm } from '../tpm.ts'
import { release } from './keys.ts'

/** A policy session: assert to it what the policy of a key asks for, then authorise with it once. Disposing of it flushes it. */
export type PolicySession = AsyncDisposable & { readonly handle: number; readonly authorization: Authorization }
export type SaltedSession = AsyncDisposable & HmacSession
type Random = (size: number) => Buffer

/** @param saltKey a loaded decryption key of this TPM, such as its EK: only who holds it can answer with the right HMAC */
export async function startHmacSession(
  tpm: Tpm,
  saltKey: Entity & { readonly public: Public },
  random: Random,
): Promise<SaltedSession> {
  const nonceCaller = random(NONCE_SIZE)
  const { salt, encrypted } = saltFor(saltKey.public, random)
  const started = await start(tpm, { saltKey, nonceCaller, encrypted, type: sessionType.HMAC, symmetric: AES_128_CFB })
  const sessionKey = kdfa('sha256', salt, 'ATH', Buffer.concat([started.nonceTpm, nonceCaller]), 256)
  const session = hmacSession({ ...started, sessionKey, random })
  return { ...session, [Symbol.asyncDispose]: () => release(tpm, started.handle) }
}

export async function startPolicySession(tpm: Tpm, random: Random): Promise<PolicySession> {
  const nonceCaller = random(NONCE_SIZE)
  const noSalt = new Writer().u16(0).done()
  const begun = { saltKey: entity(handle.NULL), nonceCaller, encrypted: noSalt, type: sessionType.POLICY, symmetric: NO_CIPHER }
  const started = await start(tpm, begun)
  const authorization = policy(started.handle, nonceCaller)
  return { handle: started.handle, authorization, [Symbol.asyncDispose]: () => release(tpm, started.handle) }
}

/** Asserts that the authorisation value of `authorizer` is known, which is what low-range EKs ask for with the endorsement hierarchy. */
export function policySecret(
  tpm: Tpm,
  session: PolicySession,
  authorizer: Entity,
  authorization: Authorization = password(),
): Promise<void> {
  return tpm.run({
    name: 'PolicySecret',
    handles: [authorizer, entity(session.handle)],
    authorizations: [authorization],
    parameters: new Writer().u16(0).u16(0).u16(0).u32(0).done(), // nonceTPM, cpHashA, policyRef, expiration: none
    read: reader => {
      reader.sized() // timeout
      reader.u16() // TPMT_TK_AUTH: tag, hierarchy, digest
      reader.u32()
      reader.sized()
    },
  })
}

/** Replaces the policy digest by that of "one of these", when it is one of these. */
export function policyOr(tpm: Tpm, session: PolicySession, digests: readonly Uint8Array[]): Promise<void> {
  const list = new Writer().u32(digests.length)
  for (const digest of digests) list.sized(digest)
  return tpm.run({ name: 'PolicyOR', handles: [entity(session.handle)], parameters: list.done(), read: () => {} })
}

type Start = {
  readonly saltKey: Entity
  readonly nonceCaller: Buffer
  readonly encrypted: Buffer
  readonly type: number
  readonly symmetric: Buffer
}

/** TPMT_SYM_DEF */
const AES_128_CFB = new Writer().u16(alg.AES).u16(128).u16(alg.CFB).done()
const NO_CIPHER = new Writer().u16(alg.NULL).done()

function start(tpm: Tpm, { saltKey, nonceCaller, encrypted, type, symmetric }: Start) {
  return tpm.run({
    name: 'StartAuthSession',
    handles: [saltKey, entity(handle.NULL)],
    parameters: new Writer().sized(nonceCaller).bytes(encrypted).u8(type).bytes(symmetric).u16(alg.SHA256).done(),
    givesHandle: true,
    read: (reader, session) => ({ handle: session, nonceTpm: Buffer.from(reader.sized()) }),
  })
}
