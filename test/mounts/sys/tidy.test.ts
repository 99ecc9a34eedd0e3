import { expect, test } from 'vitest'
import type { CanonicalPath } from '../../../mounts/path.ts'
import { findSys } from '../../../mounts/sys/mounts.ts'
import { openTestBroker } from '../../fakes/broker.ts'

test('leases that are tidy when the audit log takes no more end nothing else', async () => {
  await using at = await openTestBroker()
  const { leases, audit } = at.broker
  const tidied = Promise.withResolvers<Awaited<ReturnType<typeof leases.tidy>>>()
  Object.assign(leases, { tidy: () => tidied.promise })
  const tidy = findSys('PUT', { path: 'sys/leases/tidy', query: '', trailingSlash: false } as CanonicalPath)
  const accepted = { status: 202 }
  expect(await tidy?.row.handle({ broker: at.broker, txn: 't', pass: async () => accepted } as never)).toBe(accepted)
  await audit.close()
  tidied.resolve({ named: 1, dropped: 0 })
  // what nobody catches is an error of this file
  await new Promise(resolve => setImmediate(resolve))
})
