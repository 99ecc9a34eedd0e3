import type { KeyObject } from 'node:crypto'
import { alg, curves } from '#attestation'
import { type Area, areaOf, encodeArea } from './attester.ts'

const policy = {
  low: Buffer.from('837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa', 'hex'),
  high: Buffer.from('ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0', 'hex'),
  high384: Buffer.from('b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12', 'hex'),
}

/** TPMT_PUBLIC of an endorsement key by the TCG's template L-1, L-2 or H-3, but for the `changes`. */
export function ekAreaOf(key: KeyObject, changes: Partial<Area> = {}): Buffer {
  const plain = areaOf(key)
  const strong = plain.details[0] === curves['P-384'].id
  const low = { attributes: 0x000300b2, authPolicy: policy.low, symmetric: [alg.AES, 128, alg.CFB] }
  const high = { nameAlg: alg.SHA384, attributes: 0x000300f2, authPolicy: policy.high384, symmetric: [alg.AES, 256, alg.CFB] }
  return encodeArea({ ...plain, ...(strong ? high : low), ...changes })
}

/** Template H-1 or H-2: as L, but for the policy and userWithAuth. */
export const highRange = { attributes: 0x000300f2, authPolicy: policy.high }
