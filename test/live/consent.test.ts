import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { decodeJwt, decodeProtectedHeader } from 'jose'
import type { BrowserContext } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { consented } from '../../agent/consent.ts'
import { consentRefusals } from '../engine/provocations.ts'
import { fakeOrchestrator, type Orchestrator, TASK } from '../fakes/orchestrator.ts'
import type { IdentityProvider } from '../harness/identity_provider.ts'
import { until } from '../harness/process.ts'
import type { Reply } from '../harness/vault.ts'
import { agree, type ConsentWorld, forgeOf, openConsentWorld, PERSON, reviewOf, signIn, WISH as wish } from './consent_world.ts'
import type { EnrolledWorld } from './enrolled_world.ts'
import { auditOf, done } from './world.ts'

// A person consents in a real browser at a real OpenID provider; the agent, a machine with a TPM, gets what was granted, sealed.

let parts = new AsyncDisposableStack()
let world: EnrolledWorld
let token: string
let provider: IdentityProvider
let browser: BrowserContext
let orchestrator: Orchestrator
let agent: ConsentWorld['agent']
let invited: ConsentWorld['invited']
let poll: ConsentWorld['poll']
beforeAll(async () => {
  await using opening = new AsyncDisposableStack()
  const opened = opening.use(await openConsentWorld())
  ;({ world, token, provider, browser, agent, invited, poll } = opened)
  orchestrator = await fakeOrchestrator({ now: Date.now })
  await opened.write('broker/orchestrator/planner', orchestrator.record)
  await opened.write('broker/integration/forge-of-acme', { ...forgeOf(provider), org: TASK.org })
  const destinations = 'https://forge.example.com'
  await opened.write('broker/role/task-review', { ...reviewOf('forge-of-acme', destinations), task: 'required' })
  const settings = { discovery: 'none', authorization_url: await startFront(opening), token_url: `${provider.issuer}/token` }
  await opened.write('broker/integration/federated', forgeOf(provider, settings))
  await opened.write('broker/role/federated-review', reviewOf('federated', destinations))
  parts = opening.move()
})
afterAll(() => parts.disposeAsync())

/** An authorization endpoint that has people sign in elsewhere: at the provider, which is another origin. */
async function startFront(opening: AsyncDisposableStack): Promise<string> {
  const front = createServer(({ url = '' }, outgoing) => {
    outgoing.writeHead(302, { Location: `${provider.issuer}/auth?${url.split('?')[1]}` }).end()
  })
  await new Promise<void>(resolve => front.listen(0, '127.0.0.1', resolve))
  opening.defer(() => {
    front.close().closeAllConnections()
  })
  return `http://127.0.0.1:${(front.address() as AddressInfo).port}/authorize`
}

/** codes of refusals, as they were provoked */
const seen = new Set<string>()
const errorOf = ({ status, body }: Reply): string => {
  const said = String(body.errors?.[0])
  seen.add(said.split(':')[0] ?? '')
  return `${status} ${said}`
}

test('a person sees who asks for what and for how long, allows it, and the agent gets it', async () => {
  expect(errorOf(await agent('broker/creds/review', wish))).toContain('CONSENT_REQUIRED')
  const { url, user_code, handle } = await invited()
  expect((await done(poll(handle))).data).toEqual({ status: 'pending', interval: 2 })
  const page = await browser.newPage()
  const shown = await page.goto(url)
  expect(shown?.headers()['content-security-policy']).toContain("frame-ancestors 'none'")
  const text = await page.innerText('main')
  for (const word of [user_code, 'kubernetes', 'deploy', 'repo:read', '15 minutes', '30 days', new URL(provider.issuer).host]) {
    expect(text).toContain(word)
  }
  await page.click('button[value=allow]')
  await signIn(page, provider)
  await agree(page, provider)
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
  const page = await browser.newPage()
  await page.goto(url)
  expect(await page.innerText('.code')).toBe(code)
  await page.click('button[value=allow]')
  // signed in already: the provider asks for the new scope alone
  await agree(page, provider)
  await page.close()
  expect(decodeProtectedHeader((await waiting).token)).toMatchObject({ typ: 'sealed+jwt' })
})

describe('in a task that an orchestrator signed', () => {
  const within = (claims: object = {}) => orchestrator.sign(world.tpmId, { ...claims })
  const refused = ({ status, body }: Reply) => `${status} ${String(body.errors?.[0])}`
  const asked = async (task_token: string) => agent('broker/creds/task-review', { ...wish, task_token })
  const tctx = { org: TASK.org, task: TASK.task, session: 'another' }
  let handle: string

  test('nobody is asked without one', async () =>
    expect(refused(await agent('broker/consent/task-review', wish))).toContain('TASK_REQUIRED'))

  test('the person sees whose task it is', async () => {
    const invitation = (await done(agent('broker/consent/task-review', { ...wish, task_token: await within() }))).data
    handle = invitation.handle
    const page = await browser.newPage()
    await page.goto(invitation.url)
    const text = await page.innerText('main')
    for (const word of [TASK.org, TASK.task, TASK.user]) expect(text).toContain(word)
    await page.click('button[value=allow]')
    await agree(page, provider)
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

test('a provider whose first page is at another place than the one where people sign in is reached', async () => {
  const { url, handle } = await invited('federated-review')
  const page = await browser.newPage()
  await page.goto(url)
  await page.click('button[value=allow]')
  await agree(page, provider)
  await page.close()
  expect((await done(poll(handle, 'federated-review'))).data).toMatchObject({ scope: 'repo:read' })
})

test('who goes back from the provider sends nothing a second time, and may go on', async () => {
  const { url, handle } = await invited('federated-review')
  const page = await browser.newPage()
  const sent: string[] = []
  page.on('request', request => request.url() === url && sent.push(request.method()))
  await page.goto(url)
  await page.click('button[value=allow]')
  await page.waitForURL(`${provider.issuer}/**`)
  await page.goBack()
  expect(await page.innerText('main')).toContain('go forward in this browser to finish there, or start again from the program')
  expect(sent).toEqual(['GET', 'POST', 'GET'])
  await page.goForward()
  await agree(page, provider)
  await page.close()
  expect((await done(poll(handle, 'federated-review'))).data).toMatchObject({ scope: 'repo:read' })
})

test('who denies is believed, and the page has nothing to decide any more', async () => {
  const { url, handle } = await invited()
  const page = await browser.newPage()
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
  const page = await browser.newPage()
  await page.goto(url)
  await page.click('button[value=allow]')
  await page.waitForURL(`${provider.issuer}/**`)
  await page.click('a:has-text("Cancel")')
  await page.waitForSelector('text=It did not work')
  expect(errorOf(await poll(handle))).toContain('CONSENT_FAILED')
  await page.close()
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
