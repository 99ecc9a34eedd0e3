import { randomUUID } from 'node:crypto'
import { BrokerError } from '../../engine/errors.ts'
import { issuers } from '../../engine/issuers/index.ts'
import { issuer } from '../../engine/issuers/issuer.ts'
import { Secret } from '../../engine/secret.ts'

/** A provider in this process whose credentials can be revoked, and which knows which of them live. To be imported before what reads the issuers. */
export const provider = {
  alive: new Map<string, boolean>(),
  up: true,
  calls: 0,
  living: () => [...provider.alive.values()].filter(Boolean).length,
  reset: () => {
    provider.alive.clear()
    provider.up = true
    provider.calls = 0
  },
}

const leased = issuer({
  summary: 'Credentials of a test that can be revoked.',
  role: {},
  issue: async grant => {
    provider.calls += 1
    if (!provider.up) throw new BrokerError('unavailable', 'the provider is down')
    const token = randomUUID()
    provider.alive.set(token, true)
    return { fields: { token: new Secret(token) }, expiresAt: grant.issuedAt + 7200, granted: {}, handle: { token } }
  },
  revoke: async ({ token = '' }) => {
    if (!provider.up) throw new BrokerError('unavailable', 'the provider is down')
    provider.alive.set(token, false)
  },
})

Object.assign(issuers, { leased })
