import { createPublicKey } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { thumbprintOf } from '#attestation'
import { BrokerError } from '../errors.ts'
import { absent } from './client.ts'
import type { Published } from './key_set.ts'
import type { OwnVault } from './own.ts'

export type RsaJwk = { readonly kty: 'RSA'; readonly n: string; readonly e: string }
export type RsaVersion = Published & { readonly version: number; readonly jwk: RsaJwk }

/** RSA keys of the operator in transit, named `assay-...`: for providers that verify nothing but RS256. */
export type RsaSigner = {
  /** The versions, the latest last; may be up to five seconds old.
   *  @throws BrokerError unavailable when there is no such key, or one that is not RSA or that can be exported */
  readonly versions: (key: string) => Promise<readonly RsaVersion[]>
  /** RSASSA-PKCS1-v1_5 over SHA-256 (RFC 7518, 3.3) by exactly this version */
  readonly sign: (key: string, version: number, input: Buffer) => Promise<Buffer>
}

const FRESH_MS = 5_000
const KEYS = 1_000

export function openRsaSigner(vault: OwnVault, mount: string, monotonic: () => number): RsaSigner {
  const clock = { perf: { now: monotonic }, ttlResolution: 0 }
  const known = new LRUCache<string, readonly RsaVersion[]>({ max: KEYS, ttl: FRESH_MS, ...clock })
  return {
    versions: async key => {
      const kept = known.get(key)
      if (kept) return kept
      const read = versionsOf(key, (await absent(vault.read(`${mount}/keys/${key}`)))?.data)
      known.set(key, read)
      return read
    },
    sign: async (key, version, input) => {
      const how = { hash_algorithm: 'sha2-256', signature_algorithm: 'pkcs1v15', key_version: version }
      const reply = await vault.write(`${mount}/sign/${key}`, { input: input.toString('base64'), ...how })
      const [scheme, by, value = ''] = String(reply?.data?.['signature']).split(':')
      if (scheme !== 'vault' || by !== `v${version}` || value === '')
        throw new BrokerError('unavailable', `transit did not sign with version ${version} of the key ${key}`)
      return Buffer.from(value, 'base64')
    },
  }
}

function versionsOf(key: string, data: Readonly<Record<string, unknown>> | null | undefined): readonly RsaVersion[] {
  if (!data) throw new BrokerError('unavailable', `the transit key ${key} does not exist`)
  if (!String(data['type']).startsWith('rsa-')) throw new BrokerError('unavailable', `the transit key ${key} is not an RSA key`)
  if (data['exportable'] !== false || data['allow_plaintext_backup'] !== false)
    throw new BrokerError('unavailable', `the transit key ${key} can be exported: it will not be used`)
  const versions = Object.entries((data['keys'] ?? {}) as Record<string, { public_key: string }>)
    .map(([number, { public_key }]) => {
      const jwk = jwkOf(key, public_key)
      return { version: Number(number), kid: thumbprintOf(jwk), jwk }
    })
    .toSorted((a, b) => a.version - b.version)
  if (versions.length === 0) throw new BrokerError('unavailable', `the transit key ${key} has no version`)
  return versions
}

function jwkOf(key: string, pem: string): RsaJwk {
  try {
    const { n, e } = createPublicKey(pem).export({ format: 'jwk' })
    if (n !== undefined && e !== undefined) return { kty: 'RSA', n, e }
  } catch {}
  throw new BrokerError('unavailable', `the transit key ${key} has a public key that cannot be read`)
}
