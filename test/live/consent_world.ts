import { randomBytes } from 'node:crypto'
import type { BrowserContext, Page } from 'playwright-core'
import { login } from '../../agent/flow.ts'
import { ownIdentity } from '../../agent/proxied/identity.ts'
import { openBrowser } from '../harness/browser.ts'
import { type IdentityProvider, startIdentityProvider } from '../harness/identity_provider.ts'
import type { Reply } from '../harness/vault.ts'
import { type EnrolledWorld, openEnrolledWorld } from './enrolled_world.ts'
import { ask, done } from './world.ts'

export const PERSON = 'a.person@of.this.test'
export const WISH = { plugin: 'kubernetes', action: 'deploy', scope: ['repo:read'] }
/** What a machine may do that asks people. */
export const RIGHTS = ['creds', 'consent'].map(path => `path "broker/${path}/*" { capabilities = ["update"] }`).join('\n')

export type Invitation = { url: string; user_code: string; handle: string; expires_in: number; interval: number }

/** A machine that is logged in, a real OpenID provider and a real browser. Disposing of it ends them all. */
export type ConsentWorld = AsyncDisposable & {
  readonly world: EnrolledWorld
  readonly provider: IdentityProvider
  readonly browser: BrowserContext
  /** of the machine at Vault */
  readonly token: string
  readonly write: (path: string, body: object) => Promise<unknown>
  readonly agent: (path: string, body: object) => Promise<Reply>
  readonly invited: (role?: string) => Promise<Invitation>
  readonly poll: (handle: string, role?: string) => Promise<Reply>
}

export async function openConsentWorld(): Promise<ConsentWorld> {
  await using opening = new AsyncDisposableStack()
  const world = opening.use(await openEnrolledWorld())
  const provider = opening.use(await startIdentityProvider(`${world.door.address}/assay/consent/callback`))
  const browser = opening.use(await openBrowser()).context
  const write = async (path: string, body: object) => done(world.api('POST', path, body))
  await write('broker/integration/forge', forgeOf(provider))
  await write('broker/role/review', reviewOf('forge', 'https://forge.example.com'))
  await done(world.api('PUT', 'sys/policies/acl/builder', { policy: RIGHTS }))
  const { thumbprint = '', certificate } = await ownIdentity({ now: Date.now, random: randomBytes })
  const asked = { role: 'builder', bind: true, held: { thumbprint, certificate } }
  const { token } = await login(world.service, world.attester, asked)
  const agent: ConsentWorld['agent'] = (path, body) => ask(world.door.address, 'POST', path, { token, body })
  const parts = opening.move()
  return {
    world,
    provider,
    browser,
    token,
    write,
    agent,
    invited: async (role = 'review') => (await done(agent(`broker/consent/${role}`, WISH))).data,
    poll: (handle, role = 'review') => agent(`broker/consent/${role}/poll`, { handle }),
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
}

/** The integration of that provider. */
export function forgeOf({ issuer, client }: IdentityProvider, settings: object = {}) {
  const common = { issuer, client_id: client.id, authorization_parameters: { prompt: 'consent' } }
  return { type: 'oauth2_consent', settings: { ...common, ...settings }, secrets: { client_secret: client.secret } }
}

/** A role whose credentials people consent to. */
export function reviewOf(integration: string, destinations: string) {
  return {
    issuer: 'oauth2_consent',
    integration,
    delivery: 'sealed',
    plugins: 'kubernetes',
    actions: 'deploy',
    scopes: 'repo:read,repo:write',
    audiences: 'https://forge.example.com',
    destinations,
  }
}

/** Signs in at the provider's own page, as a person does who is there for the first time. */
export async function signIn(page: Page, { issuer }: IdentityProvider): Promise<void> {
  await page.waitForURL(`${issuer}/**`)
  await page.fill('input[name=login]', PERSON)
  await page.fill('input[name=password]', 'any')
  await page.click('button[type=submit]')
}

/** Agrees at the provider's own page. */
export async function agree(page: Page, { issuer }: IdentityProvider): Promise<void> {
  await page.waitForURL(`${issuer}/**`)
  await page.click('button:has-text("Continue")')
  await page.waitForSelector('text=Done')
}
