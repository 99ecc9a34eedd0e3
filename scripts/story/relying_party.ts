import * as oauth from 'oauth4webapi'

/** Who relies on what Assay issues, with a stock OpenID Connect library and nothing of ours: discovery, JWKS, RFC 9068, RFC 9449. */
export type RelyingParty = {
  /** Resolves with the claims; throws the library's error when it does not accept. */
  readonly accept: (token: string, proof?: string) => Promise<Record<string, unknown>>
  readonly kids: () => Promise<readonly string[]>
}

/** `htu` and `htm` are where and how the token is presented. */
export const PRESENTED_AT = { htu: 'https://api.example.com/deployments', htm: 'POST' }

export async function openRelyingParty(issuer: string, audience: string): Promise<RelyingParty> {
  const url = new URL(issuer)
  // the demo's front door listens without TLS on the loopback
  const insecure = { [oauth.allowInsecureRequests]: true }
  const server = await oauth.processDiscoveryResponse(url, await oauth.discoveryRequest(url, insecure))
  return {
    accept: async (token, proof) => {
      const authorization = proof ? `DPoP ${token}` : `Bearer ${token}`
      const headers = { authorization, ...(proof ? { dpop: proof } : {}) }
      const request = new Request(PRESENTED_AT.htu, { method: PRESENTED_AT.htm, headers })
      return { ...(await oauth.validateJwtAccessToken(server, request, audience, insecure)) }
    },
    kids: async () => {
      const reply = await fetch(server.jwks_uri ?? '')
      const { keys } = (await reply.json()) as { keys: { kid: string }[] }
      return keys.map(key => key.kid)
    },
  }
}
