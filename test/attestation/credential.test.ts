import {
  createDecipheriv,
  createECDH,
  createHmac,
  createPublicKey,
  type KeyObject,
  privateDecrypt,
  randomBytes,
} from 'node:crypto'
import { describe, expect, test } from 'vitest'
import {
  admitEk,
  type Credential,
  type CredentialInput,
  type Curve,
  curves,
  type EkKind,
  type EndorsementKey,
  hashes,
  makeCredential,
  nameOf,
  parsePublic,
  parseQuote,
  Reader,
} from '#attestation'
import { kdfa, kdfe } from '../../attestation/tpm2/kdf.ts'
import { verifySignature } from '../../attestation/tpm2/signature.ts'
import { areaOf, encodeArea, outcome, pairOf, unwrap } from './attester.ts'
import { ekAreaOf } from './endorsed.ts'
import { counted, present, readJson, unhex } from './vectors.ts'

type Case = {
  readonly id: string
  readonly ek_tpm2b_public_hex?: string
  readonly ek_spki_pem?: string
  readonly seed_hex?: string
  readonly ephemeral_private_decimal?: string
  readonly ak_name_hex: string
  readonly secret_hex: string
  readonly expected_hex?: string
  readonly expected_first_80_bytes_hex?: string
  readonly expected_idobject_plus_secret_hex?: string
}

describe.skipIf(!present)('MakeCredential of other implementations', () => {
  const count = counted('makecredential')
  test.each(readJson<Case[]>('makecredential/cases.json', []))('$id', one => {
    const made = makeCredential({
      ek: ekOf(one),
      akName: unhex(one.ak_name_hex),
      secret: unhex(one.secret_hex),
      random: fixed(one),
    })
    const file = Buffer.concat([unhex('badcc0de00000001'), made.credentialBlob, made.encryptedSecret])
    const [wanted, from, to] = resultOf(one)
    expect(file.length).toBeGreaterThanOrEqual(to)
    if (one.id !== 'makecred-gotpm-ecc') expect(file.subarray(from, to).toString('hex')).toBe(wanted)
    count()
  })
})

/** What is fixed, and where it stands in the file form: OAEP is random, so RSA is compared up to its ID object. */
function resultOf(one: Case): [string, number, number] {
  if (one.expected_hex) return [one.expected_hex, 0, one.expected_hex.length / 2]
  if (one.expected_first_80_bytes_hex) return [one.expected_first_80_bytes_hex, 0, 80]
  return [one.expected_idobject_plus_secret_hex?.slice(0, 140) ?? '', 8, 78]
}

/** The bytes that another implementation drew: a seed, or what makes its ephemeral key (value modulo n - 1, plus one). */
function fixed({ seed_hex: seed, ephemeral_private_decimal: scalar }: Case): CredentialInput['random'] {
  if (scalar) return size => unhex((BigInt(scalar) - 1n).toString(16).padStart(2 * size, '0'))
  return size => (seed ? unhex(seed) : Buffer.alloc(size))
}

function ekOf({ ek_tpm2b_public_hex: sized, ek_spki_pem: pem }: Case): CredentialInput['ek'] {
  if (sized) return unwrap(admitEk(unhex(sized).subarray(2)))
  return unwrap(admitEk(ekAreaOf(createPublicKey(pem ?? ''))))
}

describe('a credential is opened by its endorsement key alone', () => {
  const kinds: readonly EkKind[] = ['rsa-2048', 'p-256', 'p-384']
  const akName = randomBytes(34)

  test.each(kinds)('%s', kind => {
    const pair = pairOf(kind === 'rsa-2048' ? kind : (kind.toUpperCase() as Curve), 'ek')
    const ek = unwrap(admitEk(ekAreaOf(pair.publicKey)))
    const secret = randomBytes(32)
    const made = makeCredential({ ek, akName, secret, random: randomBytes })
    expect(activate(ek, pair.privateKey, akName, made)).toEqual(secret)
    expect(activate(ek, pair.privateKey, randomBytes(34), made)).toBeUndefined()
  })

  test('never the same twice, and no secret longer than a digest', () => {
    const ek = unwrap(admitEk(ekAreaOf(pairOf('P-256', 'ek').publicKey)))
    const make = (secret: Buffer) => makeCredential({ ek, akName, secret, random: randomBytes }).encryptedSecret
    expect(make(Buffer.alloc(32))).not.toEqual(make(Buffer.alloc(32)))
    expect(() => make(Buffer.alloc(33))).toThrow('at most 32 bytes')
  })
})

describe('the key that is used once', () => {
  test.each(['P-256', 'P-384'] as const)('on %s is one of 1 to n - 1, of 64 bits more than it has', curve => {
    const { named, order, size } = curves[curve]
    const ek = unwrap(admitEk(ekAreaOf(pairOf(curve, 'ek').publicKey)))
    const n = BigInt(`0x${order.toString('hex')}`)
    const drawn: number[] = []
    const pointFor = (value: bigint) => {
      const random = (count: number) => {
        drawn.push(count)
        return unhex(value.toString(16).padStart(2 * count, '0'))
      }
      const { encryptedSecret } = makeCredential({ ek, akName: Buffer.alloc(34), secret: Buffer.alloc(32), random })
      return new Reader(new Reader(encryptedSecret).sized()).sized()
    }
    const base = createECDH(named)
    base.setPrivateKey(unhex('01'.padStart(2 * size, '0')))
    const x = base.getPublicKey().subarray(1, 1 + size)
    for (const value of [0n, n - 1n, 2n * (n - 1n), n - 2n]) expect(pointFor(value)).toEqual(x) // that of 1, and of n - 1
    expect(new Set(drawn)).toEqual(new Set([size + 8]))
  })
})

/** TPM2_ActivateCredential: undefined where a TPM says that the integrity check failed. */
function activate({ public: area, nameAlg }: EndorsementKey, key: KeyObject, name: Buffer, made: Credential): Buffer | undefined {
  const blob = new Reader(new Reader(made.credentialBlob).sized())
  const [tag, identity] = [blob.sized(), blob.take(blob.left)]
  const seed = area.kind === 'rsa' ? decrypt(key, made) : agree(key, area.curve, area.x, made)
  const integrity = kdfa(nameAlg, seed, 'INTEGRITY', Buffer.alloc(0), 8 * hashes[nameAlg].size)
  if (!createHmac(nameAlg, integrity).update(identity).update(name).digest().equals(tag)) return undefined
  const bits = area.symmetric?.bits ?? 0
  const decipher = createDecipheriv(`aes-${bits}-cfb`, kdfa(nameAlg, seed, 'STORAGE', name, bits), Buffer.alloc(16))
  return new Reader(decipher.update(identity)).sized()
}

function decrypt(key: KeyObject, { encryptedSecret }: Credential): Buffer {
  return privateDecrypt({ key, oaepHash: 'sha256', oaepLabel: Buffer.from('IDENTITY\0') }, new Reader(encryptedSecret).sized())
}

function agree(key: KeyObject, curve: Curve, own: Buffer, { encryptedSecret }: Credential): Buffer {
  const point = new Reader(new Reader(encryptedSecret).sized())
  const [x, y] = [point.sized(), point.sized()]
  const ecdh = createECDH(curves[curve].named)
  ecdh.setPrivateKey(Buffer.from(key.export({ format: 'jwk' }).d ?? '', 'base64url'))
  const shared = ecdh.computeSecret(Buffer.concat([Buffer.of(4), x, y]))
  return kdfe(curve === 'P-256' ? 'sha256' : 'sha384', shared, 'IDENTITY', x, own)
}

type Creation = {
  readonly id: string
  readonly tpmt_public_hex: string
  readonly attest_hex: string
  readonly tpmt_signature_hex: string
}

describe.skipIf(!present)('creation attestations', () => {
  const count = counted('creation attestations')
  test.each(readJson<Creation[]>('makecredential/creation-attestations.json', []))('$id', one => {
    const area = unhex(one.tpmt_public_hex)
    expect(one.attest_hex).toContain(nameOf(area).toString('hex')) // TPMS_CREATION_INFO.objectName
    expect(outcome(parsePublic(area))).toBe('OK')
    expect(outcome(parseQuote(unhex(one.attest_hex)))).toBe('NOT_A_QUOTE')
    const key = pairOf('rsa-2048').publicKey
    const signer = { key, scheme: 'RSASSA', hash: 'sha256', public: unwrap(parsePublic(encodeArea(areaOf(key)))) } as const
    expect(outcome(verifySignature(unhex(one.tpmt_signature_hex), unhex(one.attest_hex), signer))).toBe('WEAK_HASH')
    count()
  })
})
