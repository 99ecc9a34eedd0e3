import { expect, test } from 'vitest'
import { claimsIn, lifeOf, notAsked, notFor } from '../../../engine/issuers/access_token.ts'

const NOW = 1_780_272_000

test.each([
  [{ scope: 'a b' }, ['a', 'b'], []],
  [{ scope: 'a b' }, ['a'], ['b']],
  [{ scope: ['a', 'b'] }, ['a'], ['b']],
  [{ scp: ['a', 'b'] }, ['a'], ['b']],
  [{ scp: 'User.Read' }, ['https://graph.microsoft.com/User.Read'], []],
  [{ scp: 'User.Read Mail.Read' }, ['https://graph.microsoft.com/User.Read'], ['Mail.Read']],
  [{ scp: 'b a' }, ['api://x/a', 'api://x/b'], []],
  [{ scp: 'user_impersonation' }, ['https://management.azure.com/.default'], []],
  [{ scope: 'read' }, ['orders/read'], ['read']],
  [{ scope: 'read' }, [], ['read']],
  [{ roles: ['reader'] }, ['api://x/.default'], []],
  [{ scope: 7 }, ['a'], []],
  [{ scope: '' }, ['a'], []],
])('%j, asked were %j: not asked for %j', (claims, asked, above) => expect(notAsked(claims, asked)).toEqual(above))

test.each([
  [{}, 300, 300],
  [{ exp: 'late' }, 300, 300],
  [{ exp: NOW + 300 }, 300, 300],
  [{ exp: NOW + 100 }, 300, 300],
  [{ exp: NOW + 360 }, 300, 300],
  [{ exp: NOW + 361 }, 300, 361],
  [{ exp: NOW + 86_400 }, 300, 86_400],
])('%j, said were %d s: %d s', (claims, said, life) => expect(lifeOf(claims, said, NOW * 1000)).toBe(life))

test.each([
  [{}, []],
  [{ aud: 'api' }, []],
  [{ aud: ['api'] }, []],
  [{ aud: 'other' }, ['other']],
  [{ aud: ['api', 'other'] }, ['other']],
])('%j, asked was api: not for %j', (claims, others) => expect(notFor(claims, 'api')).toEqual(others))

test('what is no JWT says nothing', () => {
  expect(['opaque', 'a.b.c', 'a.b.c.d.e', ''].map(claimsIn)).toEqual(Array(4).fill(undefined))
})
