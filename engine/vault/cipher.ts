import { BrokerError } from '../errors.ts'
import { Secret } from '../secret.ts'
import { VaultRefusal } from './client.ts'
import type { OwnVault } from './own.ts'

/** Encrypts what has to be kept under a key that never leaves Vault's transit engine (AES-256-GCM), bound to the place where it is kept. */
export type Cipher = {
  /** makes the key if it is not there; asked of Vault once, and again after the key did not serve */
  readonly create: (key: string) => Promise<void>
  readonly seal: (key: string, text: Secret, place: string) => Promise<string>
  /** @throws BrokerError unavailable when it was not sealed for this place, or its key version is not accepted any more */
  readonly open: (key: string, sealed: string, place: string) => Promise<Secret>
}

export function openCipher(vault: OwnVault, mount: string): Cipher {
  const made = new Set<string>()
  const ask = async (verb: 'encrypt' | 'decrypt', key: string, body: object, place: string): Promise<string> => {
    const bound = { ...body, associated_data: Buffer.from(place).toString('base64') }
    const reply = await vault.write(`${mount}/${verb}/${key}`, bound).catch((error: unknown) => {
      made.delete(key)
      return refused(error)
    })
    const value = reply?.data?.[verb === 'encrypt' ? 'ciphertext' : 'plaintext']
    if (typeof value !== 'string' || value === '')
      throw new BrokerError('unavailable', `transit answered without a result to ${verb}`)
    return value
  }
  return {
    create: async key => {
      if (made.has(key)) return
      await vault.write(`${mount}/keys/${key}`, { type: 'aes256-gcm96' })
      made.add(key)
    },
    seal: (key, text, place) => ask('encrypt', key, { plaintext: Buffer.from(text.reveal()).toString('base64') }, place),
    open: async (key, ciphertext, place) =>
      new Secret(Buffer.from(await ask('decrypt', key, { ciphertext }, place), 'base64').toString('utf8')),
  }
}

function refused(error: unknown): never {
  if (error instanceof VaultRefusal)
    throw new BrokerError('unavailable', `transit refused with status ${error.status}`, { cause: error })
  throw error
}
