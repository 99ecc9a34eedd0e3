import { constants, createCipheriv, createECDH, createHmac, publicEncrypt } from 'node:crypto'
import type { EndorsementKey } from './endorsement.ts'
import { Writer } from './tpm2/bytes.ts'
import { type Curve, curves, type Hash, hashes } from './tpm2/constants.ts'
import { kdfa, kdfe } from './tpm2/kdf.ts'
import { type EccPublic, keyObjectOf } from './tpm2/public.ts'

/** What only the TPM with that endorsement key can open, and only for a key with that Name. Both with their size fields. */
export type Credential = {
  /** TPM2B_ID_OBJECT */
  readonly credentialBlob: Buffer
  /** TPM2B_ENCRYPTED_SECRET */
  readonly encryptedSecret: Buffer
}

/**
 * Seals a secret as TPM2_MakeCredential does (TPM 2.0 Library Part 1, Credential Protection; Part 2, TPMS_ID_OBJECT). That the
 * TPM opens it shows that the endorsement key and the named key are in one TPM, not under which parent the latter is.
 * @param akName TPM2B_NAME.name, computed by us
 * @param secret at most as long as the nameAlg's digest; 32 bytes always fit
 * @param random as `crypto.randomBytes`; what is not drawn from it is the padding of RSA-OAEP
 */
export function makeCredential({ ek, akName, secret, random }: CredentialInput): Credential {
  const { seed, encryptedSecret } = ek.public.kind === 'ecc' ? agree(ek.public, ek.nameAlg, random) : encrypt(ek, random)
  return { credentialBlob: seal(ek, seed, akName, secret), encryptedSecret }
}

export type CredentialInput = {
  readonly ek: Pick<EndorsementKey, 'public' | 'nameAlg'>
  readonly akName: Uint8Array
  readonly secret: Uint8Array
  readonly random: (size: number) => Uint8Array
}
type Seed = { readonly seed: Uint8Array; readonly encryptedSecret: Buffer }

/** RSA: the seed itself, under OAEP with the nameAlg and the label IDENTITY and its terminating zero. */
function encrypt({ public: area, nameAlg }: CredentialInput['ek'], random: CredentialInput['random']): Seed {
  const seed = random(hashes[nameAlg].size)
  const key = keyObjectOf(area)
  const oaepLabel = Buffer.from('IDENTITY\0')
  const encrypted = publicEncrypt({ key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: nameAlg, oaepLabel }, seed)
  return { seed, encryptedSecret: new Writer().sized(encrypted).done() }
}

/** ECC: one-pass Diffie-Hellman with a key used once, whose point is sent (Part 1, ECC Secret Sharing). */
function agree(area: EccPublic, nameAlg: Hash, random: CredentialInput['random']): Seed {
  const { named, size } = curves[area.curve]
  const ecdh = createECDH(named)
  ecdh.setPrivateKey(scalar(random(size + 8), area.curve))
  const shared = ecdh.computeSecret(Buffer.concat([Buffer.of(4), area.x, area.y]))
  const point = ecdh.getPublicKey()
  const [x, y] = [point.subarray(1, 1 + size), point.subarray(1 + size)]
  const seed = kdfe(nameAlg, shared, 'IDENTITY', x, area.x)
  return { seed, encryptedSecret: new Writer().sized(new Writer().sized(x).sized(y).done()).done() }
}

/** A private key of 1 to n - 1 from 64 more random bits than it has, so that none is likelier (FIPS 186, Key Pair Generation Using Extra Random Bits). */
function scalar(random: Uint8Array, curve: Curve): Buffer {
  const last = BigInt(`0x${curves[curve].order.toString('hex')}`) - 1n
  const value = (BigInt(`0x${Buffer.from(random).toString('hex')}`) % last) + 1n
  return Buffer.from(value.toString(16).padStart(2 * curves[curve].size, '0'), 'hex')
}

/** The outer HMAC over the encrypted secret and the Name: keys are derived from the seed, so the IV may be zero. */
function seal(
  { public: area, nameAlg }: CredentialInput['ek'],
  seed: Uint8Array,
  akName: Uint8Array,
  secret: Uint8Array,
): Buffer {
  const { size } = hashes[nameAlg]
  if (secret.length > size) throw new RangeError(`a credential holds at most ${size} bytes`)
  const bits = area.symmetric?.bits ?? 128
  const cipher = createCipheriv(`aes-${bits}-cfb`, kdfa(nameAlg, seed, 'STORAGE', akName, bits), Buffer.alloc(16))
  const identity = Buffer.concat([cipher.update(new Writer().sized(secret).done()), cipher.final()])
  const key = kdfa(nameAlg, seed, 'INTEGRITY', Buffer.alloc(0), 8 * size)
  const tag = createHmac(nameAlg, key).update(identity).update(akName).digest()
  return new Writer().sized(new Writer().sized(tag).bytes(identity).done()).done()
}
