/** Where servers answer with tokens that others can use, by the defaults of the usual ones: not served where a service does not say what is. */
export const TOKEN_ROUTES = [
  '/token', // of registries of containers as a GET, too
  '/v2/token',
  '/v2/auth',
  '/service/token',
  '/jwt/auth',
  '/oauth/token',
  '/oauth/access_token',
  '/oauth/{version}/token',
  '/oauth2/token',
  '/oauth2/exchange',
  '/oauth2/{version}/token',
  '/oauth2/{server}/v1/token',
  '/{version}/oauth2/token',
  '/{tenant}/oauth2/v2.0/token',
  '/connect/token',
  '/as/token.oauth2',
  '/realms/{realm}/protocol/openid-connect/token',
  '/auth/realms/{realm}/protocol/openid-connect/token',
  '/login/oauth/access_token',
  'POST /app/installations/{id}/access_tokens',
  'POST /repos/{owner}/{repo}/actions/runners/registration-token',
  'POST /orgs/{org}/actions/runners/registration-token',
  'POST /api/v1/namespaces/{namespace}/serviceaccounts/{name}/token', // Kubernetes
  'POST /v3/auth/tokens', // OpenStack, in a header
] as const
