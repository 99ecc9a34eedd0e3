import { createPublicKey, type KeyObject } from 'node:crypto'
import { alg, type Curve, curves, type Hash, hashes, type SignatureScheme, Writer } from '#attestation'
import { Unusable } from './case.ts'

// Public areas for keys of which a set has nothing but the key.

/** fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, sign */
const AK_ATTRIBUTES = 0x00050472
const EK_LOW = { nameAlg: alg.SHA256, attributes: 0x000300b2, aesBits: 128 }
const EK_HIGH = { nameAlg: alg.SHA384, attributes: 0x000300f2, aesBits: 256 }
const policy = {
  low: Buffer.from('837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa', 'hex'),
  high: Buffer.from('b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12', 'hex'),
}

/** TPMT_PUBLIC of an attestation key with that scheme. */
export function akAreaOf(key: KeyObject, scheme: SignatureScheme, hash: Hash): Buffer {
  const head = { nameAlg: alg.SHA256, attributes: AK_ATTRIBUTES, authPolicy: Buffer.alloc(0) }
  return area(key, head, [alg.NULL, alg[scheme], hashes[hash].id])
}

/** TPMT_PUBLIC of an endorsement key by the TCG's template L-1, L-2 or H-3. */
export function ekAreaOf(key: KeyObject): Buffer {
  const high = key.asymmetricKeyDetails?.namedCurve === curves['P-384'].named
  const { aesBits, ...template } = high ? EK_HIGH : EK_LOW
  return area(key, { ...template, authPolicy: high ? policy.high : policy.low }, [alg.AES, aesBits, alg.CFB, alg.NULL])
}

type Head = { readonly nameAlg: number; readonly attributes: number; readonly authPolicy: Buffer }

function area(key: KeyObject, { nameAlg, attributes, authPolicy }: Head, algorithms: readonly number[]): Buffer {
  const jwk = key.export({ format: 'jwk' })
  const bytes = (text: string | undefined) => Buffer.from(text ?? '', 'base64url')
  const writer = new Writer()
    .u16(jwk.kty === 'RSA' ? alg.RSA : alg.ECC)
    .u16(nameAlg)
    .u32(attributes)
    .sized(authPolicy)
  for (const one of algorithms) writer.u16(one)
  if (jwk.kty === 'RSA')
    return writer
      .u16(bytes(jwk.n).length * 8)
      .u32(exponentOf(bytes(jwk.e)))
      .sized(bytes(jwk.n))
      .done()
  const curve = curves[jwk.crv as Curve] ?? { id: 0 }
  return writer.u16(curve.id).u16(alg.NULL).sized(bytes(jwk.x)).sized(bytes(jwk.y)).done()
}

/** 0 stands for 65537. */
function exponentOf(bytes: Buffer): number {
  const value = Number(BigInt(`0x${bytes.toString('hex') || '0'}`))
  return value === 65537 ? 0 : Math.min(value, 0xffffffff)
}

export function keyOf(pem: string): KeyObject {
  try {
    return plain(createPublicKey(pem))
  } catch {
    throw new Unusable('a key in PEM cannot be read')
  }
}

/** An RSA key that may only sign in one way is a key like any other: with what it signs, the set says. */
export function plain(key: KeyObject): KeyObject {
  if (key.asymmetricKeyType !== 'rsa-pss') return key
  const spki = key.export({ type: 'spki', format: 'der' })
  const start = spki.indexOf(PSS) - 4 // of the AlgorithmIdentifier, whose length takes a byte
  const bits = start + 2 + (spki[start + 1] ?? 0)
  return createPublicKey({ key: spki.subarray(bits + 5), type: 'pkcs1', format: 'der' })
}

/** id-RSASSA-PSS (RFC 4055 3.1) */
const PSS = Buffer.from('2a864886f70d01010a', 'hex')
