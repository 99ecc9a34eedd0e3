import { afterAll, beforeAll, expect, test } from 'vitest'
import { openBrowser } from '../harness/browser.ts'
import { type IdentityProvider, startIdentityProvider } from '../harness/identity_provider.ts'
import { agree, forgeOf, type Invitation, RIGHTS, reviewOf, signIn, WISH } from './consent_world.ts'
import { bearer, openSealedWorld, type SealedWorld } from './proxy_world.ts'
import { ask, done } from './world.ts'

// From the consent of a person, in a real browser at a real OpenID provider, through the proxy to the server that the person's token is for.

let parts = new AsyncDisposableStack()
let sealedWorld: SealedWorld
let provider: IdentityProvider
let browser: Awaited<ReturnType<typeof openBrowser>>
beforeAll(async () => {
  await using opening = new AsyncDisposableStack()
  sealedWorld = opening.use(await openSealedWorld())
  const { world, plain } = sealedWorld
  provider = opening.use(await startIdentityProvider(`${world.door.address}/assay/consent/callback`))
  browser = opening.use(await openBrowser())
  await done(world.api('POST', 'broker/integration/forge', forgeOf(provider)))
  await done(world.api('POST', 'broker/role/review', reviewOf('forge', `GET http://127.0.0.1:${plain.port}/apps/**`)))
  await done(world.api('PUT', 'sys/policies/acl/builder', { policy: RIGHTS }))
  parts = opening.move()
})
afterAll(() => parts.disposeAsync())

/** All that the machine was given, as text. */
const given: string[] = []
async function agent<T>(path: string, body: object): Promise<T> {
  const { data } = await done(ask(sealedWorld.world.door.address, 'POST', path, { token: sealedWorld.token, body }))
  given.push(JSON.stringify(data))
  return data as T
}

/** What the server behind the proxy gets in place of this sealed token. */
async function arrives(sealedToken: string): Promise<string> {
  const { curl, base, plain } = sealedWorld
  expect(await curl(`${base()}/apps/a`, bearer(sealedToken))).toBe('fine 200')
  return /^Bearer (\S+)$/.exec(plain.seen.at(-1)?.authorization ?? '')?.[1] ?? ''
}

/** A person consents; what the machine that waits is given. */
async function consented(): Promise<string> {
  const { url, handle } = await agent<Invitation>('broker/consent/review', WISH)
  const page = await browser.context.newPage()
  await page.goto(url)
  await page.click('button[value=allow]')
  await signIn(page, provider)
  await agree(page, provider)
  return (await agent<{ token: string }>('broker/consent/review/poll', { handle })).token
}

test('a server gets a token that the provider knows, fresh for each sealed one, and nobody the one that it is refreshed with', async () => {
  const first = await consented()
  const second = (await agent<{ token: string }>('broker/creds/review', WISH)).token
  const got = [await arrives(first), await arrives(second), await arrives(first)]
  for (const one of got)
    expect(await provider.introspect(one)).toMatchObject({ active: true, client_id: 'assay', scope: 'repo:read' })
  expect(got[2]).toBe(got[0])
  expect(got[1]).not.toBe(got[0])

  // one for the consent, and another in its place each time that it was used
  expect(new Set(provider.refreshTokens).size).toBe(3)
  const { world, plain } = sealedWorld
  const elsewhere = [...given, JSON.stringify(plain.seen), world.door.server.output()].join('\n')
  for (const one of provider.refreshTokens) expect(elsewhere).not.toContain(one)
  for (const one of got) expect(given.join('\n')).not.toContain(one)
  expect(await provider.introspect(provider.refreshTokens.at(-1) ?? '')).toMatchObject({ active: true })
})
