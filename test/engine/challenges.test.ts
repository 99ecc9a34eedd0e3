import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { BoundRequest } from '#attestation'
import { openChallenges, openUsed } from '../../engine/attest/challenges.ts'
import type { Verdict } from '../../engine/refusals.ts'
import { heapUsed } from '../fakes/heap.ts'
import { testWorld } from '../fakes/world.ts'

const request: BoundRequest = {
  operation: 'creds',
  mount: 'broker/',
  role: 'deploy',
  audience: 'https://api.example.com',
  akName: Buffer.alloc(34, 1),
  keyThumbprint: 'thumbprint',
  plugin: 'kubernetes',
  action: 'deploy',
  scope: ['apps:read'],
}
const code = (verdict: Verdict<unknown>) => (verdict.ok ? 'OK' : verdict.code)

function begun() {
  const world = testWorld()
  return { world, challenges: openChallenges(world) }
}

describe('a challenge', () => {
  test('is answered once, and gives the nonce that was drawn', () => {
    const { challenges } = begun()
    const { challenge, nonce, expiresInSeconds } = challenges.draw(request, 60)
    expect(nonce).toHaveLength(32)
    expect(expiresInSeconds).toBe(60)
    expect(challenges.take(challenge, request)).toEqual({ ok: true, value: { nonce, drawnAt: 1000 } })
    expect(code(challenges.take(challenge, request))).toBe('CHALLENGE_USED')
  })

  test('is used up by whoever answers it first, also with the wrong request', () => {
    const { challenges } = begun()
    const { challenge } = challenges.draw(request, 60)
    expect(code(challenges.take(challenge, { ...request, plugin: 'payroll' }))).toBe('SESSION_BINDING')
    expect(code(challenges.take(challenge, request))).toBe('CHALLENGE_USED')
  })

  const others: readonly (readonly [string, Partial<BoundRequest>])[] = [
    ['CHALLENGE_WRONG_KEY', { akName: Buffer.alloc(34, 2) }],
    ['AUDIENCE', { audience: '' }],
    ['SESSION_BINDING', { operation: 'login' }],
    ['SESSION_BINDING', { mount: 'auth/tpm-quote/' }],
    ['SESSION_BINDING', { role: 'delete' }],
    ['SESSION_BINDING', { keyThumbprint: '' }],
    ['SESSION_BINDING', { plugin: 'payroll' }],
    ['SESSION_BINDING', { action: 'delete' }],
    ['SESSION_BINDING', { scope: [] }],
    ['SESSION_BINDING', { scope: ['apps:read', 'apps:write'] }],
  ]
  test.each(others)('%s: for %j', (expected, change) => {
    const { challenges } = begun()
    expect(code(challenges.take(challenges.draw(request, 60).challenge, { ...request, ...change }))).toBe(expected)
  })

  test('every member of the request is among those', () => {
    expect([...new Set(others.flatMap(([, change]) => Object.keys(change)))].sort()).toEqual(Object.keys(request).sort())
  })
})

describe('the life of a challenge', () => {
  test.each([1, 60])('of %d s ends on the monotonic clock, to the millisecond', seconds => {
    const { world, challenges } = begun()
    const [last, late] = [challenges.draw(request, seconds), challenges.draw(request, seconds)]
    world.pass(seconds * 1000)
    expect(code(challenges.take(last.challenge, request))).toBe('OK')
    expect(code(challenges.take(last.challenge, request))).toBe('CHALLENGE_USED')
    world.pass(1)
    expect(code(challenges.take(late.challenge, request))).toBe('CHALLENGE_EXPIRED')
    expect(code(challenges.take(last.challenge, request))).toBe('CHALLENGE_EXPIRED')
  })

  test.each([3600_000, -3600_000, 24 * 86_400_000])('is not changed by a wall clock that steps by %d ms', step => {
    const { world, challenges } = begun()
    const [one, other] = [challenges.draw(request, 60), challenges.draw(request, 60)]
    world.step(step)
    expect(code(challenges.take(one.challenge, request))).toBe('OK')
    world.pass(60_001)
    world.step(-2 * step)
    expect(code(challenges.take(other.challenge, request))).toBe('CHALLENGE_EXPIRED')
  })
})

describe('what is not a challenge of this replica', () => {
  test('another replica has drawn it, or this one before it was started again', () => {
    const [one, other] = [begun(), begun()]
    expect(code(other.challenges.take(one.challenges.draw(request, 60).challenge, request))).toBe('CHALLENGE_UNKNOWN')
  })

  test('one changed bit anywhere, a byte less or more, or nothing at all', () => {
    const { challenges } = begun()
    const { challenge } = challenges.draw(request, 60)
    for (let bit = 0; bit < challenge.length * 8; bit++) {
      const changed = Buffer.from(challenge)
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      expect(code(challenges.take(changed, request))).toBe('CHALLENGE_UNKNOWN')
    }
    const lengths = [Buffer.alloc(0), challenge.subarray(1), challenge.subarray(0, -1), Buffer.concat([challenge, Buffer.of(0)])]
    for (const bytes of lengths) expect(code(challenges.take(bytes, request))).toBe('CHALLENGE_UNKNOWN')
    expect(code(challenges.take(challenge, request))).toBe('OK')
  })

  test('any bytes', () => {
    const { challenges } = begun()
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), bytes => {
        expect(code(challenges.take(bytes, request))).toBe('CHALLENGE_UNKNOWN')
      }),
    )
  })
})

test('200 who take one challenge: exactly one of them wins', () => {
  const { challenges } = begun()
  for (let trial = 0; trial < 50; trial++) {
    const { challenge } = challenges.draw(request, 60)
    const wins = Array.from({ length: 200 }, () => challenges.take(challenge, request)).filter(one => one.ok)
    expect(wins).toHaveLength(1)
  }
})

test('a hundred thousand draws are distinct, and nothing is kept of them', () => {
  const { challenges } = begun()
  const nonces = new Set<string>()
  for (let index = 0; index < 100_000; index++) nonces.add(challenges.draw(request, 60).nonce.toString('latin1'))
  expect(nonces.size).toBe(100_000)
  expect(challenges.taken()).toBe(0)
  nonces.clear()
  const before = heapUsed()
  for (let index = 0; index < 20_000; index++) challenges.take(challenges.draw(request, 60).challenge.subarray(1), request)
  expect(heapUsed() - before).toBeLessThan(2 ** 20)
})

describe('what was used', () => {
  test('is held for as long as it could be used again, and no longer', () => {
    const { world, challenges } = begun()
    for (let second = 0; second < 300; second++) {
      for (let index = 0; index < 10; index++) challenges.take(challenges.draw(request, 60).challenge, request)
      expect(challenges.taken()).toBeLessThanOrEqual(610)
      world.pass(1000)
    }
    world.pass(61_000)
    expect(challenges.taken()).toBe(0)
  })

  test('counts once, whatever lives beside it', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(20), fc.integer({ min: 1, max: 60_000 }), fc.nat(5000)), { maxLength: 200 }),
        steps => {
          const world = testWorld()
          const used = openUsed(world.monotonic)
          const ends = new Map<string, number>()
          for (const [id, life, pause] of steps) {
            const known = ends.get(`${id}`)
            const expiresAt = known ?? world.monotonic() + life
            const alive = expiresAt >= world.monotonic()
            if (alive) expect(used.add(`${id}`, expiresAt)).toBe(known === undefined)
            if (alive) ends.set(`${id}`, expiresAt)
            world.pass(pause)
          }
        },
      ),
    )
  })
})
