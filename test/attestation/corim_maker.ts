import { type KeyObject, sign } from 'node:crypto'
import { encode, Tagged } from 'cborg'

// Writes CoRIMs as an author of reference values does, so that every part can be wrong in a test.

export type Digests = Readonly<Record<number, readonly (readonly [algorithm: number | string, value: Buffer])[]>>

const tagged = (tag: number, value: unknown) => new Tagged(tag, value)
export const map = (...entries: readonly (readonly [unknown, unknown])[]) => new Map(entries)

/** integrity-registers in a measurement-values-map in a measurement-map */
export const measurement = (registers: Digests) =>
  map([1, map([14, map(...Object.entries(registers).map(([pcr, digests]) => [Number(pcr), digests] as const))])])

export const environment = map([0, map([1, 'ACME Inc.'], [2, 'ACME RoadRunner'])])

export const triplesOf = (...measurements: readonly unknown[]) => map([0, [[environment, measurements]]])

export const comidOf = (triples: unknown, more: readonly (readonly [unknown, unknown])[] = []) =>
  tagged(506, encode(map([1, map([0, 'acme-roadrunner'])], [4, triples], ...more)))

export const manifestOf = (
  tags: readonly unknown[],
  more: readonly (readonly [unknown, unknown])[] = [],
  id: unknown = 'acme-2026-11',
) => tagged(501, map([0, id], [1, tags], ...more))

export const validity = (notBefore: number | undefined, notAfter: number) =>
  [4, map(...(notBefore === undefined ? [] : [[0, tagged(1, notBefore)] as const]), [1, tagged(1, notAfter)])] as const

const algorithms: Readonly<Record<string, readonly [number, string | null]>> = {
  prime256v1: [-7, 'sha256'],
  secp384r1: [-35, 'sha384'],
  ed25519: [-8, null],
}

type Envelope = {
  readonly head?: ReadonlyMap<unknown, unknown>
  readonly open?: ReadonlyMap<unknown, unknown>
  readonly tag?: number
  readonly signature?: Buffer
}

/** COSE_Sign1 with the protected head of a CoRIM */
export function signedBy(
  key: KeyObject,
  payload: unknown,
  { head, open = new Map(), tag = 18, signature }: Envelope = {},
): Buffer {
  const kind = key.asymmetricKeyDetails?.namedCurve ?? key.asymmetricKeyType ?? ''
  const [algorithm, hash] = algorithms[kind] ?? [0, null]
  const meta = encode(map([0, map([0, 'ACME Inc.'])]))
  const fields = encode(head ?? map([1, algorithm], [3, 'application/rim+cbor'], [8, meta]))
  const content = encode(payload)
  const made =
    signature ?? sign(hash, encode(['Signature1', fields, Buffer.alloc(0), content]), { key, dsaEncoding: 'ieee-p1363' })
  return Buffer.from(encode(tagged(tag, [fields, open, content, made])))
}
