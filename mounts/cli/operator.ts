import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { InvalidArgumentError } from 'commander'

export const DEFAULT_VAULT = 'http://127.0.0.1:8200'

export async function vaultAt(address: string): Promise<string> {
  const { BrokerError } = await import('#engine')
  if (URL.canParse(address) && /^https?:$/.test(new URL(address).protocol)) return address
  throw new BrokerError('bad_request', 'wanted --vault-addr http://HOST:PORT or https://HOST:PORT')
}

/** As the stock CLI finds it: the environment, else the file where `vault login` and a dev server leave it. */
export async function operatorToken(): Promise<string> {
  const kept = await readFile(join(home(), '.vault-token'), 'utf8').catch(() => '')
  const token = process.env['VAULT_TOKEN'] || kept.trim()
  if (!token)
    throw new InvalidArgumentError(
      'wanted an operator token in VAULT_TOKEN or ~/.vault-token, such as the root token of a dev server',
    )
  return token
}

/** What is sent to Vault is a secret: it goes to nobody else, and says one thing to who reads it. */
export async function refuseUnverified(): Promise<void> {
  const { refuseUnsafe } = await import('#engine')
  refuseUnsafe(process.env, process.execArgv)
}

/** A user of a container may have none. */
export function home(): string {
  try {
    return homedir()
  } catch {
    return '/'
  }
}
