import { z } from 'zod'
import { authoritiesIn, checkPair, parseAuthority, parseRule, patternOf } from '#engine'
import { blockListOf } from '../egress/addresses.ts'
import { openUpstreams } from '../egress/upstreams.ts'
import { folded, portOf } from '../http/head.ts'
import type { Injection } from '../http/injection.ts'
import { injections } from '../http/injections.ts'
import { parseMatch } from '../http/match.ts'
import type { HttpService } from '../http/service.ts'
import { TOKEN_ROUTES } from '../http/token_routes.ts'
import type { Connector } from './connector.ts'
import { addresses, file, name } from './fields.ts'

const HEADER = /^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$/
const ROUTE = /^(?:([A-Z]+(?:,[A-Z]+)*) )?(\/[^?#\s]*)$/

const header = z.string().regex(HEADER, 'wanted the name of a header')
/** Text with `{field}` where a field of the credential goes. */
const template = z
  .string()
  .min(1)
  .max(1024)
  .regex(/^[\x20-\x7e]*$/, 'wanted printable ASCII')
  .refine(text => /\{[a-z_]+\}/.test(text), 'wanted at least one {field} of the credential, such as {token}')
const authority = z.string().refine(text => parseAuthority(text, 1) !== undefined, 'wanted a host or host:port')
const route = z
  .string()
  .regex(ROUTE, "wanted a path, or methods and a path: 'GET,POST /repos/{owner}/**'")
  .refine(
    text => parseRule(text.replace('/', 'https://any/')) !== undefined,
    'wanted {slots} that are whole segments, ** at the end alone, and methods that there are: what is wider than it reads is none',
  )

const inject = z
  .strictObject({
    header: z.strictObject({ name: header, value: template }).optional(),
    query: z.strictObject({ name: z.string().regex(/^[A-Za-z0-9_.~-]{1,64}$/), value: template }).optional(),
    basic: z.strictObject({ user: z.string().max(256), password: template }).optional(),
    body: z
      .strictObject({ placeholder: z.string().min(8).max(128), value: template, field: z.string().min(1).max(256).optional() })
      .optional(),
    aws: z.strictObject({ regions: z.array(z.string().min(1)).min(1), services: z.array(z.string().min(1)).min(1) }).optional(),
  })
  .refine(one => Object.keys(one).length === 1, `wanted one of ${Object.keys(injections).join(', ')}`)
export type DeclaredInjection = z.output<typeof inject>

const schema = z
  .strictObject({
    kind: z.literal('http'),
    name,
    /** exactly these are served */
    hosts: z.array(authority).min(1),
    scheme: z.enum(['https', 'http']).default('https'),
    /** what of the hosts is served, whatever tokens say */
    allow: z.array(route).min(1).default(['/**']),
    /** where the agent puts its sealed token */
    match: z
      .string()
      .refine(text => parseMatch(text) !== undefined, "wanted bearer, basic, aws, 'header NAME' or 'query NAME'")
      .default('bearer'),
    /** where the real credential goes */
    inject: z.array(inject).min(1).max(4),
    /** routes whose answers hold credentials: they are not served; the usual ones when left out */
    token_routes: z.array(route).default([...TOKEN_ROUTES]),
    addresses,
    http2: z.boolean().default(false),
    websocket: z.boolean().default(false),
    /** headers that name another path, as `x-amz-copy-source` does: no rule looks at that */
    copies: z.boolean().default(false),
    /** answers with a Content-Encoding cannot be looked through */
    encoded_answers: z.enum(['refuse', 'pass']).default('refuse'),
    /** whom the certificate of the server must lead to; the roots that Node brings along when left out */
    ca_file: file.optional(),
    /** what the proxy shows the server, where that wants a client certificate */
    client_cert_file: file.optional(),
    client_key_file: file.optional(),
    /** to one place, of all agents of a mount: more than one agent may have here, so that one leaves room for the others */
    connections: z.int().min(1).max(16_384).default(1024),
    connect_within_ms: z.int().min(50).max(60_000).default(5_000),
    head_within_ms: z.int().min(50).max(3_600_000).default(60_000),
    stall_ms: z.int().min(50).max(3_600_000).default(300_000),
  })
  .refine(service => !service.inject.some(one => one.aws) || service.inject.length === 1, {
    path: ['inject'],
    message: 'aws signs the whole request: wanted nothing beside it',
  })
  .refine(service => (service.client_cert_file === undefined) === (service.client_key_file === undefined), {
    path: ['client_cert_file'],
    message: 'wanted client_cert_file and client_key_file, or neither',
  })
type Declared = z.output<typeof schema>

/** HTTP/1.1 and HTTP/2 services. */
export const http: Connector<typeof schema> = {
  summary: 'An HTTP service: header, query, basic, body placeholder or AWS signature.',
  schema,
  open: async (declared, ports) => {
    const read = async (file: string | undefined) => (file === undefined ? undefined : ports.read(file))
    const [ca, cert, key] = await Promise.all([declared.ca_file, declared.client_cert_file, declared.client_key_file].map(read))
    if (ca !== undefined) authoritiesIn(ca, `ca_file of the service ${declared.name}`)
    if (cert !== undefined && key !== undefined) checkPair(cert, key, `client_cert_file of the service ${declared.name}`)
    const upstreams = openUpstreams({
      resolve: ports.resolve,
      listed: blockListOf(declared.addresses),
      timeoutMs: declared.connect_within_ms,
      http2: declared.http2,
      ca,
      cert,
      key,
      connections: declared.connections,
      headWithinMs: declared.head_within_ms,
      stallMs: declared.stall_ms,
    })
    return { http: serviceOf(declared, upstreams), retire: upstreams.retire, close: upstreams.close }
  },
}

function serviceOf(declared: Declared, upstreams: HttpService['upstreams']): HttpService {
  const { name, scheme, hosts, websocket, copies } = declared
  const made = declared.inject.map(injectionOf)
  const match = parseMatch(declared.match)
  if (!match) throw new Error('the schema lets no other match through')
  const allow = declared.allow.map(routeOf)
  const tokenRoutes = declared.token_routes.map(route => routeOf(route.replace(/\/.*$/, looselyRead)))
  return {
    name,
    scheme,
    authorities: hosts.flatMap(text => parseAuthority(text, portOf(scheme)) ?? []),
    serves: (method, path) => allow.some(one => one(method, path)),
    issuesTokens: (method, path) => {
      const read = looselyRead(path)
      const bare = withoutFormat(read)
      return tokenRoutes.some(one => one(method, read) || one(method, bare))
    },
    match,
    injections: made,
    slots: new Set([...match.slots, ...made.flatMap(one => one.slots)].map(folded)),
    upstreams,
    websocket,
    copies,
    encodedAnswers: declared.encoded_answers,
  }
}

function injectionOf(declared: DeclaredInjection): Injection {
  const [kind, given] = Object.entries(declared)[0] ?? []
  const make = injections[kind as keyof typeof injections] as ((given: unknown) => Injection) | undefined
  if (!make) throw new Error('the schema lets no other injection through')
  return make(given)
}

/** As servers read it that do not look closely: what they may take for a route that issues tokens is one. */
function looselyRead(path: string): string {
  const lower = path.toLowerCase()
  return lower.length > 1 && lower.endsWith('/') ? lower.slice(0, -1) : lower
}

/** `/oauth/token.json`, as servers take it that let a path say the form of the answer. */
function withoutFormat(path: string): string {
  return path.replace(/\.[a-z0-9]{1,16}$/, '')
}

type Route = (method: string, path: string) => boolean

function routeOf(text: string): Route {
  const [, methods, template = ''] = ROUTE.exec(text) ?? []
  const listed = methods?.split(',')
  const pattern = patternOf(template)
  return (method, path) => (listed === undefined || listed.includes(method)) && pattern.test(path)
}
