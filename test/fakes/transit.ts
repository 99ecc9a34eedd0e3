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

export function fakeTransit(): FakeTransit {
  const signing = new Map<string, SigningVersion[]>()
  const sealing: Buffer[] = []
  const kv = new Map<string, { version: number; data: unknown }>()
  const asked: string[] = []
  const newSigning = (): SigningVersion => {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    return { key: privateKey, pem: publicKey.export({ type: 'spki', format: 'pem' }).toString() }
  }
  const derived = (version: number, context: unknown) =>
    createHmac('sha256', sealing[version - 1] ?? '')
      .update(String(context))
      .digest()
  const encrypt = (text: Buffer, { context, associated_data: aad = '', key_version: version = sealing.length }: Body) => {
    const nonce = randomBytes(12)
    const cipher = createCipheriv('aes-256-gcm', derived(Number(version), context), nonce).setAAD(
      Buffer.from(String(aad), 'base64'),
    )
    const sealed = Buffer.concat([nonce, cipher.update(text), cipher.final(), cipher.getAuthTag()])
    return `vault:v${Number(version)}:${sealed.toString('base64')}`
  }
  const decrypt = ({ ciphertext, context, associated_data: aad = '' }: Body) => {
    const [, version, encoded = ''] = /^vault:v(\d+):(.*)$/.exec(String(ciphertext)) ?? []
    if (version === undefined) throw new VaultRefusal(400, ['invalid ciphertext: no prefix'])
    if (Number(version) < fake.minDecryption)
      throw new VaultRefusal(400, ['ciphertext or signature version is disallowed by policy (too old)'])
    const bytes = Buffer.from(encoded, 'base64')
    const decipher = createDecipheriv('aes-256-gcm', derived(Number(version), context), bytes.subarray(0, 12))
    decipher.setAAD(Buffer.from(String(aad), 'base64')).setAuthTag(bytes.subarray(-16))
    try {
      return Buffer.concat([decipher.update(bytes.subarray(12, -16)), decipher.final()]).toString('base64')
    } catch {
      throw new VaultRefusal(400, ['cipher: message authentication failed'])
    }
  }
  const keyOf = (name: string): VaultReply | undefined => {
    if (name === 'assay-seal') {
      const facts = { type: 'aes256-gcm96', derived: true, exportable: false, allow_plaintext_backup: false }
      return sealing.length === 0 ? undefined : { data: { ...facts, latest_version: sealing.length } }
    }
    const versions = signing.get(name)
    const keys = versions?.map(
      ({ pem }, at) => [String(at + 1), { public_key: pem, creation_time: '2026-06-01T00:00:00Z' }] as const,
    )
    const facts = { type: 'ecdsa-p256', exportable: false, allow_plaintext_backup: false, latest_version: versions?.length }
    return keys && { data: { ...facts, keys: Object.fromEntries(keys) } }
  }
  const writes: Readonly<Record<string, (name: string, body: Body) => object>> = {
    keys: name => {
      if (name === 'assay-seal' && sealing.length === 0) sealing.push(randomBytes(32))
      else if (name !== 'assay-seal' && !signing.has(name)) signing.set(name, [newSigning()])
      return {}
    },
    'datakey/plaintext': (_, body) => {
      const key = randomBytes(32)
      return { plaintext: key.toString('base64'), ciphertext: encrypt(key, body) }
    },
    encrypt: (_, body) => ({ ciphertext: encrypt(Buffer.from(String(body['plaintext']), 'base64'), body) }),
    decrypt: (_, body) => ({ plaintext: decrypt(body) }),
    sign: (name, body) => {
      const version = Number(body['key_version'])
      const key = signing.get(name)?.[version - 1]?.key
      if (!key) throw new VaultRefusal(400, ['signing key not found'])
      const inputs = body['batch_input'] as { input: string }[]
      const signed = inputs.map(({ input }) => sign('sha256', Buffer.from(input, 'base64'), { key, dsaEncoding: 'ieee-p1363' }))
      return { batch_results: signed.map(one => ({ signature: `vault:v${version}:${one.toString('base64url')}` })) }
    },
  }
  const heed = (path: string) => {
    asked.push(path)
    const fault = fake.fault?.(path)
    if (fault) throw fault
  }
  const fake: FakeTransit = {
    fault: undefined,
    asked,
    minDecryption: 1,
    rotate: name => void (name === 'assay-seal' ? sealing.push(randomBytes(32)) : signing.get(name)?.push(newSigning())),
    stolen: name => signing.get(name)?.at(-1)?.key as KeyObject,
    read: async path => {
      heed(path)
      const found = path.startsWith('transit/keys/') ? keyOf(path.slice(13)) : kvReply(kv.get(path))
      if (!found) throw new VaultRefusal(404, [])
      return found
    },
    write: async (path, body) => {
      heed(path)
      const [, what = '', name = ''] = /^transit\/(.+)\/([^/]+)$/.exec(path) ?? []
      const write = writes[what]
      if (write) return { data: { ...write(name, body) } }
      const version = kv.get(path)?.version ?? 0
      const cas = (body['options'] as { cas?: number } | undefined)?.cas
      if (cas !== undefined && cas !== version)
        throw new VaultRefusal(400, ['check-and-set parameter did not match the current version'])
      kv.set(path, { version: version + 1, data: body['data'] })
      return { data: { version: version + 1 } }
    },
    list: async path => namesIn([...kv.keys()], path.replace('/metadata/', '/data/')),
    delete: async path => void kv.delete(path.replace('/metadata/', '/data/')),
  }
  return fake
}

function namesIn(paths: readonly string[], folder: string): readonly string[] {
  const below = paths.filter(path => path.startsWith(folder)).map(path => path.slice(folder.length))
  return [...new Set(below.map(path => path.replace(/\/.*/s, '/')))]
}

function kvReply(kept: { version: number; data: unknown } | undefined): VaultReply | undefined {
  return kept && { data: { data: kept.data, metadata: { version: kept.version } } }
}
