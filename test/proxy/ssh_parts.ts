import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import { sshStrings } from '../../engine/ssh/wire.ts'
import { sign } from '../../proxy/ssh/keys.ts'

/** A key and its blob, as OpenSSH writes it. */
export type Pair = { readonly key: KeyObject; readonly blob: Buffer; readonly line: string }

export function ed25519(): Pair {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const x = Buffer.from(publicKey.export({ format: 'jwk' }).x ?? '', 'base64url')
  return pairOf(privateKey, 'ssh-ed25519', x)
}

export function ecdsa(): Pair {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const { x = '', y = '' } = publicKey.export({ format: 'jwk' })
  const point = Buffer.concat([Buffer.from([4]), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')])
  return pairOf(privateKey, 'ecdsa-sha2-nistp256', 'nistp256', point)
}

export function rsa(): Pair {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const { n = '', e = '' } = publicKey.export({ format: 'jwk' })
  // a number that is not negative
  const modulus = Buffer.concat([Buffer.alloc(1), Buffer.from(n, 'base64url')])
  return pairOf(privateKey, 'ssh-rsa', Buffer.from(e, 'base64url'), modulus)
}

function pairOf(key: KeyObject, kind: string, ...fields: readonly (string | Buffer)[]): Pair {
  const blob = sshStrings(kind, ...fields)
  return { key, blob, line: `${kind} ${blob.toString('base64')}` }
}

export type Certified = {
  readonly type?: number
  readonly principals?: readonly string[]
  readonly validAfter?: number
  readonly validBefore?: number
  readonly critical?: Readonly<Record<string, string>>
  readonly extensions?: Readonly<Record<string, string>>
}

/** A certificate of an Ed25519 authority over a key. */
export function certify(
  over: Pair,
  authority: Pair,
  certified: Certified = {},
): { readonly blob: Buffer; readonly line: string } {
  const { type = 1, principals = ['deploy'], validAfter = 0, validBefore = 2 ** 40, critical = {}, extensions = {} } = certified
  const [plain = ''] = over.line.split(' ')
  const kind = `${plain}-cert-v01@openssh.com`
  const options = (given: Readonly<Record<string, string>>) => sshStrings(...Object.entries(given).flat())
  const numbers = Buffer.alloc(12)
  numbers.writeUInt32BE(type, 8)
  const times = Buffer.alloc(16)
  times.writeBigUInt64BE(BigInt(validAfter))
  times.writeBigUInt64BE(BigInt(validBefore), 8)
  const signed = Buffer.concat([
    sshStrings(kind, Buffer.alloc(32, 1)),
    over.blob.subarray(sshStrings(plain).length),
    numbers,
    sshStrings('id', sshStrings(...principals)),
    times,
    sshStrings(options(critical), options(extensions), '', authority.blob),
  ])
  const blob = Buffer.concat([signed, sshStrings(sign('ssh-ed25519', authority.key, signed))])
  return { blob, line: `${kind} ${blob.toString('base64')}` }
}

/** What a token holds for SSH. */
export function credential(certified: Certified = {}) {
  const pair = ecdsa()
  const { line, blob } = certify(pair, ed25519(), certified)
  return {
    fields: { private_key: pair.key.export({ type: 'sec1', format: 'pem' }).toString(), signed_key: line },
    blob,
    key: pair.key,
  }
}

/** A packet before encryption begins. */
export function packet(payload: Buffer): Buffer {
  const padding = 20 - ((payload.length + 9) % 16)
  const head = Buffer.alloc(5)
  head.writeUInt32BE(payload.length + padding + 1)
  head.writeUInt8(padding, 4)
  return Buffer.concat([head, payload, Buffer.alloc(padding)])
}

export const VERSION = Buffer.from('SSH-2.0-test\r\n')
export const KEXINIT = packet(Buffer.concat([Buffer.from([20]), Buffer.alloc(80)]))
/** Behind it everything is encrypted. */
export const NEWKEYS = packet(Buffer.from([21]))
export const reply = (hostKey: Buffer, signature: Buffer, number = 31): Buffer =>
  packet(Buffer.concat([Buffer.from([number]), sshStrings(hostKey, 'public part', signature)]))
