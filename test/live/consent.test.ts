import { randomBytes } from 'node:crypto'
import { decodeJwt, decodeProtectedHeader } from 'jose'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Attester } from '../../agent/attester.ts'
import { consented } from '../../agent/consent.ts'
import { login } from '../../agent/flow.ts'
import { ownIdentity } from '../../agent/proxied/identity.ts'
import { consentRefusals } from '../engine/provocations.ts'
import { fakeOrchestrator, type Orchestrator, TASK } from '../fakes/orchestrator.ts'
import { openBrowser } from '../harness/browser.ts'
import { type IdentityProvider, startIdentityProvider } from '../harness/identity_provider.ts'
import { until } from '../harness/process.ts'
import type { Reply } from '../harness/vault.ts'
import { type EnrolledWorld, openEnrolledWorld } from './enrolled_world.ts'
import { ask, auditOf, done } from './world.ts'

// A person consents in a real browser at a real OpenID provider; the agent, a machine with a TPM, gets what was granted, sealed.

const PERSON = 'a.person@of.this.test'

let world: EnrolledWorld
let attester: Attester
let token: string
let provider: IdentityProvider
let browser: Awaited<ReturnType<typeof openBrowser>>
let orchestrator: Orchestrator
let tpmId: string
beforeAll(async () => {
  world = await openEnrolledWorld()
  ;({ attester, tpmId } = world)
  provider = await startIdentityProvider(`${world.door.address}/assay/consent/callback`)
  browser = await openBrowser()
  orchestrator = await fakeOrchestrator({ now: Date.now })
  await write('broker/orchestrator/planner', orchestrator.record)
  const { id, secret } = provider.client
  const forge = {
    type: 'oauth2_consent',
    settings: {
      issuer: provider.issuer,
      client_id: id,
      authorization_parameters: { prompt: 'consent' },
    },
    secrets: { client_secret: secret },
  }
  await write('broker/integration/forge', forge)
  await write('broker/integration/forge-of-acme', { ...forge, org: TASK.org })
  const review = {
    issuer: 'oauth2_consent',
    integration: 'forge',
    delivery: 'sealed',
    plugins: 'kubernetes',
    actions: 'deploy',
    scopes: 'repo:read,repo:write',
    audiences: 'https://forge.example.com',
    destinations: 'https://forge.example.com',
  }
  await write('broker/role/review', review)
  await write('broker/role/task-review', { ...review, integration: 'forge-of-acme', task: 'required' })
  const rights = ['creds', 'consent'].map(path => `path "broker/${path}/*" { capabilities = ["update"] }`)
  await done(world.api('PUT', 'sys/policies/acl/builder', { policy: rights.join('\n') }))
  const { thumbprint = '', certificate } = await ownIdentity({ now: Date.now, random: randomBytes })
  const asked = { role: 'builder', bind: true, held: { thumbprint, certificate } }
  token = (await login(world.service, attester, asked)).token
})
afterAll(async () => {
  await browser?.[Symbol.asyncDispose]()
  await provider?.[Symbol.asyncDispose]()
  await world?.[Symbol.asyncDispose]()
})

const write = (path: string, body: object) => done(world.api('POST', path, body))
const agent = (path: string, body: object): Promise<Reply> => ask(world.door.address, 'POST', path, { token, body })
const wish = { plugin: 'kubernetes', action: 'deploy', scope: ['repo:read'] }
type Invitation = { url: string; user_code: string; handle: string; expires_in: number; interval: number }
const invited = async (): Promise<Invitation> => (await done(agent('broker/consent/review', wish))).data
const poll = (handle: string) => agent('broker/consent/review/poll', { handle })
/** codes of refusals, as they were provoked */
const seen = new Set<string>()
const errorOf = ({ status, body }: Reply): string => {
  const said = String(body.errors?.[0])
  seen.add(said.split(':')[0] ?? '')
  return `${status} ${said}`
}

/** Signs in and agrees at the provider's own pages, as a person does. */
async function throughProvider(page: Page): Promise<void> {
  await page.waitForURL(`${provider.issuer}/**`)
  await page.fill('input[name=login]', PERSON)
  await page.fill('input[name=password]', 'any')
  await page.click('button[type=submit]')
  await page.click('button:has-text("Continue")')
}

test('a person sees who asks for what and for how long, allows it, and the agent gets it', async () => {
  expect(errorOf(await agent('broker/creds/review', wish))).toContain('CONSENT_REQUIRED')
  const { url, user_code, handle } = await invited()
  expect((await done(poll(handle))).data).toEqual({ status: 'pending', interval: 2 })
  const page = await browser.context.newPage()
  const shown = await page.goto(url)
  expect(shown?.headers()['content-security-policy']).toContain("frame-ancestors 'none'")
  const text = await page.innerText('main')
  for (const word of [user_code, 'kubernetes', 'deploy', 'repo:read', '15 minutes', '30 days', new URL(provider.issuer).host]) {
    expect(text).toContain(word)
  }
  await page.click('button[value=allow]')
  await throughProvider(page)
  await page.waitForSelector('text=Done')
  await page.close()
  const { data } = await done(poll(handle))
  expect(data).toMatchObject({ scope: 'repo:read', plugin: 'kubernetes' })
  expect(decodeProtectedHeader(data.token)).toMatchObject({ typ: 'sealed+jwt' })
  expect(decodeJwt(data.token)['assay']).toMatchObject({ destinations: ['https://forge.example.com/**'] })
  // the handle is good for one answer; the consent for many
  expect(errorOf(await poll(handle))).toContain('CONSENT_EXPIRED')
  expect((await done(agent('broker/creds/review', wish))).data.token).not.toBe(data.token)
  expect(errorOf(await agent('broker/creds/review', { ...wish, scope: ['repo:write'] }))).toContain('CONSENT_REQUIRED')
})

test("the agent's own client says where to go, and waits", async () => {
  const said = Promise.withResolvers<string>()
  const request = { role: 'review', ...wish, scope: ['repo:write'] }
  const waiting = consented(world.service, request, token, said.resolve)
  const [url = '', code = ''] = /open (\S+) and see that it shows the code (\S+)/.exec(await said.promise)?.slice(1) ?? []
  const page = await browser.context.newPage()
  await page.goto(url)
  expect(await page.innerText('.code')).toBe(code)
  await page.click('button[value=allow]')
  // signed in already: the provider asks for the new scope alone
  await page.waitForURL(`${provider.issuer}/**`)
  await page.click('button:has-text("Continue")')
  await page.waitForSelector('text=Done')
  await page.close()
  expect(decodeProtectedHeader((await waiting).token)).toMatchObject({ typ: 'sealed+jwt' })
})

describe('in a task that an orchestrator signed', () => {
  const within = (claims: object = {}) => orchestrator.sign(tpmId, { ...claims })
  const refused = ({ status, body }: Reply) => `${status} ${String(body.errors?.[0])}`
  const asked = async (task_token: string) => agent('broker/creds/task-review', { ...wish, task_token })
  const tctx = { org: TASK.org, task: TASK.task, session: 'another' }
  let handle: string

  test('nobody is asked without one', async () =>
    expect(refused(await agent('broker/consent/task-review', wish))).toContain('TASK_REQUIRED'))

  test('the person sees whose task it is', async () => {
    const invitation = (await done(agent('broker/consent/task-review', { ...wish, task_token: await within() }))).data
    handle = invitation.handle
    const page = await browser.context.newPage()
    await page.goto(invitation.url)
    const text = await page.innerText('main')
    for (const word of [TASK.org, TASK.task, TASK.user]) expect(text).toContain(word)
    await page.click('button[value=allow]')
    await page.waitForURL(`${provider.issuer}/**`)
    await page.click('button:has-text("Continue")')
    await page.waitForSelector('text=Done')
    await page.close()
  })

  test('what was granted is given in that task alone', async () => {
    const answer = async (task_token?: string) => agent('broker/consent/task-review/poll', { handle, task_token })
    expect(refused(await answer())).toContain('TASK_REQUIRED')
    expect(refused(await answer(await within({ tctx })))).toContain('TASK_TOKEN')
    expect(refused(await answer(await within({ act: { sub: 'another-agent' } })))).toContain('TASK_TOKEN_AGENT')
    const { data } = await done(answer(await within()))
    expect(decodeJwt(data.token)).toMatchObject({ txn: data.txn })
    const records = await until('the task in the audit log', async () => {
      const mine = (await auditOf(world.door.auditFile)).filter(one => one['txn'] === data.txn)
      return mine.some(one => one['type'] === 'outcome') ? mine : undefined
    })
    const task = { org: TASK.org, task: TASK.task, session: TASK.session, user: TASK.user, task_txn: 'txn-of-the-orchestrator' }
    expect(records.find(one => one['type'] === 'intent')).toMatchObject(task)
    const consents = (await auditOf(world.door.auditFile)).filter(
      one => one['operation'] === 'consent' && one['integration'] === 'forge-of-acme',
    )
    expect(consents.map(one => one['result'] ?? one['type'])).toEqual(['asked', 'allowed', 'intent', 'granted'])
    for (const one of consents) expect(one).toMatchObject(task)
  })

  test('it serves the next session of the same user, and no other user or organisation', async () => {
    expect((await done(asked(await within({ tctx })))).data.token).toMatch(/^ey/)
    expect(refused(await asked(await within({ sub: 'bob@acme.example' })))).toContain('CONSENT_REQUIRED')
    expect(refused(await asked(await within({ tctx: { ...tctx, org: 'umbrella' } })))).toContain('TASK_TOKEN')
    const { keys } = (await done(world.api('LIST', 'broker/consents/forge-of-acme'))).data
    const { data } = await done(world.api('GET', `broker/consents/forge-of-acme/${keys[0]}`))
    expect(data).toMatchObject({ org: TASK.org, user: TASK.user })
  })
})

test('who denies is believed, and the page has nothing to decide any more', async () => {
  const { url, handle } = await invited()
  const page = await browser.context.newPage()
  await page.goto(url)
  await page.click('button[value=deny]')
  await page.waitForSelector('text=Denied')
  expect(errorOf(await poll(handle))).toContain('CONSENT_DENIED')
  await page.goto(url)
  expect(await page.innerText('main')).toContain('Denied')
  await page.close()
})

test('who turns back at the provider grants nothing', async () => {
  const { url, handle } = await invited()
  const page = await browser.context.newPage()
  await page.goto(url)
  await page.click('button[value=allow]')
  await page.waitForURL(`${provider.issuer}/**`)
  await page.click('a:has-text("Cancel")')
  await page.waitForSelector('text=It did not work')
  expect(errorOf(await poll(handle))).toContain('CONSENT_FAILED')
  await page.close()
})

test('a form that another site sends decides nothing', async () => {
  const { url, handle } = await invited()
  const forged = await fetch(url, {
    method: 'POST',
    body: new URLSearchParams({ decision: 'allow', proof: 'guessed' }),
    redirect: 'manual',
  })
  expect(forged.status).toBe(400)
  const shown = await fetch(url)
  const cookie = shown.headers.get('set-cookie')?.split(';')[0] ?? ''
  const proof = /name="proof" value="([^"]+)"/.exec(await shown.text())?.[1] ?? ''
  const headers = { cookie, 'sec-fetch-site': 'cross-site' }
  const across = await fetch(url, {
    method: 'POST',
    headers,
    body: new URLSearchParams({ decision: 'allow', proof }),
    redirect: 'manual',
  })
  expect(across.status).toBe(400)
  expect((await done(poll(handle))).data.status).toBe('pending')
})

test('a callback from another browser, with another state, or a second time, grants nothing', async () => {
  const { url, handle } = await invited()
  const shown = await fetch(url)
  const cookie = shown.headers.get('set-cookie')?.split(';')[0] ?? ''
  const proof = /name="proof" value="([^"]+)"/.exec(await shown.text())?.[1] ?? ''
  const sent = await fetch(url, {
    method: 'POST',
    headers: { cookie, 'sec-fetch-site': 'same-origin' },
    body: new URLSearchParams({ decision: 'allow', proof }),
    redirect: 'manual',
  })
  expect(sent.status).toBe(303)
  const state = new URL(sent.headers.get('location') ?? '').searchParams.get('state') ?? ''
  const back = (query: Record<string, string>, as: Record<string, string>) =>
    fetch(`${world.door.address}/assay/consent/callback?${new URLSearchParams(query).toString()}`, { headers: as })
  const { issuer: iss } = provider
  expect((await back({ code: 'stolen', state, iss }, {})).status).toBe(400)
  expect((await back({ code: 'stolen', state, iss }, { cookie: 'assay-consent=of-another-browser' })).status).toBe(400)
  expect((await back({ code: 'stolen', state: `${state}x`, iss }, { cookie })).status).toBe(400)
  expect((await done(poll(handle))).data.status).toBe('pending')
  // the right browser with the answer of another issuer (RFC 9207): refused, and the state is spent
  expect((await back({ code: 'stolen', state, iss: 'https://evil.example.com' }, { cookie })).status).toBe(400)
  expect(errorOf(await poll(handle))).toContain('CONSENT_FAILED')
  expect((await back({ code: 'again', state, iss }, { cookie })).status).toBe(400)
})

test('an operator sees who consented to what, and ends it', async () => {
  const { keys } = (await done(world.api('LIST', 'broker/consents/forge'))).data
  expect(keys).toHaveLength(1)
  const { data } = await done(world.api('GET', `broker/consents/forge/${keys[0]}`))
  expect(data).toMatchObject({ plugin: 'kubernetes', action: 'deploy', scope: ['repo:write'], subject: PERSON })
  expect(JSON.stringify(data)).not.toMatch(/sealed|refresh/)
  await done(world.api('DELETE', `broker/consents/forge/${keys[0]}`))
  expect(errorOf(await agent('broker/creds/review', wish))).toContain('CONSENT_REQUIRED')
})

test('all of it is on record, without names of people', async () => {
  const records = await auditOf(world.door.auditFile)
  const results = records.filter(one => one['operation'] === 'consent').map(one => one['result'])
  for (const result of ['asked', 'allowed', 'granted', 'denied', 'failed']) expect(results).toContain(result)
  expect(JSON.stringify(records)).not.toContain(PERSON)
})

test('every refusal that wants a person was provoked', () => {
  expect(seen).toEqual(new Set(consentRefusals))
})
