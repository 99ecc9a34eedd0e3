import { alg, handle, nameOf, type Public, parsePublic, type Reader, Writer } from '#attestation'
import type { Authorization } from '../authorization.ts'
import { tag } from '../codes.ts'
import { fault, TpmError } from '../errors.ts'
import { password } from '../password.ts'
import { type Entity, entity, type Tpm } from '../tpm.ts'

/** A key in the TPM. Disposing of it flushes it; a persistent key has nothing to flush. */
export type LoadedKey = AsyncDisposable & { readonly handle: number; readonly name: Buffer; readonly public: Public }

/** TPM2B_PRIVATE and TPM2B_PUBLIC, both with their size fields, as TPM2_Load wants them. */
export type KeyBlobs = { readonly private: Buffer; readonly public: Buffer }

const NOTHING = Buffer.alloc(0)

/** Makes the primary key of this template: the same key each time, as long as the hierarchy's seed lives. @param template TPMT_PUBLIC */
export async function createPrimary(
  tpm: Tpm,
  hierarchy: number,
  template: Uint8Array,
  authorization: Authorization = password(),
): Promise<LoadedKey> {
  const made = tpm.run({
    name: 'CreatePrimary',
    handles: [entity(hierarchy)],
    authorizations: [authorization],
    parameters: creation(template),
    givesHandle: true,
    read: (reader, key) => {
      const area = reader.sized()
      skipCreation(reader)
      return loaded(tpm, key, area, reader.sized())
    },
  })
  return made.catch((error: unknown) => {
    throw ofHierarchy(hierarchy, error)
  })
}

/** A TPM does not say whose value was wrong. */
function ofHierarchy(hierarchy: number, error: unknown): unknown {
  if (!(error instanceof TpmError && WRONG.includes(error.symbol))) return error
  const next =
    hierarchy === handle.ENDORSEMENT
      ? 'the endorsement hierarchy has one: name the file that holds it with --endorsement-auth-file'
      : 'the owner hierarchy has one, and keys in files want that it has none'
  return new TpmError(error.code, error.symbol, `${error.message}; ${next}`, { cause: error })
}

const WRONG: readonly string[] = ['TPM_RC_BAD_AUTH', 'TPM_RC_AUTH_FAIL']

/** Makes a key under a parent; it is not loaded. */
export function create(tpm: Tpm, parent: Entity, template: Uint8Array, authorization: Authorization): Promise<KeyBlobs> {
  return tpm.run({
    name: 'Create',
    handles: [parent],
    authorizations: [authorization],
    parameters: creation(template),
    read: reader => {
      const blobs = { private: sized(reader.sized()), public: sized(reader.sized()) }
      skipCreation(reader)
      return blobs
    },
  })
}

export function load(tpm: Tpm, parent: Entity, blobs: KeyBlobs, authorization: Authorization): Promise<LoadedKey> {
  return tpm.run({
    name: 'Load',
    handles: [parent],
    authorizations: [authorization],
    parameters: new Writer().bytes(blobs.private).bytes(blobs.public).done(),
    givesHandle: true,
    read: (reader, key) => loaded(tpm, key, blobs.public.subarray(2), reader.sized()),
  })
}

/** A key that is in the TPM already, such as a persistent one. */
export function readPublic(tpm: Tpm, key: number): Promise<LoadedKey> {
  return tpm.run({
    name: 'ReadPublic',
    handles: [entity(key)],
    read: reader => {
      const area = reader.sized()
      const name = reader.sized()
      reader.sized() // qualifiedName
      return { ...loaded(tpm, key, area, name), [Symbol.asyncDispose]: async () => {} }
    },
  })
}

/** Frees a transient key or a session. */
export function flushContext(tpm: Tpm, key: number): Promise<void> {
  return tpm.run({ name: 'FlushContext', parameters: new Writer().u32(key).done(), read: () => {} })
}

/** Flushes when there is nobody left to tell: what cannot be flushed is gone already, or the TPM is. */
export async function release(tpm: Tpm, key: number): Promise<void> {
  await flushContext(tpm, key).catch(() => {})
}

/** Signs a digest with an unrestricted key that has a scheme. @returns TPMT_SIGNATURE */
export function sign(tpm: Tpm, key: Entity, digest: Uint8Array, authorization: Authorization = password()): Promise<Buffer> {
  const noTicket = new Writer().u16(tag.HASHCHECK).u32(handle.NULL).sized(NOTHING) // TPMT_TK_HASHCHECK, for restricted keys only
  return tpm.run({
    name: 'Sign',
    handles: [key],
    authorizations: [authorization],
    parameters: new Writer().sized(digest).u16(alg.NULL).bytes(noTicket.done()).done(),
    read: reader => Buffer.from(reader.take(reader.left)),
  })
}

/**
 * Opens a credential that was made for the Name of `ak` and this EK. @returns the secret
 * @throws TpmError of TPM_RC_INTEGRITY when it was made for another AK
 * @param blob TPM2B_ID_OBJECT @param encrypted TPM2B_ENCRYPTED_SECRET, both with their size fields
 */
export function activateCredential(
  tpm: Tpm,
  keys: { ak: Entity; ek: Entity },
  blob: Uint8Array,
  encrypted: Uint8Array,
  authorizations: readonly [Authorization, Authorization],
): Promise<Buffer> {
  return tpm.run({
    name: 'ActivateCredential',
    handles: [keys.ak, keys.ek],
    authorizations,
    parameters: new Writer().bytes(blob).bytes(encrypted).done(),
    read: reader => Buffer.from(reader.sized()),
  })
}

/** inSensitive without value and data, inPublic, no outsideInfo, no creationPCR. */
function creation(template: Uint8Array): Buffer {
  const noSensitive = new Writer().sized(NOTHING).sized(NOTHING).done()
  return new Writer().sized(noSensitive).sized(template).sized(NOTHING).u32(0).done()
}

/** creationData, creationHash and TPMT_TK_CREATION (tag, hierarchy, digest), of no use here. */
function skipCreation(reader: Reader): void {
  reader.sized()
  reader.sized()
  reader.u16()
  reader.u32()
  reader.sized()
}

/** The Name is computed here as well, so that a session's HMAC cannot be made over a name that does not belong to the key. */
function loaded(tpm: Tpm, key: number, area: Uint8Array, name: Buffer): LoadedKey {
  const read = parsePublic(area)
  if (!read.ok) throw fault('MALFORMED', `the TPM gave a key that is not understood: ${read.detail}`)
  if (!nameOf(read.value.bytes, read.value.nameAlg).equals(name))
    throw fault('MALFORMED', 'the TPM gave a key and the Name of another')
  return { handle: key, name: Buffer.from(name), public: read.value, [Symbol.asyncDispose]: () => release(tpm, key) }
}

const sized = (bytes: Uint8Array): Buffer => new Writer().sized(bytes).done()
