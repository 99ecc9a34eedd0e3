import { required, text, type Values } from '../fields.ts'
import { type Http, openHttp } from '../http.ts'
import { endpoint, optionalEndpoint } from '../issuers/common.ts'
import { Secret } from '../secret.ts'
import { answers, type Challenge, challengeOf } from './azure_challenge.ts'
import { fieldsOf, textOfFields } from './payload.ts'
import { ask, members, textIn } from './replies.ts'
import { type Held, type Next, type OpenStore, type SecretStore, StoreFault, type StoreWorld } from './store.ts'
import { base, sameOrigin } from './url.ts'

const settings = {
  vault_url: endpoint('URL of the key vault, such as https://NAME.vault.azure.net.'),
  tenant_id: required(
    text('Tenant of the vault, and of the application that the broker is there.', { form: [/^[0-9a-f-]{36}$/i, 'a UUID'] }),
  ),
  client_id: required(text('The application.', { form: [/^[0-9a-f-]{36}$/i, 'a UUID'] })),
  authority: optionalEndpoint('Where tokens of the tenant come from; https://login.microsoftonline.com when empty.'),
}
type Settings = Values<typeof settings>

const API = 'api-version=7.6'
const AUTHORITY = 'https://login.microsoftonline.com'

/** Azure Key Vault, by its REST API. The vault's challenge names the resource that a token is wanted for: it has to be the vault's own domain,
 *  and the tenant the configured one. Credentials go to the configured authority only, never where a challenge points.
 *  Key Vault has no check-and-set: a write compares versions first, and somebody else's write in between is not seen. */
export const azureKeyVault: SecretStore = {
  summary: 'Azure Key Vault.',
  settings,
  secrets: { client_secret: { description: 'Secret of the application.', required: true } },
  ref: { form: /^[0-9A-Za-z-]{1,127}$/, means: 'name of a secret: letters, digits and dashes' },
  writable: true,
  open: (given, credentials, world) => openVault(given as Settings, credentials['client_secret'] ?? new Secret(''), world),
}

type Token = { readonly token: Secret; readonly untilMs: number }
type Session = {
  readonly http: Http
  readonly settings: Settings
  readonly secret: Secret
  readonly now: () => number
  kept?: Token
}

function openVault(given: Settings, secret: Secret, { now, deadlineMs }: StoreWorld): OpenStore {
  const session: Session = { http: openHttp({ deadlineMs }), settings: given, secret, now }
  return {
    read: (ref, signal) => read(session, ref, signal),
    replace: (ref, next, version, signal) => replace(session, ref, next, version, signal),
    close: () => session.http.close(),
  }
}

async function read(session: Session, ref: string, signal: AbortSignal): Promise<Held> {
  const body = members(await authorized(session, 'GET', ref, undefined, signal), 'body')
  const attributes = members(body['attributes'], 'attributes')
  const id = textIn(body['id'], 'id')
  const path = sameOrigin(id, session.settings.vault_url) ? new URL(id).pathname : ''
  const [kind, name, version = ''] = path.split('/').slice(1)
  if (kind !== 'secrets' || name?.toLowerCase() !== ref.toLowerCase() || version === '')
    throw new StoreFault('malformed', 'the answer is about another secret')
  if (attributes['enabled'] !== true) throw new StoreFault('denied', 'the secret is disabled')
  const exp = attributes['exp']
  if (exp !== undefined && !(Number.isSafeInteger(exp) && (exp as number) <= LAST_SECOND))
    throw new StoreFault('malformed', 'the answer holds no readable expiry')
  const expiresAt = exp as number | undefined
  if (expiresAt !== undefined && expiresAt * 1000 <= session.now()) throw new StoreFault('denied', 'the secret has expired')
  return { fields: fieldsOf(textIn(body['value'], 'value')), version, ...(expiresAt === undefined ? {} : { expiresAt }) }
}

/** Of the year 9999, after which a time has no form (RFC 3339). */
const LAST_SECOND = 253_402_300_799

async function replace(session: Session, ref: string, next: Next, version: string, signal: AbortSignal): Promise<void> {
  const there = await read(session, ref, signal).catch((error: unknown) => {
    if (error instanceof StoreFault && error.kind === 'absent') return undefined
    throw error
  })
  if ((there?.version ?? '') !== version) throw new StoreFault('conflict', 'somebody else changed the secret')
  const attributes = next.expiresAt === undefined ? {} : { attributes: { exp: next.expiresAt } }
  const body = JSON.stringify({ value: textOfFields(next.fields).reveal(), ...attributes })
  await authorized(session, 'PUT', ref, body, signal)
}

/** With the token that is kept, and once more with a new one when the vault does not take that. */
async function authorized(
  session: Session,
  method: 'GET' | 'PUT',
  ref: string,
  body: string | undefined,
  signal: AbortSignal,
): Promise<unknown> {
  const url = `${base(session.settings.vault_url)}/secrets/${ref}?${API}`
  const kept = session.kept && session.kept.untilMs > session.now() ? session.kept.token : undefined
  const first = await ask(
    session.http,
    { method: kept ? method : 'GET', url, headers: headersOf(kept), signal, body: kept && body },
    [401],
  )
  if (kept && first.status === 200) return first.json
  // asked without a token, and so told nothing: a vault that answers that is open to everybody
  if (first.status !== 401) throw new StoreFault('malformed', 'the store answered without asking for a token')
  const token = await tokenFor(session, challengeOf(first.headers['www-authenticate'] ?? ''), signal)
  const second = await ask(session.http, { method, url, headers: headersOf(token), signal, body })
  return second.json
}

function headersOf(token: Secret | undefined): Record<string, string> {
  return {
    accept: 'application/json',
    'content-type': 'application/json',
    ...(token ? { authorization: `Bearer ${token.reveal()}` } : {}),
  }
}

/** OAuth 2.0 client credentials at the configured authority, for the resource of a challenge that was checked. */
async function tokenFor(session: Session, challenge: Challenge, signal: AbortSignal): Promise<Secret> {
  const { settings: own, http, secret, now } = session
  const wrong = answers(challenge, own.vault_url, own.tenant_id)
  if (wrong) throw new StoreFault('denied', wrong)
  const url = `${base(own.authority || AUTHORITY)}/${own.tenant_id}/oauth2/v2.0/token`
  const form = new URLSearchParams({
    grant_type: 'client_credentials',
    client_id: own.client_id,
    client_secret: secret.reveal(),
    scope: `${challenge.resource}/.default`,
  })
  const headers = { 'content-type': 'application/x-www-form-urlencoded', accept: 'application/json' }
  const reply = await ask(http, { method: 'POST', url, headers, body: form.toString(), signal }, [400])
  if (reply.status === 400) throw new StoreFault('denied', 'the authority refused the broker (400)')
  const body = members(reply.json, 'body')
  const token = new Secret(textIn(body['access_token'], 'access_token'))
  const life = body['expires_in']
  if (typeof life !== 'number' || !(life > 0)) throw new StoreFault('malformed', 'the answer holds no life of the token')
  session.kept = { token, untilMs: now() + Math.max(0, life - SPARE_SECONDS) * 1000 }
  return token
}

const SPARE_SECONDS = 60
