import { createPublicKey, type KeyObject } from 'node:crypto'
import { alg, attribute, type Curve, curves, ekProfile, type Hash, hashes, type SignatureScheme, Writer } from '#attestation'
import { Unusable } from './case.ts'

// Public areas for keys of which a set has nothing but the key.

const { fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, sign } = attribute
const AK_ATTRIBUTES = fixedTPM | fixedParent | sensitiveDataOrigin | userWithAuth | noDA | restricted | sign
const { low, high, policyA, policyB } = ekProfile
const EK_LOW = { nameAlg: alg.SHA256, attributes: low, authPolicy: policyA, aesBits: 128 }
const EK_HIGH = { nameAlg: alg.SHA384, attributes: high, authPolicy: policyB.sha384, aesBits: 256 }

/** TPMT_PUBLIC of an attestation key with that scheme. */
export function akAreaOf(key: KeyObject, scheme: SignatureScheme, hash: Hash): Buffer {
  const head = { nameAlg: alg.SHA256, attributes: AK_ATTRIBUTES, authPolicy: Buffer.alloc(0) }
  return area(key, head, [alg.NULL, alg[scheme], hashes[hash].id])
}

/** TPMT_PUBLIC of an endorsement key by the TCG's template L-1, L-2 or H-3. */
export function ekAreaOf(key: KeyObject): Buffer {
  const isHigh = key.asymmetricKeyDetails?.namedCurve === curves['P-384'].named
  const { aesBits, ...template } = isHigh ? EK_HIGH : EK_LOW
  return area(key, template, [alg.AES, aesBits, alg.CFB, alg.NULL])
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
