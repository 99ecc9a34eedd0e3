import { BrokerError } from '../errors.ts'
import { absent } from '../vault/client.ts'
import type { OwnVault } from '../vault/own.ts'

/** Transit keys of sealing. One signs and no key set serves it, so no relying party takes a sealed token for the real one;
 *  the other encrypts, derived per tenant. */
export const SIGNING_KEY = 'assay-seal-sign'
export const SEALING_KEY = 'assay-seal'

/** How the real token is encrypted: `datakey` under a key that transit wrapped and that is held for minutes, `transit` inside Vault each time. */
export const sealingModes = ['datakey', 'transit'] as const
export type SealingMode = (typeof sealingModes)[number]

export const contextOf = (tenant: string) => Buffer.from(JSON.stringify(['assay tenant', tenant])).toString('base64')

/** `vault:v3:...` -> 3 @throws BrokerError unavailable for any other text */
export function versionOf(ciphertext: unknown): number {
  const [, version] = /^vault:v(\d{1,9}):[A-Za-z0-9+/=]+$/.exec(String(ciphertext)) ?? []
  if (version === undefined) throw new BrokerError('unavailable', 'transit answered without a ciphertext')
  return Number(version)
}

/** The latest version of the sealing key; makes the key when it is not there.
 *  @throws BrokerError unavailable when the key is of another type, not derived, or can be exported */
export async function sealingVersion(vault: OwnVault, transit: string): Promise<number> {
  const path = `${transit}/keys/${SEALING_KEY}`
  const found = await absent(vault.read(path))
  if (!found) await vault.write(path, { type: 'aes256-gcm96', derived: true })
  const data = (found ?? (await vault.read(path)))?.data ?? {}
  const { type, derived, exportable, allow_plaintext_backup, latest_version } = data
  const sound = type === 'aes256-gcm96' && derived === true && exportable === false && allow_plaintext_backup === false
  if (!sound || typeof latest_version !== 'number')
    throw new BrokerError('unavailable', `the transit key ${SEALING_KEY} is not a derived aes256-gcm96 key that stays in Vault`)
  return latest_version
}
