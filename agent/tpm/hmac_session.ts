import { createCipheriv, createDecipheriv, createHmac } from 'node:crypto'
import { kdfa, sameBytes } from '#attestation'
import type { Answer, Authorization } from './authorization.ts'
import { sessionAttribute } from './codes.ts'
import { fault } from './errors.ts'

/** A salted, unbound HMAC session with SHA-256 and AES-128-CFB (TPM 2.0 Library Part 1, "Session-Based Authorizations"). */
export type HmacSession = {
  readonly handle: number
  /** Authorises one use in one command, as the first of its authorisations: the HMAC of a first session would have to cover the nonce of another that hides parameters. */
  use(options?: Use): Authorization
}

export type Use = {
  /** authValue of what the handle stands for; empty for keys of ours */
  readonly auth?: Uint8Array
  /** hide the first parameter of the command, which must be a TPM2B */
  readonly hideCommand?: boolean
  /** hide the first parameter of the response, which must be a TPM2B */
  readonly hideResponse?: boolean
}

type Start = {
  readonly handle: number
  readonly sessionKey: Buffer
  readonly nonceTpm: Buffer
  readonly random: (size: number) => Buffer
}
type State = Omit<Start, 'nonceTpm'> & { nonceTpm: Buffer; nonceCaller: Buffer }

export const NONCE_SIZE = 32
const KEY_SIZE = 16
const IV_SIZE = 16
const CIPHER = 'aes-128-cfb'

/** The session as TPM2_StartAuthSession left it. @param start.sessionKey KDFa(salt, "ATH", nonceTPM, nonceCaller) */
export function hmacSession(start: Start): HmacSession {
  const state: State = { ...start, nonceCaller: Buffer.alloc(0) }
  return { handle: start.handle, use: options => authorize(state, options ?? {}) }
}

function authorize(state: State, options: Use): Authorization {
  const secret = Buffer.concat([state.sessionKey, options.auth ?? Buffer.alloc(0)])
  const attributes =
    sessionAttribute.continueSession |
    (options.hideCommand ? sessionAttribute.decrypt : 0) |
    (options.hideResponse ? sessionAttribute.encrypt : 0)
  return {
    handle: state.handle,
    attributes,
    nonce: () => {
      state.nonceCaller = state.random(NONCE_SIZE)
      return state.nonceCaller
    },
    encrypt: parameters => crypt(createCipheriv, secret, state.nonceCaller, state.nonceTpm, parameters),
    prove: hash => hmac(secret, hash, state.nonceCaller, state.nonceTpm, attributes),
    check: (answer, hash) => check(state, secret, answer, hash),
    decrypt: parameters => crypt(createDecipheriv, secret, state.nonceTpm, state.nonceCaller, parameters),
  }
}

/** The newer nonce comes first: the caller's in a command, the TPM's in a response. */
function hmac(secret: Buffer, hash: Buffer, newer: Buffer, older: Buffer, attributes: number): Buffer {
  return createHmac('sha256', secret).update(hash).update(newer).update(older).update(Uint8Array.of(attributes)).digest()
}

function check(state: State, secret: Buffer, answer: Answer, hash: Buffer): void {
  const expected = hmac(secret, hash, answer.nonce, state.nonceCaller, answer.attributes)
  if (!sameBytes(answer.hmac, expected))
    throw fault('RESPONSE_HMAC', 'the answer of the TPM was changed on its way, or came from another TPM')
  state.nonceTpm = Buffer.from(answer.nonce)
}

/** Parameter encryption in CFB mode (Part 1, "Parameter Encryption"): the buffer of the first TPM2B, not its size. */
function crypt(
  make: typeof createCipheriv | typeof createDecipheriv,
  secret: Buffer,
  newer: Buffer,
  older: Buffer,
  all: Buffer,
): Buffer {
  if (all.length < 2) throw fault('MALFORMED', 'there is no first parameter to encrypt or decrypt')
  const end = 2 + all.readUInt16BE(0)
  const key = kdfa('sha256', secret, 'CFB', Buffer.concat([newer, older]), (KEY_SIZE + IV_SIZE) * 8)
  const cipher = make(CIPHER, key.subarray(0, KEY_SIZE), key.subarray(KEY_SIZE))
  return Buffer.concat([all.subarray(0, 2), cipher.update(all.subarray(2, end)), all.subarray(end)])
}
