import { openProvider, type ProviderSettings, providerFields } from '../consent/provider.ts'
import { BrokerError } from '../errors.ts'
import type { Hold, RootCredential } from '../integrations/port.ts'
import { Secret } from '../secret.ts'
import { claimsIn, notAsked } from './access_token.ts'
import { type Credential, type Grant, type IssuerPorts, issuer } from './issuer.ts'
import { type Replaced, reasonOf, refreshing, replacing } from './refresh.ts'
import { unusable, wider } from './refusal.ts'
import { askToken, clientAuth, type TokenAnswer } from './token_endpoint.ts'

type Ports = IssuerPorts<Record<never, never>, typeof providerFields>

/** An access token in the name of a person who consented: refreshed with what the person's consent left here. */
export const oauth2Consent = issuer({
  summary: 'An access token in the name of a person, who consents in a browser once; the agent gets it sealed.',
  role: {},
  delivery: 'sealed',
  integration: {
    settings: providerFields,
    secrets: { client_secret: { description: 'Secret of the client.', required: false } },
  },
  check: (_, { attestation }) => {
    if (attestation === 'request')
      throw new BrokerError(
        'bad_request',
        'attestation: wanted login: a person is asked, and their answer fetched, without a quote',
      )
  },
  plan: (grant, { settings }) => ({ issuer: settings.issuer, grant_type: 'refresh_token', scope: grant.scope.join(' ') }),
  issue: async (grant, ports) => {
    const answer = await refreshed(grant, ports)
    try {
      return credentialOf(grant, ports, answer)
    } catch (error) {
      return end(ports, new Secret(answer.token), error)
    }
  },
})

function refreshed(grant: Grant, ports: Ports): Promise<TokenAnswer> {
  const consent = ports.consented(grant)
  return refreshing(consent, async (root, hold) => {
    const replaced = replacing(consent, root)
    const answer = await ask(grant, ports, root, hold, replaced)
    await replaced(answer.refreshToken).catch((error: unknown) => end(ports, new Secret(answer.token), error))
    return answer
  })
}

/** What nobody gets, where its provider ends it; why nobody gets it is what has to be told. */
async function end(ports: Ports, token: Secret, why: unknown): Promise<never> {
  const provider = openProvider(ports.integration, ports.settings, ports.http)
  await secretOf(ports)
    .then(secret => provider.revoke(token, secret))
    .catch(() => undefined)
  throw why
}

async function ask(grant: Grant, ports: Ports, root: RootCredential, hold: Hold, replaced: Replaced): Promise<TokenAnswer> {
  const settings: ProviderSettings = ports.settings
  const url = await openProvider(ports.integration, settings, ports.http).tokenEndpoint()
  const secret = await secretOf(ports)
  const token = root.fields['refresh_token']?.reveal() ?? ''
  return askToken(ports.http.under(hold), ports.integration, {
    url,
    clientId: settings.client_id,
    auth: clientAuth(ports.integration, settings, secret),
    grantType: 'refresh_token',
    parameters: { refresh_token: token, ...(grant.scope.length > 0 ? { scope: grant.scope.join(' ') } : {}) },
    proof: undefined,
    leave: async (left, why) => {
      await end(ports, left.token, await reasonOf(why, replaced(left.refreshToken)))
    },
  })
}

async function secretOf({ settings, root }: Ports): Promise<Secret | undefined> {
  return settings.client_auth === 'none' ? undefined : (await root.read()).fields['client_secret']
}

function credentialOf(grant: Grant, { integration, settings }: Ports, answer: TokenAnswer): Credential {
  const free = [...grant.scope, ...settings.also_scope]
  const said = (answer.scope ?? grant.scope).filter(one => !free.includes(one))
  const above = [...said, ...notAsked(claimsIn(answer.token) ?? {}, free)]
  if (above.length > 0) throw wider(integration, `the scope has ${above.length} values that were not asked for`)
  if (answer.type !== 'Bearer') throw unusable(integration, 'the token is bound to a key that nobody has')
  return {
    fields: { token: new Secret(answer.token) },
    tokenType: 'Bearer',
    expiresAt: grant.issuedAt + answer.expiresIn,
    granted: { scope: answer.scope ?? grant.scope, expires_in: answer.expiresIn },
  }
}
