import { Secret } from '../secret.ts'
import { absent, type Vault, VaultRefusal } from './client.ts'
import type { TransportOptions } from './transport.ts'

/** Where in Vault the broker keeps its things. */
export type Places = {
  /** transit mount with the signing keys, all named `assay-...` */
  readonly transit: string
  /** KV v2 mount with all durable state */
  readonly kv: string
  readonly approle: string
  /** name of the policy and of the AppRole role */
  readonly name: string
}

export const PLACES: Places = { transit: 'transit', kv: 'assay', approle: 'approle', name: 'assay' }

export type Rule = { readonly path: string; readonly capabilities: readonly string[]; readonly why: string }

/** Everything that the running service may do at Vault. It may neither create tokens nor export a key. */
const rules = (places: Places): readonly Rule[] => [
  { path: `${places.kv}/data/*`, capabilities: ['create', 'read', 'update'], why: 'durable state' },
  { path: `${places.kv}/metadata/*`, capabilities: ['list', 'delete'], why: 'lists and deletion of durable state' },
  {
    path: `${places.transit}/keys/assay-*`,
    capabilities: ['create', 'read', 'update', 'delete'],
    why: 'signing keys: made, read, rotated, destroyed with their mount',
  },
  { path: `${places.transit}/sign/assay-*`, capabilities: ['update'], why: 'signing' },
  { path: `${places.transit}/encrypt/assay-seal`, capabilities: ['update'], why: "sealing; opening is the proxy's alone" },
  {
    path: `${places.transit}/datakey/plaintext/assay-seal`,
    capabilities: ['update'],
    why: 'keys to seal with, held for minutes',
  },
  {
    path: `${places.transit}/encrypt/assay-root-*`,
    capabilities: ['update'],
    why: 'root credentials, which are kept as ciphertext',
  },
  { path: `${places.transit}/decrypt/assay-root-*`, capabilities: ['update'], why: 'root credentials, when one is needed' },
  { path: 'auth/token/lookup', capabilities: ['update'], why: 'what the token of a caller says, without costing it a use' },
  { path: 'sys/capabilities', capabilities: ['update'], why: 'what a token with a limited number of uses may do' },
  { path: 'auth/token/lookup-accessor', capabilities: ['update'], why: 'whether the token of a machine or a lease lives' },
  {
    path: 'auth/token/revoke-accessor',
    capabilities: ['update'],
    why: 'tokens of a machine that rebooted or failed, and those under which engines were asked',
  },
  { path: 'auth/token/renew-self', capabilities: ['update'], why: 'the own token' },
  { path: 'auth/token/revoke-self', capabilities: ['update'], why: 'the own token, at shutdown' },
  { path: 'sys/wrapping/wrap', capabilities: ['update'], why: 'replies of our own that shall be wrapped' },
  { path: 'sys/mounts', capabilities: ['read'], why: 'which paths are taken' },
  { path: 'sys/auth', capabilities: ['read'], why: 'which auth mounts are of type tpm-quote' },
]

/** The policy in Vault's HCL, one stanza a rule. */
export function policyHcl(places: Places): string {
  return hclOf(rules(places))
}

export function hclOf(list: readonly Rule[]): string {
  const stanza = ({ path, capabilities, why }: Rule) =>
    `# ${why}\npath "${path}" {\n  capabilities = [${capabilities.map(one => `"${one}"`).join(', ')}]\n}\n`
  return list.map(stanza).join('\n')
}

/** The commands that an operator runs once; `policy.hcl` holds `policyHcl`. */
export function setupCommands(places: Places): readonly string[] {
  const role = rolePath(places)
  return [
    `vault secrets enable -path=${places.transit} transit`,
    `vault secrets enable -path=${places.kv} -version=2 kv`,
    `vault auth enable -path=${places.approle} approle`,
    `vault auth tune -user-lockout-disable=true ${places.approle}`,
    `vault policy write ${places.name} policy.hcl`,
    `vault write ${role} ${Object.entries(approleOf(places))
      .map(([key, value]) => `${key}=${value}`)
      .join(' ')}`,
    `vault read -field=role_id ${role}/role-id`,
    `vault write -f -field=secret_id ${role}/secret-id`,
  ]
}

type RolePlaces = Pick<Places, 'approle' | 'name'>
export const rolePath = ({ approle, name }: RolePlaces) => `auth/${approle}/role/${name}`

export const approleOf = ({ name }: RolePlaces) => ({
  token_policies: name,
  token_ttl: '1h',
  token_max_ttl: '24h',
  token_no_default_policy: true,
})

export type Identity = { readonly roleId: string; readonly secretId: Secret }

/** Applies the same list with an operator's token; what is there already stays. Returns what the service logs in with.
 *  @throws VaultRefusal when the token may not; BrokerError unavailable */
export function provision(server: TransportOptions, places: Places, as: Secret): Promise<Identity> {
  return settingUp(server, vault => applied(vault, places, as))
}

/** Node-vault is loaded when something is set up, and not before. */
export async function settingUp<T>(server: TransportOptions, work: (vault: Vault) => Promise<T>): Promise<T> {
  const { openSetupVault } = await import('./node_vault.ts')
  const vault = openSetupVault(server)
  try {
    return await work(vault)
  } finally {
    await vault.close()
  }
}

async function applied(vault: Vault, places: Places, as: Secret): Promise<Identity> {
  const [mounts, auths] = await Promise.all([vault.read('sys/mounts', { as }), vault.read('sys/auth', { as })])
  const missing = (table: typeof mounts, path: string) => !Object.hasOwn(table?.data ?? {}, `${path}/`)
  const enable = (path: string, what: object) => vault.write(path, { ...what }, { as }).catch(unlessThere)
  if (missing(mounts, places.transit)) await enable(`sys/mounts/${places.transit}`, { type: 'transit' })
  if (missing(mounts, places.kv)) await enable(`sys/mounts/${places.kv}`, { type: 'kv', options: { version: '2' } })
  if (missing(auths, places.approle)) await enableAppRole(vault, places.approle, as)
  await vault.write(`sys/policies/acl/${places.name}`, { policy: policyHcl(places) }, { as })
  await vault.write(rolePath(places), approleOf(places), { as })
  await usable(vault, places, as)
  return identityOf(vault, places, as)
}

/** Vault locks a role out after a few wrong secret ids, for all who have the right one: a service with an old one would end all others. Nobody guesses a
 *  secret id, so that protects nothing. */
export async function enableAppRole(vault: Vault, path: string, as: Secret): Promise<void> {
  await vault.write(`sys/auth/${path}`, { type: 'approle' }, { as }).catch(unlessThere)
  await vault.write(`sys/auth/${path}/tune`, { user_lockout_config: { lockout_disable: true } }, { as })
}

/** Who sets up several machines does so at the same moment: one of them is first. */
function unlessThere(error: unknown): void {
  if (!(error instanceof VaultRefusal && error.errors.some(one => one.includes('path is already in use')))) throw error
}

export async function identityOf(vault: Vault, places: RolePlaces, as: Secret): Promise<Identity> {
  const role = rolePath(places)
  const [id, secret] = await Promise.all([vault.read(`${role}/role-id`, { as }), vault.write(`${role}/secret-id`, {}, { as })])
  return { roleId: String(id?.data?.['role_id']), secretId: new Secret(String(secret?.data?.['secret_id'])) }
}

const POLL_MS = 20
const POLLS = 250

/** A new KV v2 mount answers 400 until it has upgraded itself: wait until it lists. */
async function usable(vault: Vault, places: Places, as: Secret): Promise<void> {
  for (let poll = 1; ; poll++) {
    const answer = await absent(vault.list(`${places.kv}/metadata/`, { as })).then(
      () => undefined,
      (error: unknown) => error,
    )
    if (answer === undefined) return
    if (poll === POLLS) throw answer
    await new Promise(resolve => setTimeout(resolve, POLL_MS))
  }
}
