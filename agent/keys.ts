import { handle } from '#attestation'
import { loadEk } from './endorsement.ts'
import type { AkKind, EkKind } from './kinds.ts'
import { create, createPrimary, type LoadedKey, load, type SaltedSession, startHmacSession } from './tpm/commands.ts'
import type { KeyFile } from './tpm/key_file.ts'
import { password } from './tpm/password.ts'
import { akTemplates, boundKeyTemplate, storageTemplate } from './tpm/templates.ts'
import type { Tpm } from './tpm/tpm.ts'

export type KeyOptions = {
  readonly ek: EkKind
  readonly ak: AkKind
  /** authorisation value of the endorsement hierarchy, empty when it has none */
  readonly endorsementAuth: Uint8Array
  readonly random: (size: number) => Buffer
  /** the key to bind, in place of the one that the TPM makes of its seed */
  readonly keyFile?: KeyFile
}

/** Keys and the session, each made when first wanted and kept until the attester closes. A TPM may have room for three keys only, so the EK goes at once. */
export type Keys = {
  ek(): Promise<LoadedKey>
  session(): Promise<SaltedSession>
  ak(): Promise<LoadedKey>
  bound(): Promise<BoundKey>
  /** Makes a key that a file can hold. It is not loaded. */
  create(): Promise<KeyFile>
  close(): Promise<void>
}

/** `parent`: TPMT_PUBLIC of the storage key that it was made under, when it is no primary key. */
export type BoundKey = LoadedKey & { readonly parent?: Buffer }

export function keysOf(tpm: Tpm, options: KeyOptions): Keys {
  const { random, endorsementAuth: auth } = options
  const ek = () => loadEk(tpm, options.ek, password(auth))
  const held: AsyncDisposable[] = []
  const keep = async <T extends AsyncDisposable>(making: Promise<T>): Promise<T> => {
    const made = await making
    held.push(made)
    return made
  }
  const session = once(async () => {
    await using key = await ek()
    return await keep(startHmacSession(tpm, key, random)) // before the key goes
  })
  const primary = async (template: Buffer) => {
    const authorization = (await session()).use({ auth })
    return keep(createPrimary(tpm, handle.ENDORSEMENT, template, authorization))
  }
  // an owner's password is not asked for: what is made in its name is worth nothing elsewhere
  const storage = async (hierarchy: number) => {
    const owner = hierarchy === handle.ENDORSEMENT ? { auth } : {}
    return createPrimary(tpm, hierarchy, storageTemplate, (await session()).use(owner))
  }
  const fromFile = async (file: KeyFile): Promise<BoundKey> => {
    await using parent = await storage(file.parent)
    const key = await keep(load(tpm, parent, file, (await session()).use()))
    return { ...key, parent: parent.public.bytes }
  }
  const close = async () => {
    for (const one of held.splice(0)) await one[Symbol.asyncDispose]()
    await tpm.close()
  }
  const ak = once(() => primary(akTemplates[options.ak]))
  const { keyFile } = options
  const bound = once<BoundKey>(() => (keyFile ? fromFile(keyFile) : primary(boundKeyTemplate)))
  const createKey = async () => {
    await using parent = await storage(handle.OWNER)
    return { parent: handle.OWNER, ...(await create(tpm, parent, boundKeyTemplate, (await session()).use())) }
  }
  return { ek, session, ak, bound, create: createKey, close }
}

/** What is made when first asked for, and the same afterwards. A failure is kept too: a TPM in trouble is not asked again. */
function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined
  return () => {
    made ??= make()
    return made
  }
}
