import { BrokerError } from '../errors.ts'
import { absent } from './client.ts'
import type { OwnVault } from './own.ts'

/** RSA keys of the operator in transit, named `assay-...`: for providers that verify nothing but RS256. */
export type RsaSigner = {
  /** RSASSA-PKCS1-v1_5 over SHA-256 (RFC 7518, 3.3), by the latest version of the key.
   *  @throws BrokerError unavailable when there is no such key, or one that is not RSA or that can be exported */
  readonly sign: (key: string, input: Buffer) => Promise<Buffer>
}

export function openRsaSigner(vault: OwnVault, mount: string): RsaSigner {
  const proven = new Set<string>()
  return {
    sign: async (key, input) => {
      if (!proven.has(key)) assertUsable(key, (await absent(vault.read(`${mount}/keys/${key}`)))?.data)
      proven.add(key)
      const body = { input: input.toString('base64'), hash_algorithm: 'sha2-256', signature_algorithm: 'pkcs1v15' }
      const signed = (await vault.write(`${mount}/sign/${key}`, body))?.data?.['signature']
      const [scheme, , value = ''] = String(signed).split(':')
      if (scheme !== 'vault' || value === '') throw new BrokerError('unavailable', `transit did not sign with the key ${key}`)
      return Buffer.from(value, 'base64')
    },
  }
}

function assertUsable(key: string, data: Readonly<Record<string, unknown>> | null | undefined): void {
  if (!data) throw new BrokerError('unavailable', `the transit key ${key} does not exist`)
  if (!String(data['type']).startsWith('rsa-')) throw new BrokerError('unavailable', `the transit key ${key} is not an RSA key`)
  if (data['exportable'] !== false || data['allow_plaintext_backup'] !== false)
    throw new BrokerError('unavailable', `the transit key ${key} can be exported: it will not be used`)
}
