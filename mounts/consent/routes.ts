import { createHash, timingSafeEqual } from 'node:crypto'
import type { HttpBindings } from '@hono/node-server'
import { type Context, Hono } from 'hono'
import { getCookie, setCookie } from 'hono/cookie'
import { type Broker, BrokerError, CALLBACK_PATH, type ConsentView, PAGE_PATH, type World } from '#engine'
import { askPage, type End, endPage, onwardPage, PAGE_HEADERS } from './pages.ts'

type Bindings = { Bindings: HttpBindings }
type Ctx = Context<Bindings>
export type ConsentParts = { readonly broker: Broker; readonly world: World; readonly newId: () => string }

const COOKIE = 'assay-consent'
const MAX_FORM = 4096

/** The pages where a person decides. Nobody is asked for a token here: the address is what one has to know, and it is good for one decision. */
export function consentRoutes(parts: ConsentParts): Hono<Bindings> {
  const { broker } = parts
  const app = new Hono<Bindings>()
  const callback = async (c: Ctx) => {
    const url = new URL(c.req.url)
    const end = await failing(parts, () => broker.issue.consent.callback(url, cookieOf(parts, c) ?? '', parts.newId()))
    return ended(c, end)
  }
  app.get(CALLBACK_PATH, callback)
  app.get(`${CALLBACK_PATH}/*`, callback)
  app.get(`${PAGE_PATH}:id`, c => show(parts, c))
  app.post(`${PAGE_PATH}:id`, c => decide(parts, c))
  return app
}

async function show(parts: ConsentParts, c: Ctx): Promise<Response> {
  const { broker, world } = parts
  const { consent } = broker.issue
  const view = await failing(parts, () => consent.view(c.req.param('id') ?? ''))
  if (typeof view === 'string') return ended(c, view)
  if (view?.state !== 'asked') return ended(c, view ? ENDED[view.state] : 'gone')
  const cookie = cookieOf(parts, c) ?? world.random(24).toString('base64url')
  const place = consent.overTls() ? ({ prefix: 'host', path: '/', secure: true } as const) : { path: PAGE_PATH }
  setCookie(c, COOKIE, cookie, { httpOnly: true, sameSite: 'Lax', maxAge: 900, ...place })
  return c.html(askPage(view, proofOf(cookie)), 200, PAGE_HEADERS)
}

/** Over TLS under a name that other hosts of the domain cannot set one by (`__Host-`): who knows the cookie of somebody else's browser could have it bring back
 *  what was begun in their own. */
function cookieOf({ broker }: ConsentParts, c: Ctx): string | undefined {
  return broker.issue.consent.overTls() ? getCookie(c, COOKIE, 'host') : getCookie(c, COOKIE)
}

/** What is said of a request to who comes to its page again, such as by going back from the identity provider. */
const ENDED: Readonly<Record<Exclude<ConsentView['state'], 'asked'>, End>> = {
  sent: 'sent',
  redeeming: 'sent',
  granted: 'granted',
  denied: 'denied',
  failed: 'failed',
}

/** A form that another site sent in the person's name comes without the cookie, as that is for our own pages. */
async function decide(parts: ConsentParts, c: Ctx): Promise<Response> {
  const cookie = cookieOf(parts, c) ?? ''
  const form = await formOf(c)
  const decision = form.get('decision')
  const genuine = cookie !== '' && same(form.get('proof') ?? '', proofOf(cookie)) && fromHere(c)
  if (!genuine || (decision !== 'allow' && decision !== 'deny')) return ended(c, 'failed')
  const id = c.req.param('id') ?? ''
  const next = await failing(parts, () => parts.broker.issue.consent.decide(id, decision === 'allow', cookie, parts.newId()))
  if (next instanceof URL) return c.html(onwardPage(next), 200, PAGE_HEADERS)
  return ended(c, next ?? 'denied')
}

/** What a person sees when something is wrong is one sentence; what it was is in the log. */
async function failing<T>({ world }: ConsentParts, work: () => Promise<T>): Promise<T | 'failed' | 'gone'> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof BrokerError && error.code === 'conflict') return 'gone'
    world.log.warn({ error }, 'a consent went wrong')
    return 'failed'
  }
}

const STATUS: Readonly<Record<End, 200 | 400 | 404>> = { granted: 200, denied: 200, sent: 200, failed: 400, gone: 404 }

function ended(c: Ctx, end: End): Response | Promise<Response> {
  return c.html(endPage(end), STATUS[end], PAGE_HEADERS)
}

async function formOf(c: Ctx): Promise<URLSearchParams> {
  const body = await c.req.text()
  return new URLSearchParams(body.length > MAX_FORM ? '' : body)
}

/** Browsers say where a form comes from; one that says nothing is believed by its cookie. */
function fromHere(c: Ctx): boolean {
  return ['same-origin', undefined].includes(c.req.header('sec-fetch-site'))
}

const sha256 = (text: string) => createHash('sha256').update(text).digest()
const proofOf = (cookie: string) => createHash('sha256').update(`consent form ${cookie}`).digest('base64url')
const same = (a: string, b: string) => timingSafeEqual(sha256(a), sha256(b))
