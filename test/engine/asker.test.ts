import { expect, test } from 'vitest'
import { askerOf } from '../../engine/issue/asker.ts'
import type { Mount } from '../../engine/mount_table.ts'
import { Secret } from '../../engine/secret.ts'
import type { TokenFacts } from '../../engine/vault/authority.ts'

type Sent = Parameters<typeof askerOf>[2] & Readonly<Record<string, unknown>>
const asker = (sent: Readonly<Record<string, unknown>> = {}, facts: object = {}, mount: object = {}) => {
  const token = new Secret('hvs.one')
  const request = { role: 'deploy', token, taskToken: undefined, evidence: undefined, action: 'read', scope: ['a'], ...sent }
  return askerOf(
    { id: 'mount', ...mount } as Mount,
    { accessor: 'accessor', numUses: 0, ...facts } as TokenFacts,
    request as Sent,
  )
}
const quote = (challenge: string) => ({ evidence: { challenge: Buffer.from(challenge) } })

test('who sends the same again asks the same, in whatever order it comes', () => {
  expect(asker().request).toBe(asker().request)
  expect(asker({ x: 1, y: 2 }).request).toBe(asker({ y: 2, x: 1 }).request)
  expect(asker(quote('a')).request).toBe(asker(quote('a')).request)
})

test('whoever sends anything else, or is anybody else, asks something else', () => {
  const others = [
    asker(),
    asker({ role: 'other' }),
    asker({ action: 'write' }),
    asker({ scope: ['a', 'b'] }),
    asker({ token: new Secret('hvs.two') }),
    asker({ taskToken: new Secret('task-1') }),
    asker({ taskToken: new Secret('task-2') }),
    asker(quote('a')),
    asker(quote('b')),
    asker({}, { accessor: 'other' }),
    asker({}, {}, { id: 'other' }),
  ]
  expect(new Set(others.map(one => one.request)).size).toBe(others.length)
})

test('nothing that was sent can be read in what makes requests the same', () => {
  expect(asker().request).toMatch(/^[\w-]{43}$/)
})

test.each([
  [0, false],
  [1, true],
  [2, false],
])('a token with %i uses is spent with this one: %s', (numUses, lastUse) => {
  expect(asker({}, { numUses }).lastUse).toBe(lastUse)
})
