import { createPublicKey, type webcrypto } from 'node:crypto'
import { thumbprintOf } from '#attestation'
import { BrokerError } from '../errors.ts'
import { gatherBy, gatherLooks } from '../gather.ts'
import { absent } from './client.ts'
import type { Published } from './key_set.ts'
import type { OwnVault } from './own.ts'

/** One version of a signing key: what verifiers need to know of it. */
export type KeyVersion = Published & {
  readonly version: number
  readonly createdAt: string
  readonly publicPem: string
  readonly jwk: PublicJwk
}
export type PublicJwk = { readonly kty: 'EC'; readonly crv: 'P-256'; readonly x: string; readonly y: string }
export type SigningKey = { readonly name: string; readonly latest: KeyVersion; readonly versions: readonly KeyVersion[] }

/** Keys that never leave Vault's transit engine: ECDSA on P-256, named `assay-...`. */
export type Signer = {
  /** JWS signature (r || s, 64 bytes) by exactly this version; calls for one key that arrive together go in one `batch_input` */
  readonly sign: (key: string, version: number, input: Buffer) => Promise<Buffer>
  /** may be up to `KEYS_FRESH_MS` old, unless it was rotated here */
  readonly key: (name: string) => Promise<SigningKey>
  readonly create: (name: string) => Promise<void>
  readonly rotate: (name: string) => Promise<SigningKey>
  readonly destroy: (name: string) => Promise<void>
}

const KEYS_FRESH_MS = 5_000
const BATCH = 256

export function openSigner(vault: OwnVault, mount: string, monotonic: () => number): Signer {
  const known = new Map<string, { key: SigningKey; at: number }>()
  // one look for all who wait, begun after the last of them asked: after a rotation nobody learns of an older state, and none replaces a newer one
  const load = gatherLooks<string, SigningKey>(
    name => name,
    async name => {
      const at = monotonic()
      const key = keyOf(name, (await absent(vault.read(`${mount}/keys/${name}`)))?.data)
      known.set(name, { key, at })
      return key
    },
  )
  const signTogether = gatherBy<Task, Buffer>(
    task => `${task.key} ${task.version}`,
    tasks => signBatch(vault, mount, tasks),
    BATCH,
  )
  return {
    sign: async (key, version, input) => {
      try {
        return await signTogether({ key, version, input })
      } catch (error) {
        // it may have been trimmed, replaced or deleted: the next to ask looks anew
        known.delete(key)
        throw error
      }
    },
    key: async name => {
      const kept = known.get(name)
      return kept && monotonic() - kept.at < KEYS_FRESH_MS ? kept.key : load(name)
    },
    create: async name => void (await vault.write(`${mount}/keys/${name}`, { type: 'ecdsa-p256' })),
    rotate: async name => {
      await vault.write(`${mount}/keys/${name}/rotate`, {})
      return load(name)
    },
    destroy: async name => {
      known.delete(name)
      await vault.write(`${mount}/keys/${name}/config`, { deletion_allowed: true })
      await vault.delete(`${mount}/keys/${name}`)
    },
  }
}

type Task = { readonly key: string; readonly version: number; readonly input: Buffer }

/** All with one version of one key. */
async function signBatch(vault: OwnVault, mount: string, tasks: readonly Task[]): Promise<readonly Buffer[]> {
  const { key = '', version = 0 } = tasks[0] ?? {}
  const body = {
    batch_input: tasks.map(task => ({ input: task.input.toString('base64') })),
    key_version: version,
    hash_algorithm: 'sha2-256',
    marshaling_algorithm: 'jws',
  }
  const results = (await vault.write(`${mount}/sign/${key}`, body))?.data?.['batch_results']
  if (!Array.isArray(results) || results.length !== tasks.length)
    throw new BrokerError('unavailable', 'transit answered for another number of inputs')
  return results.map(result => signatureOf(result, key, version))
}

function signatureOf(result: { signature?: unknown } | null, key: string, version: number): Buffer {
  const [scheme, signedBy, value] = String(result?.signature).split(':')
  const signature = Buffer.from(value ?? '', 'base64url')
  if (scheme !== 'vault' || signedBy !== `v${version}` || signature.length !== 64) {
    throw new BrokerError('unavailable', `transit did not sign with version ${version} of the key ${key}`)
  }
  return signature
}

function keyOf(name: string, data: Readonly<Record<string, unknown>> | null | undefined): SigningKey {
  if (!data) throw new BrokerError('unavailable', `the transit key ${name} does not exist`)
  if (data['type'] !== 'ecdsa-p256') throw new BrokerError('unavailable', `the transit key ${name} is not of type ecdsa-p256`)
  if (data['exportable'] !== false || data['allow_plaintext_backup'] !== false) {
    throw new BrokerError('unavailable', `the transit key ${name} can be exported: it will not be used`)
  }
  const versions = Object.entries((data['keys'] ?? {}) as Record<string, { public_key: string; creation_time: string }>)
    .map(([version, one]) => versionOf(name, Number(version), one))
    .sort((a, b) => a.version - b.version)
  const latest = versions.at(-1)
  if (!latest || latest.version !== data['latest_version'])
    throw new BrokerError('unavailable', `the transit key ${name} has no latest version`)
  return { name, latest, versions }
}

function versionOf(name: string, version: number, one: { public_key: string; creation_time: string }): KeyVersion {
  const { crv, x, y } = jwkOf(one.public_key)
  if (crv !== 'P-256' || x === undefined || y === undefined)
    throw new BrokerError('unavailable', `version ${version} of the transit key ${name} is not on P-256`)
  const jwk = { kty: 'EC', crv, x, y } as const
  return {
    version,
    kid: thumbprintOf(jwk),
    createdAt: one.creation_time,
    publicPem: one.public_key,
    jwk,
  }
}

function jwkOf(pem: string): webcrypto.JsonWebKey {
  try {
    return createPublicKey(pem).export({ format: 'jwk' })
  } catch {
    return {}
  }
}
