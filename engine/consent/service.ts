import { type Audit, type AuditFields, hashed, plain } from '../audit/index.ts'
import { BrokerError } from '../errors.ts'
import type { Integrations } from '../integrations/service.ts'
import type { Upstreams } from '../issuers/outbound.ts'
import { ExchangeRefusal, unusable } from '../issuers/refusal.ts'
import type { Mount, MountTable } from '../mount_table.ts'
import { Secret } from '../secret.ts'
import { taskFields } from '../tasks/account.ts'
import type { World } from '../world.ts'
import type { ConsentGrant, Grants } from './grants.ts'
import { openProvider, type Provider, type ProviderSettings } from './provider.ts'
import { browserOf, type ConsentRequest, type Found, LIFE_MS, type Requests, type State, stateOf, type Wish } from './requests.ts'

/** What the page tells a person before they decide. */
export type ConsentView = {
  readonly wish: Wish
  readonly userCode: string
  readonly state: State
  /** host of the identity provider, where the person goes next */
  readonly provider: string
  readonly consentSeconds: number
}

/** What an agent hears when it asks how far its request is. */
export type Progress = { readonly state: State; readonly wish: Wish; readonly close: () => Promise<void> }

/** A person consents in a browser; what comes of it stays here, and the agent gets what it asked for, sealed. */
export type Consent = {
  readonly grants: Grants
  /** Whether browsers reach the pages over TLS, which may end before it comes here. */
  readonly overTls: () => boolean
  /** @throws BrokerError rate_limited, bad_request when the role's integration wants no consent */
  readonly ask: (
    mount: Mount,
    wish: Wish,
    txn: string,
  ) => Promise<{ url: string; handle: string; userCode: string; expiresIn: number }>
  /** Undefined when there is no such request, or it ended. */
  readonly view: (id: string) => Promise<ConsentView | undefined>
  /** The person decided: to deny, which ends it, or to go on to the identity provider; the answer is where. */
  readonly decide: (id: string, allow: boolean, cookie: string, txn: string) => Promise<URL | undefined>
  /** The person came back. Whatever is wrong, nobody but the log learns more than that it failed; `gone`: it was answered already, or took too long. */
  readonly callback: (url: URL, cookie: string, txn: string) => Promise<'granted' | 'failed' | 'gone'>
  /** For the machine that asked alone; undefined for everybody else, and when it ended. */
  readonly progress: (mount: Mount, handle: string, tpmId: string) => Promise<Progress | undefined>
}

export const CALLBACK_PATH = '/assay/consent/callback'
export const PAGE_PATH = '/assay/consent/'
/** type of the integrations that people consent to */
export const CONSENT_TYPE = 'oauth2_consent'

export type ConsentParts = {
  readonly world: World
  readonly requests: Requests
  readonly grants: Grants
  readonly integrations: Integrations
  readonly upstreams: Upstreams
  readonly mounts: MountTable
  readonly audit: Audit
  readonly ownUrl: () => string
}

export function openConsent(parts: ConsentParts): Consent {
  const { world, requests, grants, ownUrl } = parts
  return {
    grants,
    overTls: () => ownUrl().startsWith('https:'),
    ask: async (mount, wish, txn) => {
      await sourceOf(parts, mount, wish.integration)
      const { id, handle, userCode } = await requests.open(mount, wish)
      recordOf(parts, mount.path, wish, txn).outcome('asked')
      return { url: `${ownUrl()}${PAGE_PATH}${id}`, handle, userCode, expiresIn: LIFE_MS / 1000 }
    },
    view: async id => {
      const found = await requests.byId(id)
      return found && viewOf(parts, found)
    },
    decide: async (id, allow, cookie, txn) => {
      const found = await requests.byId(id)
      if (found?.request.state !== 'asked') throw new BrokerError('conflict', 'this was answered already, or it ended')
      const mount = mountOf(parts, found)
      const record = recordOf(parts, mount.path, found.request.wish, txn)
      if (!allow) {
        await requests.move(found, 'denied')
        record.outcome('denied')
        return undefined
      }
      const journey = {
        browser: browserOf(cookie),
        state: stateOf(found, world.random),
        nonce: world.random(24).toString('base64url'),
        verifier: world.random(32).toString('base64url'),
      }
      const { provider, callback } = await sourceOf(parts, mount, found.request.wish.integration)
      const url = await provider.authorizationUrl(journey, found.request.wish.scope, ownUrl() + callback)
      await requests.move(found, 'sent', journey)
      record.outcome('allowed')
      return url
    },
    callback: async (url, cookie, txn) => {
      const found = await requests.byState(url.searchParams.get('state') ?? '')
      if (!found) return 'gone'
      // another browser than the one that left here: somebody slipped a person an answer of their own
      if (found.request.journey?.browser !== browserOf(cookie)) return 'failed'
      // who loads the page anew hears what came of it
      if (found.request.state !== 'sent') return AGAIN[found.request.state]
      const mount = mountOf(parts, found)
      const record = recordOf(parts, mount.path, found.request.wish, txn)
      const redeeming = await requests.move(found, 'redeeming')
      const ends = async (end: 'granted' | 'failed', more: AuditFields) => {
        // what came of it came of it, though the agent that waits cannot be told
        await requests
          .move(redeeming, end)
          .catch((error: unknown) => world.log.warn({ error, txn }, 'a consent could not be told of'))
        record.outcome(end, more)
        return end
      }
      let subject: string
      try {
        await record.intent()
        subject = await redeem(parts, mount, redeeming, url)
      } catch (error) {
        world.log.warn({ error, txn }, 'a consent could not be completed')
        return ends('failed', error instanceof ExchangeRefusal ? { code: plain(error.code) } : {})
      }
      return ends('granted', { subject: hashed(subject) })
    },
    progress: async (mount, handle, tpmId) => {
      const found = await requests.byHandle(mount, handle)
      if (!found || found.request.wish.tpmId !== tpmId) return undefined
      const state = await becameOf(parts, mount, found.request)
      return { state, wish: found.request.wish, close: () => requests.close(found) }
    },
  }
}

const AGAIN = { asked: 'failed', redeeming: 'gone', granted: 'granted', denied: 'failed', failed: 'failed' } as const

/** Longer than a redemption takes, however slow the provider is. */
const LONGEST_REDEEMING_MS = 120_000

/** Whoever redeems may die at it, or not reach Vault to tell: what is kept is granted, and what is not after so long never will be. */
async function becameOf({ grants, world }: ConsentParts, mount: Mount, request: ConsentRequest): Promise<State> {
  const { state, wish, cameBackAt = 0 } = request
  if (state !== 'redeeming') return state
  const grant = await grants.of(mount.id, wish.integration, wish)
  if (grant && grant.grantedAt >= cameBackAt) return 'granted'
  return world.now() - cameBackAt > LONGEST_REDEEMING_MS ? 'failed' : state
}

/** Redeems the code and keeps the refresh token; a scope that the provider widened is not kept. */
async function redeem(parts: ConsentParts, mount: Mount, found: Found, url: URL): Promise<string> {
  const { wish, journey } = found.request
  const { world, grants } = parts
  if (!journey) throw new Error('redeemed without a journey')
  const { provider, settings, secret, callback } = await sourceOf(parts, mount, wish.integration)
  // a provider may lead people on to another one, whose answer it would be told (RFC 9700, 4.4)
  if (url.pathname !== callback) throw unusable(wish.integration, 'it came back where the answers of another provider do')
  const redirectUri = parts.ownUrl() + callback
  const { refreshToken, subject, scope } = await provider.redeem(url, journey, wish.scope, redirectUri, await secret())
  const now = world.now()
  const granted = wish.scope.filter(one => scope === undefined || scope.includes(one))
  const grant: ConsentGrant = {
    tpmId: wish.tpmId,
    plugin: wish.plugin,
    action: wish.action,
    scope: granted,
    task: wish.task && { org: wish.task.org, user: wish.task.user },
    subject,
    grantedAt: now,
    expiresAt: now + settings.consent_ttl * 1000,
  }
  const token = new Secret(refreshToken)
  world.log.hide(token)
  await grants.put(mount.id, wish.integration, grant, token)
  return subject
}

type ProviderSource = {
  readonly provider: Provider
  readonly settings: ProviderSettings
  readonly secret: () => Promise<Secret | undefined>
  /** path of the address where people come back */
  readonly callback: string
}

async function sourceOf({ integrations, upstreams }: ConsentParts, mount: Mount, name: string): Promise<ProviderSource> {
  const source = await integrations.source(mount, name)
  if (source?.integration.type !== CONSENT_TYPE)
    throw new BrokerError('bad_request', 'the role names no integration that people consent to')
  const settings = source.integration.settings as ProviderSettings
  const http = upstreams.of(`${mount.id}/${name}`, name, settings.ca)
  const secret = async () => (settings.client_auth === 'none' ? undefined : (await source.root.read()).fields['client_secret'])
  return { provider: openProvider(name, settings, http), settings, secret, callback: callbackOf(mount, name, settings) }
}

function callbackOf({ path }: Mount, name: string, { callback }: ProviderSettings): string {
  return callback === 'own'
    ? `${CALLBACK_PATH}/${[...path.split('/').slice(0, -1), name].map(encodeURIComponent).join('/')}`
    : CALLBACK_PATH
}

async function viewOf(parts: ConsentParts, found: Found): Promise<ConsentView> {
  const { request } = found
  const { provider, settings } = await sourceOf(parts, mountOf(parts, found), request.wish.integration)
  const url = new URL(await provider.authorizationEndpoint())
  return {
    wish: request.wish,
    userCode: request.userCode,
    state: request.state,
    provider: url.host,
    consentSeconds: settings.consent_ttl,
  }
}

function mountOf({ mounts }: ConsentParts, { mountId }: Found): Mount {
  const mount = mounts.ofType('broker').find(one => one.id === mountId)
  if (!mount) throw new BrokerError('not_found', '')
  return mount
}

/** What a person decided is on record; what makes a secret is on record before it does. */
function recordOf({ audit }: ConsentParts, mountPath: string, wish: Wish, txn: string) {
  const place = { txn, operation: 'consent', mount: mountPath, path: `consent/${wish.role}` }
  const about = {
    tpm_id: plain(wish.tpmId),
    integration: plain(wish.integration),
    plugin: plain(wish.plugin),
    action: plain(wish.action),
    scope: plain(wish.scope),
    ...taskFields(wish.task),
  }
  return {
    intent: () => audit.append({ type: 'intent', ...place, fields: about }),
    outcome: (result: string, more: AuditFields = {}) =>
      audit.appendLazy({ type: 'outcome', ...place, fields: { result: plain(result), ...about, ...more } }),
  }
}
