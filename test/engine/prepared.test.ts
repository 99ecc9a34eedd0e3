import { describe, expect, test } from 'vitest'
import { isRevocable, type Prepared, prepare, type Source } from '../../engine/issue/prepared.ts'
import type { RoleRecord } from '../../engine/issue/settings.ts'
import type { Mount } from '../../engine/mount_table.ts'

const mount = (maxTtlSeconds = 0) => ({ defaultTtlSeconds: 0, maxTtlSeconds }) as Mount
const source = (type: string, settings: object = {}) => ({ integration: { name: 'acme', type, settings } }) as unknown as Source
const role = (issuer: string, more: object = {}) =>
  ({ issuer, integration: 'acme', delivery: 'direct', permissions: {}, ttl: 0, max_ttl: 3600, ...more }) as unknown as RoleRecord
const READS = { permissions: { read: ['contents:read', 'issues:read'] } }

describe('what a role asks for', () => {
  test.each([
    ['of an integration of its type', role('oauth2'), source('oauth2'), 'OK'],
    ['of no integration', role('oauth2'), undefined, 'INTEGRATION'],
    ['of an integration of another type', role('oauth2'), source('github_app'), 'INTEGRATION'],
    ['of no integration, and wants none', role('jwt'), undefined, 'OK'],
    ['of what is only delivered sealed', role('static'), source('static'), 'DELIVERY'],
    ['of that, sealed', role('static', { delivery: 'sealed' }), source('static'), 'OK'],
    ['with permissions', role('github_app', READS), source('github_app'), 'OK'],
    ['with permissions within the ceiling', role('github_app', READS), source('github_app', { ceiling: ['issues:read'] }), 'OK'],
    ['with an empty ceiling, which is none', role('github_app', READS), source('github_app', { ceiling: [] }), 'OK'],
    ['above the ceiling', role('github_app', READS), source('github_app', { ceiling: ['actions:read'] }), 'PERMISSIONS'],
    ['without permissions', role('github_app'), source('github_app'), 'PERMISSIONS'],
  ])('%s', (_, record, from, code) => {
    const prepared = prepare(mount(), record, 'read', from)
    expect(prepared.ok ? 'OK' : prepared.code).toBe(code)
  })

  test('is what lies within the ceiling', () => {
    const prepared = prepare(mount(), role('github_app', READS), 'read', source('github_app', { ceiling: ['issues:read'] }))
    expect(prepared).toMatchObject({ value: { permissions: ['issues:read'] } })
  })

  test.each([
    [0, 3600, undefined, 3600],
    [0, 600, undefined, 600],
    [1800, 3600, undefined, 1800],
    [1800, 3600, 70.9, 70],
    [1800, 600, 1000, 600],
  ])('on a mount of %i s, with %i s, of which %d are left, lives %i s at most', (max, of, left, lives) => {
    const prepared = prepare(mount(max), role('jwt', { max_ttl: of }), 'read', undefined, left)
    expect(prepared).toMatchObject({ value: { maxTtlSeconds: lives } })
  })

  test('of an issuer that is not there is a mistake of ours', () => {
    expect(() => prepare(mount(), role('gone'), 'read', undefined)).toThrow('the issuer gone, which is not there')
  })
})

test.each([
  [{}, false],
  [{ revoke: true }, true],
  [{ revoke: true, revocable: () => true }, true],
  [{ revoke: true, revocable: () => false }, false],
])('what %j issues can be revoked: %s', (issuer, can) => {
  expect(isRevocable({ issuer, source: undefined } as unknown as Prepared)).toBe(can)
})
