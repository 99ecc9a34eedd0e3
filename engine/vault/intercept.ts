import { isIP } from 'node:net'
import type { Secret } from '../secret.ts'
import { type Vault, VaultFault, VaultRefusal } from './client.ts'

/** Role of the PKI mount that the proxy asks for certificates. */
export const INTERCEPT_ROLE = 'intercept'

type Body = Readonly<Record<string, string | boolean>>
const LIFE = '87600h'
const ROOT: Body = { common_name: 'Assay proxy', key_type: 'ec', key_bits: '256', ttl: LIFE, max_path_length: '0' }
const ROLE: Body = {
  allow_any_name: true,
  allow_ip_sans: true,
  key_type: 'ec',
  key_bits: '256',
  max_ttl: '24h',
  client_flag: false,
  no_store: true,
  require_cn: false,
}

/** The authority's own certificate says what it is good for: Vault signs nothing else, and clients take nothing else that its key signed.
 *  @see RFC 5280, 4.2.1.10 */
function rootOf(hosts: readonly string[]): Body {
  const addresses = hosts.filter(host => isIP(host) !== 0)
  const names = hosts.filter(host => isIP(host) === 0)
  return {
    ...ROOT,
    // who permits no name permits all: this one is nobody's (RFC 6761, 6.4)
    permitted_dns_domains: names.length > 0 ? names.join(',') : 'invalid',
    ...(addresses.length > 0
      ? { permitted_ip_ranges: addresses.map(address => `${address}/${isIP(address) === 4 ? 32 : 128}`).join(',') }
      : { excluded_ip_ranges: '0.0.0.0/0,::/0' }),
  }
}

/** What an operator writes, in order: path and body. */
export function authorityWrites(pki: string, hosts: readonly string[]): readonly (readonly [string, Body])[] {
  return [
    [`${pki}/root/generate/internal`, rootOf(hosts)],
    [`${pki}/roles/${INTERCEPT_ROLE}`, ROLE],
  ]
}
export const mountCommand = (pki: string) => `vault secrets enable -path=${pki} -max-lease-ttl=${LIFE} pki`

/** Makes the authority for these hosts. One that is there stays when it permits all of them, else a new one takes its place: agents then have to trust that.
 *  @throws VaultRefusal, BrokerError unavailable when Vault does not make it */
export async function makeAuthority(vault: Vault, pki: string, hosts: readonly string[], as: Secret): Promise<void> {
  const mounts = await vault.read('sys/mounts', { as })
  const there = Object.hasOwn(mounts?.data ?? {}, `${pki}/`)
  if (!there) {
    await vault.write(`sys/mounts/${pki}`, { type: 'pki', config: { max_lease_ttl: LIFE } }, { as })
    for (const [path, body] of authorityWrites(pki, hosts)) await vault.write(path, body, { as })
    return
  }
  await vault.write(`${pki}/roles/${INTERCEPT_ROLE}`, ROLE, { as })
  for (const host of hosts) if (!(await permits(vault, pki, host, as))) return replace(vault, pki, hosts, as)
}

/** Vault holds what it signs to the constraints of its issuer, and says so with 400 or 500. That it does not answer says nothing of them. */
async function permits(vault: Vault, pki: string, host: string, as: Secret): Promise<boolean> {
  try {
    const name = isIP(host) === 0 ? { alt_names: host } : { ip_sans: host }
    await vault.write(`${pki}/issue/${INTERCEPT_ROLE}`, { ...name, ttl: '60s' }, { as })
    return true
  } catch (error) {
    if (error instanceof VaultRefusal || (error instanceof VaultFault && error.status === 500)) return false
    throw error
  }
}

async function replace(vault: Vault, pki: string, hosts: readonly string[], as: Secret): Promise<void> {
  const made = await vault.write(`${pki}/root/rotate/internal`, rootOf(hosts), { as })
  await vault.write(`${pki}/root/replace`, { default: String(made?.data?.['issuer_id']) }, { as })
}
