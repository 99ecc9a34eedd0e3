import { expect, test } from 'vitest'
import type { Broker } from '#engine'
import { wrapped } from '../../../mounts/hosts/wrapping.ts'

/** Asks for a reply with a lease to be wrapped, which fails; which leases ended. */
async function endedBy(data: object | null): Promise<readonly string[]> {
  const ended: string[] = []
  const wrap = async () => Promise.reject(new Error('vault does not answer'))
  const leases = { revoke: async (id: string) => ended.push(id) }
  const body = { data, lease_id: 'broker/creds/a/b', lease_duration: 60, renewable: true }
  await expect(wrapped({ wrap, leases } as unknown as Broker, { status: 200, body }, '60s')).rejects.toThrow('does not answer')
  return ended
}

test('a credential that cannot be wrapped reaches nobody, and its lease ends', async () => {
  expect(await endedBy({ token: 'a token' })).toEqual(['broker/creds/a/b'])
})

test('a lease that was renewed stays, though nobody can be told', async () => {
  expect(await endedBy(null)).toEqual([])
})
