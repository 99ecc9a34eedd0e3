import { sign } from 'node:crypto'
import { encode } from 'cborg'
import { pairOf } from './attester.ts'
import { basicConstraints, type Ca, certifyEk, type Fields, keyUsage, makeCa, NOW, named } from './certificates.ts'

// Makes attestation documents as the Nitro hypervisor does, under a root of our own, so that every part can be wrong in a test.

export const root = makeCa(named('aws.nitro-enclaves', 'Amazon'), { kind: 'P-384', hash: 'sha384' })
const regional = makeCa(named('region.aws.nitro-enclaves', 'Amazon'), { kind: 'P-384', hash: 'sha384' }, root)
const zonal = makeCa(named('zone.aws.nitro-enclaves', 'Amazon'), { kind: 'P-384', hash: 'sha384' }, regional)

const LEAF: Partial<Fields> = {
  subject: named('i-0123456789abcdef0-enc0123456789abcdef', 'Amazon'),
  hash: 'sha384',
  extensions: [basicConstraints(false), keyUsage(0x80)],
}
export const BINDING = Buffer.alloc(32, 0x5a)
export const pcr = (index: number): Buffer => Buffer.alloc(48, index + 1)

export type Document = {
  /** of the protected head, in place of {1: -35} */
  readonly head?: Map<number, unknown> | Uint8Array
  readonly open?: Map<number, unknown>
  /** members of the payload; undefined leaves one out */
  readonly members?: Readonly<Record<string, unknown>>
  /** in place of the encoded payload */
  readonly payload?: (payload: Buffer) => Buffer
  readonly signature?: (signature: Buffer) => Buffer
  readonly leaf?: Partial<Fields> & { readonly key?: string }
  readonly bundle?: readonly Ca[]
  /** the whole document */
  readonly whole?: (document: Buffer) => Buffer
}

export function nitroDocument({
  head,
  open = new Map(),
  members = {},
  leaf = {},
  bundle = [root, regional, zonal],
  ...changes
}: Document = {}) {
  const { key = 'P-384', ...fields } = leaf
  const pair = pairOf(key as 'P-384', 'nitro leaf')
  const certificate = certifyEk(zonal, pair.publicKey, { ...LEAF, ...fields })
  const all: Record<string, unknown> = {
    module_id: 'i-0123456789abcdef0-enc0123456789abcdef',
    digest: 'SHA384',
    timestamp: NOW.getTime() - 1000,
    pcrs: new Map([0, 1, 2, 3, 4, 8].map(index => [index, pcr(index)])),
    certificate,
    cabundle: bundle.map(ca => ca.certificate),
    public_key: null,
    user_data: null,
    nonce: BINDING,
    ...members,
  }
  const given = new Map(Object.entries(all).filter(([, value]) => value !== undefined))
  const encoded = Buffer.from(encode(given))
  const payload = changes.payload?.(encoded) ?? encoded
  const protectedHead = head instanceof Uint8Array ? head : Buffer.from(encode(head ?? new Map([[1, -35]])))
  const signed = Buffer.from(encode(['Signature1', protectedHead, new Uint8Array(0), payload]))
  const made = sign('sha384', signed, { key: pair.privateKey, dsaEncoding: 'ieee-p1363' })
  const signature = changes.signature?.(made) ?? made
  const document = Buffer.from(encode([protectedHead, open, payload, signature]))
  return changes.whole?.(document) ?? document
}
