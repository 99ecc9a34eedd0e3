import type { IncomingMessage } from 'node:http'
import type { HttpBindings } from '@hono/node-server'
import { type Context, Hono } from 'hono'
import { type Broker, BrokerError, type Drain, outcomeOf, Presented, parseBool, type World } from '#engine'
import { consentRoutes } from '../consent/routes.ts'
import type { Dispatch, Logical } from '../dispatch.ts'
import type { CanonicalPath } from '../path.ts'
import { pairsOf } from '../query.ts'
import { answerSys } from '../sys/answer.ts'
import { findSys } from '../sys/mounts.ts'
import type { SysRow } from '../sys/request.ts'
import type { Operation } from '../table.ts'
import { BODY_BYTES, othersTurn } from './body.ts'
import { type HttpReply, replyOf, replyOfError } from './envelope.ts'
import { parametersAtVault, parametersIn, parametersOf } from './parameters.ts'
import { addressOf, bodyOf, canonicalPathOf } from './request_facts.ts'
import { unwrapped, wrapped, wrapTtlOf } from './wrapping.ts'

export type App = Hono<{ Bindings: HttpBindings }>
type Ctx = Context<{ Bindings: HttpBindings }>

/** Sends a request on to Vault whose body had to be read to know that it is Vault's. */
export type Forward = (incoming: IncomingMessage, target: string, body: Buffer) => Promise<HttpReply>
export type AppParts = {
  readonly broker: Broker
  readonly drain: Pick<Drain, 'begun'>
  readonly dispatch: Dispatch
  readonly world: World
  readonly newId: () => string
  readonly forward: Forward
}

/** The front door's own paths over HTTP: what an operator watches, and Vault's logical requests on our mounts. */
export function openApp(parts: AppParts): App {
  const { broker } = parts
  const app: App = new Hono()
  app.get('/metrics', async c => c.body(await broker.metrics.text(), 200, { 'Content-Type': broker.metrics.contentType }))
  app.get('/healthz', c => c.json({ live: true }))
  app.get('/readyz', async c => ready(c, parts))
  app.route('/', consentRoutes(parts))
  app.all('/*', async c => send(await answer(parts, c)))
  return app
}

/** Ready is: logged in to Vault, Vault answers and tells the same time, what it keeps there has its mounts, the audit log takes records, and nobody told it to stop. Names what is missing. */
async function ready(c: Ctx, { broker, drain }: AppParts): Promise<Response> {
  const { session, audit, mounts, inPlace, time } = broker
  const holds = (asked: Promise<void>) =>
    asked.then(
      () => true,
      () => false,
    )
  const [vault, places] = await Promise.all([holds(mounts.refresh()), holds(inPlace())])
  const clock = time.agreed()
  const checks = { vault, places, session: session.ready(), clock, audit: audit.healthy(), serving: !drain.begun() }
  const isReady = Object.values(checks).every(Boolean)
  return c.json({ ready: isReady, checks }, isReady ? 200 : 503)
}

async function answer(parts: AppParts, c: Ctx): Promise<HttpReply> {
  const txn = parts.newId()
  const path = canonicalPathOf(c.env.incoming)
  const labels = { mount_type: 'sys', operation: 'other' }
  try {
    const wrapTtl = wrapTtlOf(c.req.header('x-vault-wrap-ttl'))
    const reply = await wrapped(parts.broker, await handle(parts, c, path, { txn, wrapTtl }, labels), wrapTtl)
    parts.broker.metrics.requests.inc({ ...labels, outcome: outcomeOf(reply.status) })
    return named(reply, txn)
  } catch (error) {
    const reply = replyOfError(error, tokenOf(c) ? 'with a token' : 'without a token')
    parts.broker.metrics.requests.inc({ ...labels, outcome: outcomeOf(reply.status) })
    if (reply.status >= 500) parts.world.log.error({ error, txn }, 'a request failed')
    return named(reply, txn)
  }
}

/** Every reply names its correlation id, which the audit log has: in a header, as Vault's words in errors are exact. */
function named(reply: HttpReply, txn: string): HttpReply {
  return { ...reply, headers: { ...reply.headers, 'X-Correlation-Id': txn } }
}

type Wanted = { readonly txn: string; readonly wrapTtl: string | undefined }

async function handle(
  parts: AppParts,
  c: Ctx,
  path: CanonicalPath,
  { txn, wrapTtl }: Wanted,
  labels: { mount_type: string; operation: string },
): Promise<HttpReply> {
  const sys = findSys(c.env.incoming.method ?? '', path)
  if (sys) return handleSys(parts, c, sys, path, { txn, wrapTtl })
  if (!path.api) throw new BrokerError('unsupported_path', 'unsupported path')
  await parts.broker.mounts.recent()
  const mount = parts.broker.mounts.find(path.path)
  // it was one of ours when the request came
  if (!mount) return parts.forward(c.env.incoming, path.target, bodyOf(c.env.incoming))
  const logical = { ...(await logicalOf(c, path, txn)), wrapTtl }
  labels.mount_type = mount.type
  labels.operation = logical.operation
  return replyOf(await parts.dispatch(mount, logical), txn, mount.type)
}

async function handleSys(
  parts: AppParts,
  c: Ctx,
  { row, params }: { row: SysRow; params: string },
  path: CanonicalPath,
  { txn, wrapTtl }: Wanted,
): Promise<HttpReply> {
  const body = bodyOf(c.env.incoming)
  const pass = () => parts.forward(c.env.incoming, path.target, body)
  const look = async () => (wrapTtl ? unwrapped(parts.broker, await pass(), addressOf(c.env.incoming)) : pass())
  const caller = { token: tokenOf(c) }
  return answerSys(row, {
    broker: parts.broker,
    path: params,
    query: path.query,
    caller,
    txn,
    sent: parametersAtVault(c.req.header('content-type'), body),
    pass,
    look,
  })
}

async function logicalOf(c: Ctx, path: CanonicalPath, txn: string): Promise<Omit<Logical, 'wrapTtl'>> {
  const query = pairsOf(path.query)
  const { method = '' } = c.env.incoming
  const helps = method === 'HELP' || Boolean(query.get('help'))
  if (!helps && !VAULTS_METHODS.has(method)) throw new BrokerError('unsupported_operation', '')
  if (!helps && method === 'PATCH') refuseOtherPatches(c.req.header('content-type'))
  // a list that is none is refused with help too
  const wanted = operationOf(method, query)
  const operation = helps ? 'help' : wanted
  if (operation === 'update' && path.trailingSlash) throw new BrokerError('bad_request', "cannot write to a path ending in '/'")
  const body = bodyOf(c.env.incoming)
  const data = operation === 'update' ? parametersOf(c.req.header('content-type'), body) : parametersIn(query)
  if (body.length > BODY_BYTES) await othersTurn()
  delete data['list']
  delete data['help']
  return { operation, path: path.path, data, caller: { token: tokenOf(c) }, from: addressOf(c.env.incoming), txn }
}

/** Others mean nothing to Vault, on no path and to nobody. */
const VAULTS_METHODS: ReadonlySet<string> = new Set(['GET', 'LIST', 'POST', 'PUT', 'DELETE', 'PATCH', 'HEAD', 'OPTIONS'])

const PATCH_TYPE = 'application/merge-patch+json'

/** Vault looks at this before it looks at the token. */
function refuseOtherPatches(type = ''): void {
  const [media = ''] = type.split(';', 1)
  if (media === '') throw new BrokerError('bad_request', 'mime: no media type')
  if (media.trim().toLowerCase() === PATCH_TYPE) return
  throw new BrokerError('unsupported_media_type', `PATCH requires Content-Type of ${PATCH_TYPE}, provided ${media}`)
}

/** `GET ?list=` as Go's ParseBool has it; with nothing in it it is not there. */
function operationOf(method: string, query: URLSearchParams): Operation | 'unsupported' {
  if (method === 'LIST') return 'list'
  if (method === 'POST' || method === 'PUT') return 'update'
  if (method === 'DELETE') return 'delete'
  if (method !== 'GET') return 'unsupported'
  const list = query.get('list')
  if (!list) return 'read'
  const asked = parseBool(list)
  if (asked === undefined) throw new BrokerError('bad_request', 'list: wanted true or false')
  return asked ? 'list' : 'read'
}

/** `X-Vault-Token` first, else the first `Authorization: Bearer`; an empty one is none. */
function tokenOf(c: Ctx): Presented | undefined {
  const header = c.req.header('x-vault-token')
  const bearer = c.req.header('authorization')?.match(/^Bearer (.+)$/)?.[1]
  const token = header || bearer?.trim()
  return token ? new Presented(token, addressOf(c.env.incoming)) : undefined
}

function send({ status, body, raw, headers }: HttpReply): Response {
  const all = { 'Cache-Control': 'no-store', ...headers }
  if (raw) return new Response(raw.length > 0 ? Buffer.from(raw) : null, { status, headers: all })
  // also without a body, as Vault does
  const json = { status, headers: { ...all, 'Content-Type': 'application/json' } }
  return new Response(body === undefined ? null : `${JSON.stringify(body)}\n`, json)
}
