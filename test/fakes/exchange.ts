import { createPublicKey, generateKeyPairSync, type KeyObject, randomBytes, randomUUID, sign } from 'node:crypto'
import { BrokerError } from '../../engine/errors.ts'
import { parseFields } from '../../engine/fields.ts'
import type { Hold, Root, RootCredential } from '../../engine/integrations/port.ts'
import { type Exchange, openExchange } from '../../engine/issue/exchange.ts'
import type { Source } from '../../engine/issue/prepared.ts'
import { type RoleRecord, roleFields } from '../../engine/issue/settings.ts'
import type { Order } from '../../engine/issue/under_lease.ts'
import { type Credential, type Grant, issuerRoleFields, issuers } from '../../engine/issuers/index.ts'
import { openUpstreams } from '../../engine/issuers/outbound.ts'
import type { Mount } from '../../engine/mount_table.ts'
import type { Verdict } from '../../engine/refusals.ts'
import type { Deliver } from '../../engine/sealing/deliver.ts'
import { Secret } from '../../engine/secret.ts'
import type { PublicJwk, SigningKey } from '../../engine/vault/transit.ts'
import { PATIENCE_MS } from '../harness/patience.ts'
import { testWorld } from './world.ts'

/** Exchanges of one integration in this process: keys, encryption and root credential are here, the provider is whatever a test points the settings at. */
export type TestExchange = AsyncDisposable & {
  readonly exchange: Exchange
  readonly root: MemoryRoot
  /** what the person left here */
  readonly person: MemoryRoot
  /** what is asked before something is sent that nobody else may send */
  readonly hold: (hold: Hold) => void
  /** public key of the mount, as its JWKS has it */
  readonly jwk: PublicJwk & { readonly kid: string; readonly alg: 'ES256'; readonly use: 'sig' }
  readonly logged: readonly string[]
  /** Prepares and issues; `grant` and `role` are what differs from a plain request. */
  readonly issue: (asked?: Asked) => Promise<Verdict<{ credential: Credential; reused: boolean }>>
  /** The credential. Throws what refused it. */
  readonly credential: (asked?: Asked) => Promise<Credential>
  /** `OK`, the code of the refusal, or that of the BrokerError. */
  readonly outcome: (asked?: Asked) => Promise<string>
  /** `made`: when another integration of the name has come */
  readonly revoke: (credential: Credential, made?: string) => Promise<void>
  /** What `simulate` would show of the request. Throws what refused it. */
  readonly plan: (asked?: Pick<Asked, 'grant'>) => Promise<object>
  /** moves the clocks of the broker, not those of providers */
  readonly pass: (ms: number) => void
}

type MemoryRoot = Root & { readonly replaced: readonly RootCredential[] }

export type Asked = { readonly grant?: Partial<Grant>; readonly role?: object; readonly decidedBy?: object }

export const MOUNT = { id: 'mount-1', path: 'broker/', type: 'broker' } as Mount
export const ISSUER_URL = 'https://assay.example/v1/broker'
export const TPM_ID = `sha256-${'ab'.repeat(32)}`

type Options = {
  readonly type: string
  readonly settings?: object
  readonly secrets?: Readonly<Record<string, string>>
  readonly role?: object
  readonly deadlineMs?: number
  /** what a person left here, for issuers that work in a person's name */
  readonly consented?: Readonly<Record<string, string>>
  readonly deliver?: Deliver
  /** RSA key `assay-rsa` of the operator in transit */
  readonly rsa?: KeyObject
  /** P-256 key of the mount */
  readonly ec?: { readonly publicKey: KeyObject; readonly privateKey: KeyObject }
}

export function openTestExchange(options: Options): TestExchange {
  const { type, secrets = {}, role = {}, deadlineMs = PATIENCE_MS, consented = {} } = options
  const world = testWorld({ start: Date.now() })
  const ec = options.ec ?? newEcKey()
  let hold: Hold = () => undefined
  const upstreams = openUpstreams({ monotonic: () => performance.now(), deadlineMs })
  const person = memoryRoot(consented, () => hold())
  const exchange = openExchange({ world, upstreams, ...portsOf(options, ec, person) } as unknown as ExchangePorts)
  const root = memoryRoot(secrets, () => hold())
  const source = sourceOf(options, root)
  const prepare = (action: string, more: object = {}) =>
    exchange.prepare(MOUNT, recordOf(type, { ...role, ...more }), action, source)
  const grantFor = ({ permissions }: Pick<Grant, 'permissions'>, more: Partial<Grant> = {}): Grant => ({
    ...grantOf(world.now()),
    permissions,
    ...more,
  })
  const issue: TestExchange['issue'] = async (asked = {}) => {
    const prepared = prepare(asked.grant?.action ?? 'read', asked.role)
    if (!prepared.ok) return prepared
    const asker = { token: new Secret('hvs.caller'), accessor: 'a', role: 'r', lastUse: false, request: randomUUID() }
    return exchange.issue(prepared.value, grantFor(prepared.value, asked.grant), asker, asked.decidedBy ?? {})
  }
  return {
    exchange,
    root,
    hold: next => {
      hold = next
    },
    person,
    jwk: jwkOf(ec.publicKey),
    logged: world.lines,
    issue,
    credential: async asked => accepted(await issue(asked)).credential,
    outcome: asked => issue(asked).then(codeOf, codeOfError),
    plan: async (asked = {}) => {
      const prepared = accepted(prepare('read'))
      return accepted(await exchange.plan(prepared, grantFor(prepared, asked.grant)))
    },
    revoke: (credential, made = 'first') => {
      const now = source && { ...source, integration: { ...source.integration, made } }
      return exchange.revoke(MOUNT, type, credential.handle ?? {}, now)
    },
    pass: world.pass,
    [Symbol.asyncDispose]: () => upstreams.close(),
  }
}

type ExchangePorts = Parameters<typeof openExchange>[0]

/** Keys, signatures and encryption of this process. */
function portsOf(options: Options, ec: NonNullable<Options['ec']>, person: MemoryRoot) {
  const key = signingKeyOf(ec.publicKey)
  const rsa = options.rsa ?? rsaKey()
  const sealed = new Map<string, Secret>()
  return {
    keys: { read: async () => key, issuerUrl: async () => ISSUER_URL },
    signer: { sign: async (_key: string, _version: number, input: Buffer) => signEc(ec.privateKey, input) },
    rsaSigner: {
      versions: async () => [{ version: 1, kid: 'assay-rsa-v1' }],
      sign: async (_key: string, _version: number, input: Buffer) => sign('sha256', input, rsa),
    },
    cipher: {
      create: async () => {},
      seal: async (_key: string, secret: Secret) => {
        const name = `vault:v1:${randomBytes(12).toString('base64')}`
        sealed.set(name, secret)
        return name
      },
      open: async (_key: string, name: string) => sealed.get(name) ?? new Secret(''),
    },
    grants: { rootOf: () => person },
    deliver: options.deliver ?? unsealed,
    leased: async ({ make }: Order) => make(async () => {}),
  }
}

const unsealed: Deliver = { seal: async (_mount, _destinations, grant, make) => make(grant) }

function sourceOf({ type, settings = {} }: Options, root: Root): Source | undefined {
  const shape = issuers[type]?.integration
  return (
    shape && {
      integration: {
        name: 'acme',
        made: 'first',
        type,
        settings: parseFields(shape.settings, { ...settings }).values,
        org: '',
        tasks: [],
        store: { kind: 'vault', ref: '' },
      },
      root,
    }
  )
}

/** @throws Error with what refused it */
function accepted<T>(verdict: Verdict<T>): T {
  if (verdict.ok) return verdict.value
  throw new Error(`${verdict.code}: ${verdict.detail}`)
}

const codeOf = (verdict: Verdict<unknown>) => (verdict.ok ? 'OK' : verdict.code)
const codeOfError = (error: unknown) => (error instanceof BrokerError ? error.code : String(error))

let anyRsa: KeyObject | undefined
/** Any, the same for all: it takes a while to make one. */
const rsaKey = () => (anyRsa ??= generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey)

export const newEcKey = () => generateKeyPairSync('ec', { namedCurve: 'P-256' })

/** The key as the JWKS of the mount has it. */
export function jwkOf(publicKey: KeyObject): TestExchange['jwk'] {
  const { latest } = signingKeyOf(publicKey)
  return { ...latest.jwk, kid: latest.kid, alg: 'ES256', use: 'sig' }
}

function grantOf(now: number): Grant {
  return {
    txn: randomUUID(),
    jti: randomBytes(16).toString('base64url'),
    tpmId: TPM_ID,
    plugin: 'reader',
    action: 'read',
    scope: [],
    audience: 'https://api.example.com',
    permissions: [],
    parameters: {},
    task: undefined,
    keyThumbprint: '',
    x5tS256: '',
    ttlSeconds: 900,
    issuedAt: Math.floor(now / 1000),
  }
}

function recordOf(issuer: string, role: object): RoleRecord {
  const fixed = { plugins: 'reader', actions: 'read', audiences: 'https://api.example.com', issuer, integration: 'acme' }
  return parseFields({ ...issuerRoleFields, ...roleFields }, { ...fixed, ...role }).values as RoleRecord
}

/** A root credential in memory, with the check-and-set and the one-at-a-time of a real one. */
function memoryRoot(secrets: Readonly<Record<string, string>>, hold: Hold): MemoryRoot {
  const fields = Object.fromEntries(Object.entries(secrets).map(([name, value]) => [name, new Secret(value)]))
  let now: RootCredential = { fields, version: '1', stale: false }
  const replaced: RootCredential[] = []
  let last: Promise<unknown> = Promise.resolve()
  return {
    replaced,
    read: async () => now,
    fresh: async () => now,
    replace: async (next, version) => {
      if (version !== now.version) throw new BrokerError('conflict', 'somebody else replaced it')
      now = { ...next, version: String(Number(version) + 1), stale: false }
      replaced.push(now)
    },
    alone: async work => {
      const turn = last.then(() => work(now, hold))
      last = turn.catch(() => undefined)
      return turn
    },
  }
}

function signingKeyOf(publicKey: KeyObject): SigningKey {
  const publicPem = publicKey.export({ type: 'spki', format: 'pem' }).toString()
  const { x = '', y = '' } = createPublicKey(publicPem).export({ format: 'jwk' })
  const latest = {
    version: 1,
    kid: 'a-thumbprint',
    createdAt: '',
    publicPem,
    jwk: { kty: 'EC', crv: 'P-256', x, y },
  } as const
  return { name: 'assay-issue-1', latest, versions: [latest] }
}

const signEc = (key: KeyObject, input: Buffer) => sign('sha256', input, { key, dsaEncoding: 'ieee-p1363' })
