import { createCipheriv, createDecipheriv, createHmac, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto'
import { VaultRefusal, type VaultReply } from '../../engine/vault/client.ts'
import type { OwnVault } from '../../engine/vault/own.ts'

type Body = Readonly<Record<string, unknown>>
type SigningVersion = { readonly key: KeyObject; readonly pem: string }

/** As much of Vault's transit and KV as sealing uses, in this process: derived AES-GCM with authenticated data, data keys, ECDSA. */
export type FakeTransit = OwnVault & {
  /** what is asked is refused like this from now on */
  fault: ((path: string) => Error | undefined) | undefined
  readonly asked: readonly string[]
  readonly rotate: (name: string) => void
  /** private half of the latest version of a signing key: for tests that forge */
  readonly stolen: (name: string) => KeyObject
  minDecryption: number
}

const SEAL = 'assay-seal'

export function fakeTransit(): FakeTransit {
  const keys: Keys = { sealing: [], signing: new Map() }
  const kv: Kv = new Map()
  const asked: string[] = []
  const heed = (path: string) => {
    asked.push(path)
    const fault = fake.fault?.(path)
    if (fault) throw fault
  }
  const fake: FakeTransit = {
    fault: undefined,
    asked,
    minDecryption: 1,
    rotate: name => void (name === SEAL ? keys.sealing.push(randomBytes(32)) : keys.signing.get(name)?.push(newSigning())),
    stolen: name => keys.signing.get(name)?.at(-1)?.key as KeyObject,
    read: async path => {
      heed(path)
      const found = path.startsWith('transit/keys/') ? keyReply(keys, path.slice(13)) : kvReply(kv.get(path))
      if (!found) throw new VaultRefusal(404, [])
      return found
    },
    write: async (path, body) => {
      heed(path)
      const [, what = '', name = ''] = /^transit\/(.+)\/([^/]+)$/.exec(path) ?? []
      const write = writes[what]
      return { data: write ? write(keys, name, body, fake.minDecryption) : kvWrite(kv, path, body) }
    },
    list: async path => namesIn([...kv.keys()], path.replace('/metadata/', '/data/')),
    delete: async path => void kv.delete(path.replace('/metadata/', '/data/')),
  }
  return fake
}

type Keys = { readonly sealing: Buffer[]; readonly signing: Map<string, SigningVersion[]> }
type Kv = Map<string, { version: number; data: unknown }>

const writes: Readonly<Record<string, (keys: Keys, name: string, body: Body, minDecryption: number) => Body>> = {
  keys: ({ sealing, signing }, name) => {
    if (name === SEAL && sealing.length === 0) sealing.push(randomBytes(32))
    else if (name !== SEAL && !signing.has(name)) signing.set(name, [newSigning()])
    return {}
  },
  'datakey/plaintext': (keys, _, body) => {
    const key = randomBytes(32)
    return { plaintext: key.toString('base64'), ciphertext: encrypt(keys, key, body) }
  },
  encrypt: (keys, _, body) => ({ ciphertext: encrypt(keys, Buffer.from(String(body['plaintext']), 'base64'), body) }),
  decrypt: (keys, _, body, minDecryption) => ({ plaintext: decrypt(keys, body, minDecryption) }),
  sign: ({ signing }, name, body) => {
    const version = Number(body['key_version'])
    const key = signing.get(name)?.[version - 1]?.key
    if (!key) throw new VaultRefusal(400, ['signing key not found'])
    const inputs = body['batch_input'] as { input: string }[]
    const signed = inputs.map(({ input }) => sign('sha256', Buffer.from(input, 'base64'), { key, dsaEncoding: 'ieee-p1363' }))
    return { batch_results: signed.map(one => ({ signature: `vault:v${version}:${one.toString('base64url')}` })) }
  },
}

function newSigning(): SigningVersion {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return { key: privateKey, pem: publicKey.export({ type: 'spki', format: 'pem' }).toString() }
}

function derived({ sealing }: Keys, version: number, context: unknown): Buffer {
  return createHmac('sha256', sealing[version - 1] ?? '')
    .update(String(context))
    .digest()
}

function encrypt(keys: Keys, text: Buffer, { context, associated_data: aad = '', key_version }: Body): string {
  const version = Number(key_version ?? keys.sealing.length)
  const nonce = randomBytes(12)
  const cipher = createCipheriv('aes-256-gcm', derived(keys, version, context), nonce)
  cipher.setAAD(Buffer.from(String(aad), 'base64'))
  const sealed = Buffer.concat([nonce, cipher.update(text), cipher.final(), cipher.getAuthTag()])
  return `vault:v${version}:${sealed.toString('base64')}`
}

function decrypt(keys: Keys, { ciphertext, context, associated_data: aad = '' }: Body, minDecryption: number): string {
  const [, version, encoded = ''] = /^vault:v(\d+):(.*)$/.exec(String(ciphertext)) ?? []
  if (version === undefined) throw new VaultRefusal(400, ['invalid ciphertext: no prefix'])
  if (Number(version) < minDecryption)
    throw new VaultRefusal(400, ['ciphertext or signature version is disallowed by policy (too old)'])
  const bytes = Buffer.from(encoded, 'base64')
  const decipher = createDecipheriv('aes-256-gcm', derived(keys, Number(version), context), bytes.subarray(0, 12))
  decipher.setAAD(Buffer.from(String(aad), 'base64')).setAuthTag(bytes.subarray(-16))
  try {
    return Buffer.concat([decipher.update(bytes.subarray(12, -16)), decipher.final()]).toString('base64')
  } catch {
    throw new VaultRefusal(400, ['cipher: message authentication failed'])
  }
}

function keyReply({ sealing, signing }: Keys, name: string): VaultReply | undefined {
  if (name === SEAL) {
    const facts = { type: 'aes256-gcm96', derived: true, exportable: false, allow_plaintext_backup: false }
    return sealing.length === 0 ? undefined : { data: { ...facts, latest_version: sealing.length } }
  }
  const versions = signing.get(name)
  const shown = versions?.map(
    ({ pem }, at) => [String(at + 1), { public_key: pem, creation_time: '2026-06-01T00:00:00Z' }] as const,
  )
  const facts = { type: 'ecdsa-p256', exportable: false, allow_plaintext_backup: false, latest_version: versions?.length }
  return shown && { data: { ...facts, keys: Object.fromEntries(shown) } }
}

function kvWrite(kv: Kv, path: string, body: Body): Body {
  const version = kv.get(path)?.version ?? 0
  const cas = (body['options'] as { cas?: number } | undefined)?.cas
  if (cas !== undefined && cas !== version)
    throw new VaultRefusal(400, ['check-and-set parameter did not match the current version'])
  kv.set(path, { version: version + 1, data: body['data'] })
  return { version: version + 1 }
}

function namesIn(paths: readonly string[], folder: string): readonly string[] {
  const below = paths.filter(path => path.startsWith(folder)).map(path => path.slice(folder.length))
  return [...new Set(below.map(path => path.replace(/\/.*/s, '/')))]
}

function kvReply(kept: { version: number; data: unknown } | undefined): VaultReply | undefined {
  return kept && { data: { data: kept.data, metadata: { version: kept.version } } }
}
