import { isBytes, writeCbor } from './cbor.ts'

/** COSE_Sign1 with its payload (RFC 9052, 4.2): `head` is protected, `open` is not. */
export type Sign1 = {
  readonly head: Uint8Array
  readonly open: ReadonlyMap<unknown, unknown>
  readonly payload: Uint8Array
  readonly signature: Uint8Array
}

/** Undefined when it is none. */
export function sign1In(value: unknown): Sign1 | undefined {
  const parts: readonly unknown[] = Array.isArray(value) ? value : []
  const [head, open, payload, signature] = parts
  if (parts.length !== 4 || !isBytes(head) || !(open instanceof Map) || !isBytes(payload) || !isBytes(signature)) return undefined
  return { head, open, payload, signature }
}

/** Sig_structure, without external data (RFC 9052, 4.4). */
export function signedBytes({ head, payload }: Pick<Sign1, 'head' | 'payload'>): Buffer {
  return writeCbor(['Signature1', head, new Uint8Array(0), payload])
}
