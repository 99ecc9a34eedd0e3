/** Numbers of the TPM 2.0 Library, Part 2: Structures. Clause numbers move between revisions, the names do not. */

/** TPM_ALG_ID */
export const alg = {
  RSA: 0x0001,
  SHA1: 0x0004,
  HMAC: 0x0005,
  AES: 0x0006,
  KEYEDHASH: 0x0008,
  SHA256: 0x000b,
  SHA384: 0x000c,
  SHA512: 0x000d,
  NULL: 0x0010,
  RSASSA: 0x0014,
  RSAES: 0x0015,
  RSAPSS: 0x0016,
  OAEP: 0x0017,
  ECDSA: 0x0018,
  ECDH: 0x0019,
  KDF1_SP800_56A: 0x0020,
  KDF1_SP800_108: 0x0022,
  ECC: 0x0023,
  SYMCIPHER: 0x0025,
  CFB: 0x0043,
} as const

/** TPM_ALG_ID of a hash, with the name node:crypto has for it and its size in bytes. */
export const hashes = {
  sha1: { id: alg.SHA1, size: 20 },
  sha256: { id: alg.SHA256, size: 32 },
  sha384: { id: alg.SHA384, size: 48 },
  sha512: { id: alg.SHA512, size: 64 },
} as const
export type Hash = keyof typeof hashes

/** The hash with this TPM_ALG_ID, when there is one. */
export function hashOf(id: number): Hash | undefined {
  return byId.get(id)
}
const byId = new Map((Object.keys(hashes) as Hash[]).map(name => [hashes[name].id as number, name]))

/** TPM_ECC_CURVE, with JWK's and node:crypto's names, the size of a coordinate in bytes and the order of the base point (SEC 2). */
export const curves = {
  'P-256': {
    id: 0x0003,
    named: 'prime256v1',
    size: 32,
    order: Buffer.from('ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551', 'hex'),
  },
  'P-384': {
    id: 0x0004,
    named: 'secp384r1',
    size: 48,
    order: Buffer.from('ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973', 'hex'),
  },
} as const
export type Curve = keyof typeof curves

/** TPMA_OBJECT */
export const attribute = {
  fixedTPM: 0x2,
  stClear: 0x4,
  fixedParent: 0x10,
  sensitiveDataOrigin: 0x20,
  userWithAuth: 0x40,
  adminWithPolicy: 0x80,
  noDA: 0x400,
  encryptedDuplication: 0x800,
  restricted: 0x10000,
  decrypt: 0x20000,
  sign: 0x40000,
} as const

/** TPM_RH: permanent handles. */
export const handle = {
  OWNER: 0x40000001,
  NULL: 0x40000007,
  PW: 0x40000009,
  ENDORSEMENT: 0x4000000b,
  PLATFORM: 0x4000000c,
} as const

/** PCR 0 to 23: what a PC Client TPM has. */
export const PCRS = 24

/** TPM_GENERATED_VALUE: "\xffTCG", first in everything that a TPM attests. */
export const GENERATED = 0xff544347

/** TPM_ST_ATTEST_QUOTE and its siblings. */
export const attestType = { CERTIFY: 0x8017, QUOTE: 0x8018, CREATION: 0x801a } as const
