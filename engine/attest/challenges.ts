import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import { accept, type BoundRequest, contextOf, reject } from '#attestation'
import type { Verdict } from '../refusals.ts'
import type { World } from '../world.ts'

export type Challenge = { readonly challenge: Buffer; readonly nonce: Buffer; readonly expiresInSeconds: number }
/** A challenge that is answered now; `drawnAt` is monotonic, ms. */
export type Taken = { readonly nonce: Buffer; readonly drawnAt: number }

/** Challenges that one quote may answer, once, at the replica that drew them.
 *  Nothing is stored until one is answered: a challenge is its own record under a key made at start, so a restart voids all (RFC 9334, 10.2: freshness by nonce). */
export type Challenges = {
  readonly draw: (request: BoundRequest, ttlSeconds: number) => Challenge
  /** Takes the challenge, so that nobody can answer it again, then tells whether it was drawn for this request. */
  readonly take: (challenge: Uint8Array, request: BoundRequest) => Verdict<Taken>
  /** how many were answered within their life: what is held in memory */
  readonly taken: () => number
}

// layout, in bytes: who drew it, when it ends and when it was drawn (ms, monotonic), randomness, then what it is for, then the tag over all of it
const OWNER = 8
const TIME = 6
const RANDOM = 16
const DIGEST = 16
const TAG = 32
const HEAD = OWNER + 2 * TIME + RANDOM
const BODY = HEAD + 3 * DIGEST
const CHALLENGE_BYTES = BODY + TAG

export function openChallenges(world: World): Challenges {
  const owner = world.random(OWNER)
  const key = world.random(32)
  const used = openUsed(world.monotonic)
  const tagOf = (body: Uint8Array) => createHmac('sha256', key).update(body).digest()

  return {
    draw: (request, ttlSeconds) => {
      const now = Math.floor(world.monotonic())
      const times = [time(now + ttlSeconds * 1000), time(now)]
      const body = Buffer.concat([owner, ...times, world.random(RANDOM), ...purposeOf(request)])
      const challenge = Buffer.concat([body, tagOf(body)])
      return { challenge, nonce: nonceOf(challenge), expiresInSeconds: ttlSeconds }
    },
    take: (challenge, request) => {
      const bytes = Buffer.from(challenge)
      const body = bytes.subarray(0, BODY)
      const mine = bytes.length === CHALLENGE_BYTES && timingSafeEqual(tagOf(body), bytes.subarray(BODY))
      if (!mine) return reject('CHALLENGE_UNKNOWN', 'the tag of the challenge is not ours')
      const expiresAt = body.readUIntBE(OWNER, TIME)
      if (world.monotonic() > expiresAt) return reject('CHALLENGE_EXPIRED', 'the challenge is past its life')
      if (!used.add(bytes.toString('base64', BODY), expiresAt)) return reject('CHALLENGE_USED', 'the challenge was taken before')
      const taken = { nonce: nonceOf(bytes), drawnAt: body.readUIntBE(OWNER + TIME, TIME) }
      return answers(body.subarray(HEAD), request) ?? accept(taken)
    },
    taken: used.size,
  }
}

function time(ms: number): Buffer {
  const bytes = Buffer.alloc(TIME)
  bytes.writeUIntBE(ms, 0, TIME)
  return bytes
}

/** The nonce that the quote covers: 32 bytes that nobody could know before the challenge was drawn. */
function nonceOf(challenge: Uint8Array): Buffer {
  return createHash('sha256').update(challenge).digest()
}

function purposeOf(request: BoundRequest): readonly [Buffer, Buffer, Buffer] {
  return [short(request.akName), short(Buffer.from(request.audience)), contextOf(request).subarray(0, DIGEST)]
}

function short(value: Uint8Array): Buffer {
  return createHash('sha256').update(value).digest().subarray(0, DIGEST)
}

/** Tells apart why a request is not the one that the challenge was drawn for; the quote itself covers all of it once more. */
function answers(purpose: Buffer, request: BoundRequest): Verdict<never> | undefined {
  const [akName, audience, context] = purposeOf(request)
  if (!purpose.subarray(0, DIGEST).equals(akName)) return reject('CHALLENGE_WRONG_KEY', 'drawn for another attestation key')
  if (!purpose.subarray(DIGEST, 2 * DIGEST).equals(audience)) return reject('AUDIENCE', 'drawn for another audience')
  if (!purpose.subarray(2 * DIGEST).equals(context)) return reject('SESSION_BINDING', 'drawn for another request')
  return undefined
}

export type Used = { readonly add: (id: string, expiresAt: number) => boolean; readonly size: () => number }

/** What was used, until it would have expired anyway: `add` is false when it was there. */
export function openUsed(monotonic: () => number): Used {
  const used = new Map<string, number>()
  const forget = (now: number) => {
    // oldest first: lives differ little, so an entry that waits behind a longer one waits seconds
    for (const [id, expiresAt] of used) {
      if (expiresAt >= now) return
      used.delete(id)
    }
  }
  return {
    add: (id, expiresAt) => {
      forget(monotonic())
      if (used.has(id)) return false
      used.set(id, expiresAt)
      return true
    },
    size: () => {
      forget(monotonic())
      return used.size
    },
  }
}
