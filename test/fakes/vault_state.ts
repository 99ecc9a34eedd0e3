import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  randomUUID,
  sign,
  verify,
} from 'node:crypto'
import type { Asked } from './vault.ts'

export type TokenOptions = {
  /** capabilities on a path; everything when absent */
  readonly allow?: (path: string) => readonly string[]
  readonly uses?: number
  /** seconds; 0 does not expire */
  readonly ttl?: number
  /** where it was logged in */
  readonly path?: string
  readonly meta?: Readonly<Record<string, string>>
  /** id of its identity entity; empty for none */
  readonly entity?: string
  readonly policies?: readonly string[]
  /** a batch token has none */
  readonly batch?: true
}
type Identity = Pick<TokenOptions, 'entity' | 'policies' | 'batch'>
type Token = Required<Omit<TokenOptions, 'uses' | keyof Identity>> &
  Identity & { uses: number; readonly limited: boolean; readonly accessor: string }
type TransitKey = { type: string; exportable: boolean; min: number; versions: { private: KeyObject; pem: string }[] }
type JwtMount = {
  readonly uuid: string
  readonly options: Record<string, string> | null
  config: { jwt_validation_pubkeys: readonly string[]; bound_issuer: string }
  readonly roles: Map<string, Record<string, unknown>>
}

export type FakeState = {
  readonly tokens: Map<string, Token>
  /** `value` undefined: its last version was deleted */
  readonly kv: Map<string, { version: number; value: unknown }>
  /** the mount takes no write without a version */
  casRequired: boolean
  readonly transit: Map<string, TransitKey>
  readonly jwt: Map<string, JwtMount>
  /** how long a token of the AppRole lives, seconds */
  life: number
  /** false: the AppRole is refused */
  approle: boolean
  readonly token: (options?: TokenOptions) => string
}

const PLAIN = {
  allow: () => ['root'],
  ttl: 3600,
  path: 'auth/token/create',
  meta: {},
} as const satisfies TokenOptions

export function newState(): FakeState {
  const tokens: FakeState['tokens'] = new Map()
  const token = ({ uses = 0, ...options }: TokenOptions = {}) => {
    const value = `hvs.${randomBytes(24).toString('base64url')}`
    tokens.set(value, { ...PLAIN, ...options, uses, limited: uses > 0, accessor: options.batch ? '' : randomUUID() })
    return value
  }
  return { tokens, kv: new Map(), casRequired: false, transit: new Map(), jwt: new Map(), life: 3600, approle: true, token }
}

type Reply = { readonly status: number; readonly body?: unknown; readonly headers?: Record<string, string> }
type Handler = (state: FakeState, asked: Asked, match: Readonly<Record<string, string>>) => Reply

const KV2 = { type: 'kv', options: { version: '2' } }

/** Method, path and what is done; the first that fits. `(?<name>...)` are handed over. */
const routes: readonly (readonly [RegExp, Handler])[] = [
  [/^POST auth\/approle\/login$/, approle],
  [/^POST auth\/(?<mount>.+)\/login$/, jwtLogin],
  [/^POST auth\/token\/renew-self$/, ({ life }, { token }) => data({}, authOf(token, life))],
  [/^POST auth\/token\/revoke-self$/, ({ tokens }, { token }) => removed(tokens, token)],
  [/^POST auth\/token\/lookup$/, lookup],
  [/^POST auth\/token\/lookup-accessor$/, lookupAccessor],
  [/^POST auth\/token\/revoke-accessor$/, revokeAccessor],
  [/^POST sys\/capabilities-self$/, (state, asked) => capabilities(state, asked, asked.token)],
  [/^POST sys\/capabilities$/, (state, asked) => capabilities(state, asked, String(asked.body['token']))],
  [/^POST sys\/tools\/hash$/, () => data({ sum: '' })],
  [/^GET assay\/data\/(?<path>.+)$/, kvRead],
  [/^POST assay\/data\/(?<path>.+)$/, kvWrite],
  [/^LIST assay\/metadata\/(?<path>.*)$/, kvList],
  [/^DELETE assay\/metadata\/(?<path>.+)$/, ({ kv }, _, { path = '' }) => removed(kv, path)],
  [/^GET transit\/keys\/(?<name>[^/]+)$/, transitRead],
  [/^POST transit\/keys\/(?<name>[^/]+)$/, transitCreate],
  [/^POST transit\/keys\/(?<name>[^/]+)\/rotate$/, transitRotate],
  [/^POST transit\/keys\/[^/]+\/config$/, () => ({ status: 204 })],
  [/^DELETE transit\/keys\/(?<name>[^/]+)$/, ({ transit }, _, { name = '' }) => removed(transit, name)],
  [/^POST transit\/sign\/(?<name>[^/]+)$/, transitSign],
  [/^POST transit\/encrypt\/(?<name>[^/]+)$/, transitEncrypt],
  [/^POST transit\/decrypt\/(?<name>[^/]+)$/, transitDecrypt],
  [
    /^GET sys\/mounts$/,
    () => data({ 'assay/': KV2, 'transit/': { type: 'transit' }, 'cubbyhole/': {}, 'identity/': {}, 'sys/': {} }),
  ],
  [/^GET sys\/auth$/, ({ jwt }) => data(Object.fromEntries([...jwt].map(([path, mount]) => [`${path}/`, rowOf(mount)])))],
  [/^POST sys\/auth\/(?<path>.+)$/, enableAuth],
  [/^DELETE sys\/auth\/(?<path>.+)$/, ({ jwt }, _, { path = '' }) => removed(jwt, path)],
  [/^POST sys\/wrapping\/wrap$/, () => ({ status: 200, body: { wrap_info: { token: 'hvs.wrapping' } } })],
  [/^(?<verb>[A-Z]+) auth\/(?<mount>.+)\/(?<what>config|role\/(?<name>[^/]+))$/, jwtConfigure],
]

export function answerOf(state: FakeState, asked: Asked): Reply {
  const line = `${asked.method === 'PUT' ? 'POST' : asked.method} ${asked.path}`
  const open = /^POST auth\/(?!token\/)[^ ]+\/login$/.test(line)
  if (!open && !spend(state, asked.token)) return refuse(403, '2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n')
  for (const [pattern, handle] of routes) {
    const match = pattern.exec(line)
    if (match) return handle(state, asked, match.groups ?? {})
  }
  return refuse(404, `no handler for route "${asked.path}". route entry not found.`)
}

function spend({ tokens }: FakeState, value: string): boolean {
  const token = tokens.get(value)
  if (!token) return false
  if (token.limited && --token.uses === 0) tokens.delete(value)
  return true
}

const refuse = (status: number, ...errors: string[]): Reply => ({ status, body: { errors } })
const data = (content: object, auth?: object): Reply => ({
  status: 200,
  body: { request_id: 'r', data: content, ...(auth ? { auth } : {}) },
})
const authOf = (token: string, life: number, more = {}) => ({
  client_token: token,
  lease_duration: life,
  renewable: true,
  ...more,
})

function removed(from: Map<string, unknown>, name: string): Reply {
  from.delete(name)
  return { status: 204 }
}

function approle(state: FakeState): Reply {
  if (!state.approle) return refuse(400, 'invalid role or secret ID')
  return data({}, authOf(state.token({ path: 'auth/approle/login', ttl: state.life }), state.life))
}

function lookup({ tokens }: FakeState, { body }: Asked): Reply {
  const token = tokens.get(String(body['token']))
  if (!token) return refuse(403, 'bad token')
  const { accessor, path, meta, ttl, uses, entity = 'entity', policies = ['default'] } = token
  const expire_time = ttl === 0 ? null : '2030-01-01T00:00:00Z'
  return data({ accessor, display_name: 'token', path, meta, ttl, num_uses: uses, expire_time, entity_id: entity, policies })
}

function lookupAccessor(state: FakeState, { body }: Asked): Reply {
  const found = [...state.tokens].find(([, token]) => token.accessor === body['accessor'])
  return found ? data({ ttl: found[1].ttl, accessor: body['accessor'] }) : refuse(400, 'invalid accessor')
}

/** One that is gone is no error: Vault answers with a warning. */
function revokeAccessor({ tokens }: FakeState, { body }: Asked): Reply {
  for (const [value, { accessor }] of tokens) if (accessor === body['accessor']) tokens.delete(value)
  return { status: 204 }
}

/** The last use of a token is refused, as it is gone when it is looked up. */
function capabilities(state: FakeState, { body }: Asked, token: string): Reply {
  const allow = state.tokens.get(token)?.allow
  if (!allow) return refuse(400, '1 error occurred:\n\t* invalid token\n\n')
  return data(Object.fromEntries((body['paths'] as string[]).map(path => [path, allow(path)])))
}

function kvRead({ kv }: FakeState, _: Asked, { path = '' }: Readonly<Record<string, string>>): Reply {
  const kept = kv.get(path)
  if (!kept) return refuse(404)
  const { body } = data({ data: kept.value ?? null, metadata: { version: kept.version } })
  return { status: kept.value === undefined ? 404 : 200, body }
}

function kvWrite({ kv, casRequired }: FakeState, { body }: Asked, { path = '' }: Readonly<Record<string, string>>): Reply {
  const version = kv.get(path)?.version ?? 0
  const cas = (body['options'] as { cas?: number } | undefined)?.cas
  if (cas === undefined && casRequired) return refuse(400, 'check-and-set parameter required for this call')
  if (cas !== undefined && cas !== version) return refuse(400, 'check-and-set parameter did not match the current version')
  kv.set(path, { version: version + 1, value: body['data'] })
  return data({ version: version + 1 })
}

function kvList({ kv }: FakeState, _: Asked, { path = '' }: Readonly<Record<string, string>>): Reply {
  const keys = [...kv.keys()].filter(key => key.startsWith(path)).map(key => key.slice(path.length).replace(/\/.*/, '/'))
  return keys.length > 0 ? data({ keys: [...new Set(keys)].sort() }) : refuse(404)
}

function newVersion() {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return { private: privateKey, pem: String(publicKey.export({ type: 'spki', format: 'pem' })) }
}

function transitCreate({ transit }: FakeState, { body }: Asked, { name = '' }: Readonly<Record<string, string>>): Reply {
  if (!transit.has(name)) transit.set(name, { type: String(body['type']), exportable: false, min: 1, versions: [newVersion()] })
  return { status: 200, body: { data: {} } }
}

function transitRotate({ transit }: FakeState, _: Asked, { name = '' }: Readonly<Record<string, string>>): Reply {
  transit.get(name)?.versions.push(newVersion())
  return data({})
}

function transitRead({ transit }: FakeState, _: Asked, { name = '' }: Readonly<Record<string, string>>): Reply {
  const key = transit.get(name)
  if (!key) return refuse(404)
  const keys = key.versions.map(({ pem }, index) => [index + 1, { public_key: pem, creation_time: '2026-06-01T00:00:00Z' }])
  const { type, exportable, versions } = key
  return data({
    type,
    exportable,
    allow_plaintext_backup: false,
    latest_version: versions.length,
    keys: Object.fromEntries(keys),
  })
}

function transitSign({ transit }: FakeState, { body }: Asked, { name = '' }: Readonly<Record<string, string>>): Reply {
  const version = Number(body['key_version'])
  const key = transit.get(name)?.versions[version - 1]
  if (!key) return refuse(400, 'signing key not found')
  const batch_results = (body['batch_input'] as { input: string }[]).map(({ input }) => {
    const value = sign('sha256', Buffer.from(input, 'base64'), { key: key.private, dsaEncoding: 'ieee-p1363' })
    return { signature: `vault:v${version}:${value.toString('base64url')}` }
  })
  return data({ batch_results })
}

/** AES-256-GCM under a key that is made of the name; the additional data is in the tag, as transit has it. */
function transitEncrypt(_: FakeState, { body }: Asked, { name = '' }: Readonly<Record<string, string>>): Reply {
  const iv = randomBytes(12)
  const cipher = createCipheriv('aes-256-gcm', createHash('sha256').update(name).digest(), iv)
  cipher.setAAD(Buffer.from((body['associated_data'] as string | undefined) ?? '', 'base64'))
  const sealed = Buffer.concat([cipher.update(Buffer.from(String(body['plaintext']), 'base64')), cipher.final()])
  return data({ ciphertext: `vault:v1:${Buffer.concat([iv, sealed, cipher.getAuthTag()]).toString('base64')}` })
}

function transitDecrypt(_: FakeState, { body }: Asked, { name = '' }: Readonly<Record<string, string>>): Reply {
  const sealed = Buffer.from(String(body['ciphertext']).replace(/^vault:v1:/, ''), 'base64')
  const decipher = createDecipheriv('aes-256-gcm', createHash('sha256').update(name).digest(), sealed.subarray(0, 12))
  decipher.setAAD(Buffer.from((body['associated_data'] as string | undefined) ?? '', 'base64'))
  decipher.setAuthTag(sealed.subarray(-16))
  try {
    return data({ plaintext: Buffer.concat([decipher.update(sealed.subarray(12, -16)), decipher.final()]).toString('base64') })
  } catch {
    return refuse(400, 'cipher: message authentication failed')
  }
}

function rowOf({ uuid, options }: JwtMount) {
  const config = { default_lease_ttl: 0, max_lease_ttl: 0 }
  return { type: 'jwt', uuid, accessor: `auth_jwt_${uuid}`, description: '', options, config }
}

function enableAuth({ jwt }: FakeState, { body }: Asked, { path = '' }: Readonly<Record<string, string>>): Reply {
  if (jwt.has(path)) return refuse(400, `path is already in use at ${path}/`)
  const options = (body['options'] ?? null) as JwtMount['options']
  const config = { jwt_validation_pubkeys: [], bound_issuer: '' }
  jwt.set(path, { uuid: randomUUID(), options, config, roles: new Map() })
  return { status: 204 }
}

function jwtConfigure({ jwt }: FakeState, { body }: Asked, match: Readonly<Record<string, string>>): Reply {
  const { verb, mount: path = '', what, name = '' } = match
  const mount = jwt.get(path)
  if (!mount) return refuse(404)
  if (what === 'config' && verb === 'POST') mount.config = body as JwtMount['config']
  else if (verb === 'POST') mount.roles.set(name, body)
  else if (verb === 'DELETE') mount.roles.delete(name)
  else return mount.roles.has(name) ? data(mount.roles.get(name) ?? {}) : refuse(404)
  return { status: 204 }
}

function jwtLogin(state: FakeState, { body }: Asked, { mount: path = '' }: Readonly<Record<string, string>>): Reply {
  const mount = state.jwt.get(path)
  const { role: name = '', jwt = '' } = body as Record<string, string>
  const role = mount?.roles.get(name)
  if (!mount || !role) return refuse(400, `role "${name}" could not be found`)
  const [head = '', claims = '', signature = ''] = jwt.split('.')
  const signed = mount.config.jwt_validation_pubkeys.some(pem => {
    const key = { key: createPublicKey(pem), dsaEncoding: 'ieee-p1363' } as const
    return verify('sha256', Buffer.from(`${head}.${claims}`), key, Buffer.from(signature, 'base64url'))
  })
  if (!signed) return refuse(400, 'error validating token: no known key successfully validated the token signature')
  const said = JSON.parse(Buffer.from(claims, 'base64url').toString()) as Record<string, string>
  const meta = Object.fromEntries(
    Object.entries(role['claim_mappings'] as Record<string, string>).map(([claim, name]) => [name, said[claim] ?? '']),
  )
  const allow = (asked: string) => (asked.includes('/creds/') ? ['update'] : ['deny'])
  const token = state.token({ path: `auth/${path}/login`, meta, allow, ttl: 900 })
  return data({}, authOf(token, 900, { accessor: state.tokens.get(token)?.accessor, metadata: meta }))
}
