import { createPublicKey, type KeyObject, timingSafeEqual } from 'node:crypto'
import { compactVerify, flattenedDecrypt } from 'jose'
import { z } from 'zod'
import { accept, reject, thumbprintOf, type Verdict as VerdictOf } from '#attestation'
import { BrokerError } from '../errors.ts'
import { Secret } from '../secret.ts'
import { absent } from '../vault/client.ts'
import type { OwnVault } from '../vault/own.ts'
import { authenticatedData, type Binding, type Frame } from './binding.ts'
import { decrypt, openWrappedKeys } from './data_keys.ts'
import { LONGEST_RULE, MOST_RULES, parseRule } from './destination.ts'
import { contextOf, SEALING_KEY, type SealingMode, SIGNING_KEY, versionOf } from './keys.ts'
import type { SealRefusal } from './refusals.ts'
import { JWE_HEADER, LONGEST, SEALED_TYP } from './seal.ts'

/** Who holds the connection: facts of the certificate whose key the client proved to have. */
export type Holder = {
  /** SHA-256 of the DER, base64url */
  readonly x5tS256: string
  /** RFC 7638 thumbprint of its key */
  readonly jkt: string
}

/** What a sealed token holds. */
export type Opened = {
  readonly fields: Readonly<Record<string, Secret>>
  readonly binding: Binding
  readonly jti: string
  /** correlation id of the issue */
  readonly txn: string
  readonly issuedAt: number
  readonly expiresAt: number
  /** in `transit` mode nothing of it is to be kept */
  readonly mode: SealingMode
}
export type SealVerdict<T> = VerdictOf<T, SealRefusal>

/** Opens a token for whoever holds the connection. Whether it is expired, revoked or meant for this destination is asked per request.
 *  @throws BrokerError unavailable when Vault cannot be asked */
export type Opener = (token: string, holder: Holder) => Promise<SealVerdict<Opened>>

export type OpenerPorts = { readonly vault: OwnVault; readonly transit: string; readonly monotonic: () => number }

const COMPACT = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}$/

export function openOpener(ports: OpenerPorts): Opener {
  const signedBy = openSigningKeys(ports)
  const unwrap = openWrappedKeys(ports.vault, ports.transit, ports.monotonic)
  return async (token, holder) => {
    const header = headerOf(token)
    if (!header) return reject('TOKEN_FORM', 'not three parts of canonical base64url with the header of a sealed token')
    const key = await signedBy(header.kid)
    if (!key) return reject('TOKEN_KEY', 'unknown kid')
    if (!(await verifies(token, key))) return reject('TOKEN_SIGNATURE', header.kid)
    const read = claimsSchema.safeParse(jsonOf(token.split('.')[1] ?? ''))
    if (!read.success) return reject('TOKEN_CLAIMS', read.error.issues[0]?.path.join('.') ?? '')
    const claims = read.data
    if (!holds(claims.cnf, holder)) return reject('TOKEN_CERTIFICATE', 'another certificate, or another key')
    const binding = bindingOf(claims)
    const text = binding && (await unseal(ports, unwrap, claims, binding))
    const fields = text && fieldsOf(text)
    if (!binding || !fields) return reject('TOKEN_SEAL', `${binding ? 'the ciphertext' : 'a destination'} does not hold`)
    const { jti, txn = '', iat: issuedAt, exp: expiresAt } = claims
    return accept({ fields, binding, jti, txn, issuedAt, expiresAt, mode: 'jwe' in claims.assay.seal ? 'datakey' : 'transit' })
  }
}

const word = z.string().min(1).max(512)
const second = z
  .int()
  .min(1)
  .max(2 ** 40)
const generation = z.int().min(0)
const thumbprint = z.string().regex(/^[A-Za-z0-9_-]{43}$/)
const claimsSchema = z.object({
  iat: second,
  exp: second,
  jti: word,
  txn: word.optional(),
  cnf: z.strictObject({ 'x5t#S256': thumbprint, jkt: thumbprint.optional() }),
  assay: z.strictObject({
    tenant: word,
    agent: word,
    plugin: z.string().max(512),
    destinations: z.array(z.string().max(LONGEST_RULE)).min(1).max(MOST_RULES),
    epoch: z.tuple([generation, generation]),
    seal: z.union([z.strictObject({ key: z.string(), jwe: z.string() }), z.strictObject({ transit: z.string() })]),
  }),
})
type Claims = z.output<typeof claimsSchema>

/** The header is ours to the last member: no `crit`, `jku`, `jwk`, `zip` is looked at, because none may be there. */
function headerOf(token: string): { kid: string } | undefined {
  if (token.length > LONGEST || !COMPACT.test(token) || !token.split('.').every(isCanonical)) return undefined
  const header = jsonOf(token.split('.')[0] ?? '') as Record<string, unknown> | undefined
  if (typeof header !== 'object' || header === null) return undefined
  const { alg, kid, typ, ...others } = header
  const ours = alg === 'ES256' && typ === SEALED_TYP && typeof kid === 'string' && Object.keys(others).length === 0
  return ours ? { kid } : undefined
}

/** One spelling per value: no spare bits, no padding. */
function isCanonical(part: string): boolean {
  return Buffer.from(part, 'base64url').toString('base64url') === part
}

function jsonOf(part: string): unknown {
  return parsed(Buffer.from(part, 'base64url'))
}

function parsed(text: Buffer): unknown {
  try {
    return JSON.parse(text.toString('utf8'))
  } catch {
    return undefined
  }
}

async function verifies(token: string, key: KeyObject): Promise<boolean> {
  try {
    await compactVerify(token, key, { algorithms: ['ES256'] })
    return true
  } catch {
    return false
  }
}

function holds(cnf: Claims['cnf'], holder: Holder): boolean {
  return same(cnf['x5t#S256'], holder.x5tS256) && (cnf.jkt === undefined || same(cnf.jkt, holder.jkt))
}

function same(one: string, other: string): boolean {
  const [a, b] = [Buffer.from(one, 'base64url'), Buffer.from(other, 'base64url')]
  return a.length === b.length && timingSafeEqual(a, b)
}

function bindingOf({ cnf, assay: { tenant, agent, plugin, destinations, epoch } }: Claims): Binding | undefined {
  const rules = destinations.map(parseRule).filter(rule => rule !== undefined)
  if (rules.length !== destinations.length) return undefined
  return { tenant, agent, plugin, x5tS256: cnf['x5t#S256'], destinations: rules, epoch }
}

type Unwrap = ReturnType<typeof openWrappedKeys>

async function unseal(ports: OpenerPorts, unwrap: Unwrap, claims: Claims, binding: Binding): Promise<Buffer | undefined> {
  const { seal } = claims.assay
  const frameOf = (ciphertext: string): Frame => ({ kid: kidOf(ciphertext), jti: claims.jti, exp: claims.exp })
  if ('jwe' in seal) {
    const key = await unwrap(binding.tenant, seal.key)
    return key && decryptJwe(seal.jwe, key, authenticatedData(binding, frameOf(seal.key)))
  }
  const associated = authenticatedData(binding, frameOf(seal.transit)).toString('base64')
  const body = { ciphertext: seal.transit, context: contextOf(binding.tenant), associated_data: associated }
  const text = await decrypt(ports.vault, ports.transit, body)
  return text === undefined ? undefined : Buffer.from(text, 'base64')
}

/** What is not of the form of a ciphertext opens under no version. */
function kidOf(ciphertext: string): string {
  try {
    return `${SEALING_KEY}-v${versionOf(ciphertext)}`
  } catch {
    return ''
  }
}

const PROTECTED = Buffer.from(JSON.stringify(JWE_HEADER)).toString('base64url')

async function decryptJwe(jwe: string, key: KeyObject, aad: Buffer): Promise<Buffer | undefined> {
  const [header, encryptedKey, iv = '', ciphertext = '', tag = '', ...more] = jwe.split('.')
  if (header !== PROTECTED || encryptedKey !== '' || more.length > 0) return undefined
  const flattened = { protected: PROTECTED, iv, ciphertext, tag, aad: aad.toString('base64url') }
  const options = { keyManagementAlgorithms: ['dir'], contentEncryptionAlgorithms: ['A256GCM'] }
  try {
    const { buffer, byteOffset, byteLength } = (await flattenedDecrypt(flattened, key, options)).plaintext
    return Buffer.from(buffer, byteOffset, byteLength)
  } catch {
    return undefined
  }
}

const payload = z.record(z.string(), z.string().min(1))

/** @param text which is nothing but zeros afterwards */
function fieldsOf(text: Buffer): Readonly<Record<string, Secret>> | undefined {
  const read = payload.safeParse(parsed(text))
  text.fill(0)
  if (!read.success) return undefined
  return Object.fromEntries(Object.entries(read.data).map(([name, value]) => [name, new Secret(value)]))
}

/** An unknown `kid` may belong to a version that was just made: it is looked up, though no oftener than this. */
const LOOK_MS = 1000
const FRESH_MS = 60_000

/** Public keys by `kid`, exactly those that Vault lists. */
function openSigningKeys({ vault, transit, monotonic }: OpenerPorts): (kid: string) => Promise<KeyObject | undefined> {
  let keys: ReadonlyMap<string, KeyObject> = new Map()
  let at = Number.NEGATIVE_INFINITY
  let flight: Promise<void> | undefined
  const look = async () => {
    const asked = monotonic()
    const data = (await absent(vault.read(`${transit}/keys/${SIGNING_KEY}`)))?.data
    keys = publicKeys(data)
    at = asked
  }
  return async kid => {
    const age = monotonic() - at
    if (age > FRESH_MS || (age > LOOK_MS && !keys.has(kid))) {
      flight ??= look().finally(() => {
        flight = undefined
      })
      await flight
    }
    return keys.get(kid)
  }
}

function publicKeys(data: Readonly<Record<string, unknown>> | null | undefined): ReadonlyMap<string, KeyObject> {
  if (data && data['type'] !== 'ecdsa-p256')
    throw new BrokerError('unavailable', `the transit key ${SIGNING_KEY} is not of type ecdsa-p256`)
  const versions = Object.values((data?.['keys'] ?? {}) as Record<string, { public_key: string }>)
  const keys = versions.map(({ public_key }) => createPublicKey(public_key))
  return new Map(keys.map(key => [thumbprintOf(key.export({ format: 'jwk' })), key]))
}
