import { afterAll, beforeAll, expect, test } from 'vitest'
import { type ConsentWorld, openConsentWorld, signIn } from './consent_world.ts'
import { done } from './world.ts'

// Forms and callbacks that are not what they should be, at the front door and with a real OpenID provider behind it.

let consents: ConsentWorld
beforeAll(async () => {
  consents = await openConsentWorld()
})
afterAll(() => consents?.[Symbol.asyncDispose]())

/** The page as a program sees it: the cookie and the proof that its form holds. */
async function shown(url: string): Promise<{ readonly cookie: string; readonly proof: string }> {
  const page = await fetch(url)
  const cookie = page.headers.get('set-cookie')?.split(';')[0] ?? ''
  return { cookie, proof: /name="proof" value="([^"]+)"/.exec(await page.text())?.[1] ?? '' }
}

const allow = (url: string, proof: string, headers: Readonly<Record<string, string>> = {}) =>
  fetch(url, { method: 'POST', headers, body: new URLSearchParams({ decision: 'allow', proof }), redirect: 'manual' })

const said = async (handle: string) => String((await consents.poll(handle)).body.errors?.[0])
const isPending = async (handle: string) => (await done(consents.poll(handle))).data.status === 'pending'
const redeemed = () => consents.provider.asked.filter(path => path === '/token').length

test('a form that another site sends decides nothing', async () => {
  const { url, handle } = await consents.invited()
  expect((await allow(url, 'guessed')).status).toBe(400)
  const { cookie, proof } = await shown(url)
  expect((await allow(url, proof, { cookie, 'sec-fetch-site': 'cross-site' })).status).toBe(400)
  expect(await isPending(handle)).toBe(true)
})

test('a callback from another browser, or with another state, grants nothing', async () => {
  const { url, handle } = await consents.invited()
  const { cookie, proof } = await shown(url)
  const sent = await allow(url, proof, { cookie, 'sec-fetch-site': 'same-origin' })
  expect([sent.status, sent.headers.get('location')]).toEqual([200, null])
  const state = /[?&;]state=([\w.-]+)/.exec(await sent.text())?.[1] ?? ''
  const { issuer: iss } = consents.provider
  const before = redeemed()
  const back = async (query: Record<string, string>, headers: Record<string, string>) =>
    (await fetch(`${new URL(url).origin}/assay/consent/callback?${new URLSearchParams(query).toString()}`, { headers })).status
  expect(await back({ code: 'stolen', state, iss }, {})).toBe(400)
  expect(await back({ code: 'stolen', state, iss }, { cookie: 'assay-consent=of-another-browser' })).toBe(400)
  expect(await back({ code: 'stolen', state: `${state}x`, iss }, { cookie })).toBe(404)
  expect([await isPending(handle), redeemed()]).toEqual([true, before])
  // with both it gets to the provider, which knows no such code
  expect(await back({ code: 'stolen', state, iss }, { cookie })).toBe(400)
  expect(await said(handle)).toContain('CONSENT_FAILED')
  expect(redeemed()).toBe(before + 1)
})

test('a callback of another provider grants nothing, and nobody is told its code', async () => {
  const { url, handle } = await consents.invited()
  const { cookie, proof } = await shown(url)
  const sent = await (await allow(url, proof, { cookie, 'sec-fetch-site': 'same-origin' })).text()
  const state = /[?&;]state=([\w.-]+)/.exec(sent)?.[1] ?? ''
  const before = redeemed()
  const query = new URLSearchParams({ code: 'of another', state }).toString()
  const back = await fetch(`${new URL(url).origin}/assay/consent/callback/broker/other?${query}`, { headers: { cookie } })
  expect([back.status, await said(handle), redeemed()]).toEqual([400, expect.stringContaining('CONSENT_FAILED'), before])
})

/** A person allows it and agrees at the provider, whose last redirect nobody followed yet: the address of the callback, with a good code. */
async function answered(): Promise<{ readonly callback: URL; readonly handle: string }> {
  const { invited, browser, provider } = consents
  const { url, handle } = await invited()
  const page = await browser.newPage()
  await page.goto(url)
  await page.click('button[value=allow]')
  await page.waitForURL(`${provider.issuer}/**`)
  await page.waitForSelector('form')
  if (await page.isVisible('input[name=login]')) await signIn(page, provider)
  await page.waitForSelector('button:has-text("Continue")')
  const form = { prompt: 'consent' }
  const agreed = await browser.request.post((await page.getAttribute('form', 'action')) ?? '', { form, maxRedirects: 0 })
  const last = await browser.request.get(agreed.headers()['location'] ?? '', { maxRedirects: 0 })
  await page.close()
  return { callback: new URL(last.headers()['location'] ?? ''), handle }
}

const visit = async ({ href }: URL) => (await consents.browser.request.get(href)).status()

test.each([
  ['another issuer', 'https://evil.example.com'],
  ['no issuer', undefined],
])('the right browser with a good code of %s (RFC 9207) grants nothing, and the state is spent', async (_, iss) => {
  const { callback, handle } = await answered()
  const before = redeemed()
  const mixed = new URL(callback)
  mixed.searchParams.delete('iss')
  if (iss) mixed.searchParams.set('iss', iss)
  expect(await visit(mixed)).toBe(400)
  expect(await said(handle)).toContain('CONSENT_FAILED')
  expect(await visit(callback)).toBe(400)
  expect(redeemed()).toBe(before)
})

test('a callback that was granted is worth nothing a second time, at once and later, and the agent gets what it waits for', async () => {
  const { callback, handle } = await answered()
  const before = redeemed()
  const [first = 0, second = 0] = (await Promise.all([visit(callback), visit(callback)])).toSorted()
  expect(first).toBe(200)
  // of two at once the other is too late; who loads it anew afterwards hears what came of it
  expect([200, 404]).toContain(second)
  expect(await visit(callback)).toBe(200)
  expect(redeemed()).toBe(before + 1)
  expect((await done(consents.poll(handle))).data).toMatchObject({ scope: 'repo:read', plugin: 'kubernetes' })
  expect(await visit(callback)).toBe(404)
  expect((await done(consents.world.api('LIST', 'broker/consents/forge'))).data.keys).toHaveLength(1)
})
