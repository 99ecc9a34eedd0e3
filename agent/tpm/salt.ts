import { constants, createECDH, publicEncrypt } from 'node:crypto'
import { curves, type EccPublic, hashes, kdfe, keyObjectOf, type Public, type RsaPublic, Writer } from '#attestation'

const LABEL = 'SECRET'

/** A salt that only the TPM which holds the key can learn, and the TPM2B_ENCRYPTED_SECRET to send (TPM 2.0 Library Part 1, "Secret Sharing"). */
export type Salt = { readonly salt: Buffer; readonly encrypted: Buffer }

export function saltFor(key: Public, random: (size: number) => Buffer): Salt {
  return key.kind === 'rsa' ? rsaSalt(key, random) : eccSalt(key)
}

function rsaSalt(key: RsaPublic, random: (size: number) => Buffer): Salt {
  const salt = random(hashes[key.nameAlg].size)
  const oaep = { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: key.nameAlg, oaepLabel: Buffer.from(`${LABEL}\0`) }
  return { salt, encrypted: sized(publicEncrypt({ key: keyObjectOf(key), ...oaep }, salt)) }
}

/** One-pass Diffie-Hellman; what is sent is the TPMS_ECC_POINT of the ephemeral key. */
function eccSalt(key: EccPublic): Salt {
  const { named, size } = curves[key.curve]
  const ephemeral = createECDH(named)
  const point = ephemeral.generateKeys() // 0x04, x, y
  const [x, y] = [point.subarray(1, 1 + size), point.subarray(1 + size)]
  const z = ephemeral.computeSecret(Buffer.concat([Uint8Array.of(4), key.x, key.y]))
  const salt = kdfe(key.nameAlg, z, LABEL, x, key.x)
  return { salt, encrypted: sized(new Writer().sized(x).sized(y).done()) }
}

const sized = (bytes: Uint8Array): Buffer => new Writer().sized(bytes).done()
