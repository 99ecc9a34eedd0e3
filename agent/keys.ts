import { handle } from '#attestation'
import { loadEk } from './endorsement.ts'
import type { AkKind, EkKind } from './kinds.ts'
import { createPrimary, type LoadedKey, type SaltedSession, startHmacSession } from './tpm/commands.ts'
import { password } from './tpm/password.ts'
import { akTemplates, boundKeyTemplate } from './tpm/templates.ts'
import type { Tpm } from './tpm/tpm.ts'

export type KeyOptions = {
  readonly ek: EkKind
  readonly ak: AkKind
  /** authorisation value of the endorsement hierarchy, empty when it has none */
  readonly endorsementAuth: Uint8Array
  readonly random: (size: number) => Buffer
}

/** Keys and the session, each made when first wanted and kept until the attester closes. A TPM may have room for three keys only, so the EK goes at once. */
export type Keys = {
  ek(): Promise<LoadedKey>
  session(): Promise<SaltedSession>
  ak(): Promise<LoadedKey>
  bound(): Promise<LoadedKey>
  close(): Promise<void>
}

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
  const close = async () => {
    for (const one of held.splice(0)) await one[Symbol.asyncDispose]()
    await tpm.close()
  }
  const ak = once(() => primary(akTemplates[options.ak]))
  return { ek, session, ak, bound: once(() => primary(boundKeyTemplate)), close }
}

/** What is made when first asked for, and the same afterwards. A failure is kept too: a TPM in trouble is not asked again. */
function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined
  return () => {
    made ??= make()
    return made
  }
}
