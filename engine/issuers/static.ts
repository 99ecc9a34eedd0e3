import { BrokerError } from '../errors.ts'
import { issuer } from './issuer.ts'

/** A key that never changes and that its provider cannot narrow: no agent ever holds it, the proxy alone puts it in. */
export const staticKey = issuer({
  summary: 'A static API key, only ever delivered sealed.',
  role: {},
  integration: {
    settings: {},
    secrets: { api_key: { description: 'The key.', required: true } },
  },
  delivery: 'sealed',
  plan: () => ({ deliver: 'api_key' }),
  issue: async (grant, { root, integration }) => {
    const token = (await root.read()).fields['api_key']
    if (!token) throw new BrokerError('unavailable', `the integration ${integration} holds no api_key`)
    return { fields: { token }, tokenType: 'Bearer', expiresAt: grant.issuedAt + grant.ttlSeconds, granted: {} }
  },
})
