import { handle } from '#attestation'
import type { Authorization } from './authorization.ts'

const NOTHING = Buffer.alloc(0)

/** The authorisation value in clear text on the bus: for keys of ours, whose value is empty, and before there is a session. */
export function password(value: Uint8Array = NOTHING): Authorization {
  return {
    handle: handle.PW,
    attributes: 0x01, // continueSession, which a password has to set (Part 1, "Password Authorizations")
    nonce: () => NOTHING,
    encrypt: parameters => parameters,
    prove: () => Buffer.from(value),
    check: () => {},
    decrypt: parameters => parameters,
  }
}

/** A policy session whose policy asks for no authorisation value: it proves itself by what was asserted to it, without an HMAC. */
export function policy(session: number, nonce: Uint8Array): Authorization {
  return { ...password(), handle: session, nonce: () => Buffer.from(nonce), prove: () => NOTHING }
}
