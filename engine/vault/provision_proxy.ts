import type { Secret } from '../secret.ts'
import type { Vault } from './client.ts'
import { authorityWrites, INTERCEPT_ROLE, makeAuthority, mountCommand } from './intercept.ts'
import {
  approleOf,
  enableAppRole,
  hclOf,
  type Identity,
  identityOf,
  PLACES,
  type Places,
  type Rule,
  rolePath,
  settingUp,
} from './provision.ts'
import type { TransportOptions } from './transport.ts'

/** Where in Vault the proxy keeps its things; the rest it shares with the broker. */
export type ProxyPlaces = Pick<Places, 'transit' | 'kv' | 'approle'> & {
  /** PKI mount whose authority signs the certificates of intercepted hosts */
  readonly pki: string
  /** name of the policy and of the AppRole role */
  readonly name: string
}

export const PROXY_PLACES: ProxyPlaces = { ...PLACES, pki: 'assay-proxy-ca', name: 'assay-proxy' }

/** Everything that the proxy may do at Vault: open, and nothing that the broker does. */
const rules = (places: ProxyPlaces): readonly Rule[] => [
  {
    path: `${places.transit}/decrypt/assay-seal`,
    capabilities: ['update'],
    why: 'opening what was sealed, and unwrapping data keys',
  },
  { path: `${places.transit}/keys/assay-seal-sign`, capabilities: ['read'], why: 'public keys of sealed tokens' },
  { path: `${places.kv}/data/sealing/revocations`, capabilities: ['read'], why: 'what is revoked' },
  { path: `${places.kv}/data/proxy/*`, capabilities: ['create', 'read', 'update'], why: 'the key of its own audit log' },
  { path: `${places.pki}/issue/${INTERCEPT_ROLE}`, capabilities: ['update'], why: 'certificates of intercepted hosts' },
  { path: 'auth/token/renew-self', capabilities: ['update'], why: 'the own token' },
  { path: 'auth/token/revoke-self', capabilities: ['update'], why: 'the own token, at shutdown' },
]

/** The policy in Vault's HCL. */
export const proxyPolicyHcl = (places: ProxyPlaces): string => hclOf(rules(places))

/** The commands that an operator runs once, after those of the service; `proxy.hcl` holds `proxyPolicyHcl`.
 *  @param hosts what may be intercepted, names and addresses without ports; there is no authority for none */
export function proxySetupCommands(places: ProxyPlaces, hosts: readonly string[]): readonly string[] {
  const words = (body: Readonly<Record<string, string | boolean>>) =>
    Object.entries(body)
      .map(([name, value]) => `${name}='${value}'`)
      .join(' ')
  const role = rolePath(places)
  return [
    `vault policy write ${places.name} proxy.hcl`,
    ...(hosts.length > 0 ? [mountCommand(places.pki)] : []),
    ...(hosts.length > 0 ? authorityWrites(places.pki, hosts) : []).map(([path, body]) => `vault write ${path} ${words(body)}`),
    `vault write ${role} ${words(approleOf(places))}`,
    `vault read -field=role_id ${role}/role-id`,
    `vault write -f -field=secret_id ${role}/secret-id`,
  ]
}

/** Applies the same list with an operator's token; what is there already stays. */
export function provisionProxy(
  server: TransportOptions,
  places: ProxyPlaces,
  as: Secret,
  hosts: readonly string[],
): Promise<Identity> {
  return settingUp(server, vault => applied(vault, places, as, hosts))
}

async function applied(vault: Vault, places: ProxyPlaces, as: Secret, hosts: readonly string[]): Promise<Identity> {
  const auths = await vault.read('sys/auth', { as })
  if (!Object.hasOwn(auths?.data ?? {}, `${places.approle}/`)) await enableAppRole(vault, places.approle, as)
  await vault.write(`sys/policies/acl/${places.name}`, { policy: proxyPolicyHcl(places) }, { as })
  if (hosts.length > 0) await makeAuthority(vault, places.pki, hosts, as)
  await vault.write(rolePath(places), approleOf(places), { as })
  return identityOf(vault, places, as)
}
