import { describe, expect, test } from 'vitest'
import { lifeOf, within } from '../../engine/issue/life.ts'
import type { RoleRecord } from '../../engine/issue/settings.ts'
import type { Mount } from '../../engine/mount_table.ts'

const mount = (defaultTtlSeconds: number, maxTtlSeconds: number) => ({ defaultTtlSeconds, maxTtlSeconds }) as Mount

describe('how long a mount lets live what it issues', () => {
  test.each([
    [0, 0, 900, 3600],
    [60, 0, 60, 3600],
    [0, 600, 600, 600],
    [0, 1800, 900, 1800],
    [1200, 600, 600, 600],
    [7200, 0, 3600, 3600],
    [7200, 86_400, 3600, 3600],
  ])('tuned to %i and %i s: %i, at most %i', (defaultTtl, max, ttl, maxTtl) => {
    expect(lifeOf(mount(defaultTtl, max))).toEqual({ ttl, maxTtl })
  })
})

describe('a role counts within its mount', () => {
  test.each([
    [mount(0, 0), 0, 3600, 900, 3600],
    [mount(0, 0), 1200, 1800, 1200, 1800],
    [mount(60, 0), 0, 3600, 60, 3600],
    [mount(60, 600), 1200, 1800, 600, 600],
    [mount(0, 0), 7200, 7200, 3600, 3600],
  ])('%j, with %i and %i s: %i, at most %i', (on, ttl, max, countsTtl, countsMax) => {
    expect(within(on, { ttl, max_ttl: max } as RoleRecord)).toEqual({ ttl: countsTtl, max_ttl: countsMax })
  })
})
