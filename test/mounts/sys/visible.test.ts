import { describe, expect, test } from 'vitest'
import { mayEnter } from '../../../mounts/sys/visible.ts'

const rule = (...capabilities: string[]) => ({ capabilities })
const acl = { root: false, exact: {}, globs: {} }

describe('a mount at broker/ is there for who', () => {
  test.each([
    ['is root', { ...acl, root: true }],
    ['has a rule for a path below', { ...acl, exact: { 'broker/creds/deploy': rule('update') } }],
    ['has a rule for the mount itself', { ...acl, exact: { broker: rule('read') } }],
    ['has a prefix below', { ...acl, globs: { 'broker/creds/': rule('update') } }],
    ['has a prefix above', { ...acl, globs: { bro: rule('list') } }],
    ['has everything', { ...acl, globs: { '': rule('sudo') } }],
    ['has a pattern', { ...acl, globs: { '+/creds/deploy': rule('update') } }],
    ['has a pattern with an open end', { ...acl, globs: { '+/cr*': rule('update') } }],
    ['is denied it, but not a path below', { ...acl, globs: { 'broker/': rule('deny'), 'broker/creds/': rule('update') } }],
  ])('%s', (_, rules) => expect(mayEnter(rules, 'broker/')).toBe(true))
})

describe('a mount at broker/ is not there for who', () => {
  test.each([
    ['has nothing', acl],
    ['has rules elsewhere', { ...acl, exact: { 'brokers/creds/a': rule('update') }, globs: { 'brok/': rule('update') } }],
    ['is denied', { ...acl, globs: { '': rule('read'), 'broker/': rule('deny') } }],
    ['is denied one path and has no other', { ...acl, exact: { 'broker/config': rule('deny') } }],
    ['has a rule without a capability', { ...acl, exact: { 'broker/config': rule() } }],
    ['has a pattern for another', { ...acl, globs: { 'other/+/a': rule('update'), 'b/*': rule('update') } }],
  ])('%s', (_, rules) => expect(mayEnter(rules, 'broker/')).toBe(false))
})

test('a mount in a folder: a pattern has to reach it', () => {
  expect(mayEnter({ ...acl, globs: { 'team/+/creds/a': rule('update') } }, 'team/broker/')).toBe(true)
  expect(mayEnter({ ...acl, globs: { 'team/+': rule('update') } }, 'team/broker/')).toBe(true)
  expect(mayEnter({ ...acl, globs: { '+': rule('update') } }, 'team/broker/')).toBe(false)
})
