import { tokenUrl } from '../issuers/azure.ts'
import { clientAuth } from '../issuers/token_endpoint.ts'
import { nextOf } from './oauth_refresh_token.ts'
import { rotator } from './rotator.ts'

/** The refresh token of a user at Entra, by a refresh without a scope: for what the user consented to.
 *  @see https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow: refresh the access token */
export const azureRefreshToken = rotator({
  summary: 'A refresh token of Microsoft Entra: a refresh brings the next one.',
  type: 'azure',
  settings: {},
  serves: ({ auth }) => auth === 'refresh_token',
  make: async (root, ports) => {
    const text = (name: string) => String(ports.settings[name])
    const clientId = text('client_id')
    const proof = { client_auth: 'client_secret_post', client_id: clientId }
    const auth = clientAuth(ports.integration, proof, root['client_secret'])
    return nextOf(root, ports, { url: tokenUrl({ authority: text('authority'), tenant_id: text('tenant_id') }), clientId, auth })
  },
})
