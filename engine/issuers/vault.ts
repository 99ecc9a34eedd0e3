import { decodeJwt } from 'jose'
import { BrokerError } from '../errors.ts'
import { flag, list, map, required, text } from '../fields.ts'
import { Secret } from '../secret.ts'
import { endOfCertificate } from '../ssh/certificate.ts'
import { VaultFault, VaultRefusal, type VaultReply } from '../vault/client.ts'
import { heldBy } from '../vault/presented.ts'
import { type Credential, type Grant, type IssuerPorts, issuer, type Plan } from './issuer.ts'
import { NothingDone } from './outbound.ts'
import { ExchangeRefusal, refused, unusable, unwanted } from './refusal.ts'

const role = {
  vault_path: required(
    text('Path of the engine, such as `database/creds/app` or `ssh/sign/deploy`.', {
      max: 512,
      form: [/^(?!.*\/\.\.?(?:\/|$))[a-z0-9][A-Za-z0-9._/-]*[A-Za-z0-9]$/, 'a path without v1/, .. and .'],
    }),
  ),
  vault_write: flag('Whether the engine is written to (`ssh/sign`, `pki/issue`) rather than read (`database/creds`).', {
    fallback: false,
  }),
  vault_parameters: map('Parameters that every request has; those of an agent cannot change them.'),
  vault_accepts: list('Parameters that an agent may give, such as `public_key`.'),
  vault_ttl: text(
    'Parameter that tells the engine how long to issue for, such as `ttl`. None when empty: then the end of the token ends the lease.',
    { fallback: '', max: 64 },
  ),
  vault_policies: list('Policies of the child token, of those that the token of the agent has; all of them when empty.'),
}

type Ports = IssuerPorts<typeof role>

/** What an engine of Vault issues: under a child of the agent's own token that lives as long as the grant, so that Vault's ACL is the ceiling and the
 *  lease, which is Vault's own, ends with the child, with the agent's token, or by `vault lease revoke`. */
export const vault = issuer({
  summary: 'What an engine of Vault issues (database, ssh, pki, kubernetes, ...), with a lease of Vault’s own.',
  role,
  engine: true,
  check: ({ vault_write, vault_parameters, vault_accepts, vault_ttl }) => {
    const some = Object.keys(vault_parameters).length + vault_accepts.length > 0 || vault_ttl !== ''
    // what bounds a request and never arrives bounds nothing
    if (some && !vault_write)
      throw new BrokerError('bad_request', 'vault_write: wanted with parameters, as an engine that is read gets none')
    const twice = vault_accepts.find(name => Object.hasOwn(vault_parameters, name) || name === vault_ttl)
    if (twice !== undefined) throw new BrokerError('bad_request', 'vault_accepts: wanted no parameter that the role sets itself')
  },
  plan: (grant, ports) => ({
    [ports.role.vault_write ? 'write' : 'read']: ports.role.vault_path,
    parameters: parametersOf(grant, ports),
  }),
  issue: async (grant, ports) => {
    const parameters = parametersOf(grant, ports)
    const { token, accessor } = await childOf(grant, ports)
    const handle = { accessor }
    const ended = (why: unknown) =>
      unwanted(
        why,
        () => ports.endToken(accessor),
        async () => handle,
      )
    // what the engine makes is known before it does: by the token that it hangs under
    await ports.keep(handle).catch(ended)
    try {
      return { ...credentialOf(grant, ports, await asked(ports, token, parameters)), handle }
    } catch (error) {
      // Vault would lease to a token that was ended meanwhile, too: where it may be at it still, the child ends when it cannot be any more
      return await (isOver(error) ? ended(error) : Promise.reject(error))
    }
  },
  revoke: ({ accessor = '' }, ports) => ports.endToken(accessor),
})

const isOver = (error: unknown) => error instanceof ExchangeRefusal || error instanceof NothingDone

function parametersOf(grant: Grant, { role: own }: Pick<Plan<typeof role>, 'role'>): Readonly<Record<string, unknown>> {
  const stray = Object.keys(grant.parameters).find(name => !own.vault_accepts.includes(name))
  if (stray !== undefined) throw new ExchangeRefusal('PARAMETERS', `the role accepts ${own.vault_accepts.join(', ') || 'none'}`)
  const ttl = own.vault_ttl === '' ? {} : { [own.vault_ttl]: `${grant.ttlSeconds}s` }
  return { ...grant.parameters, ...own.vault_parameters, ...ttl }
}

type Child = { readonly token: Secret; readonly accessor: string }

async function childOf(grant: Grant, { vault: client, caller, role: { vault_policies } }: Ports): Promise<Child> {
  const ttl = `${grant.ttlSeconds}s`
  const body = {
    ttl,
    explicit_max_ttl: ttl,
    renewable: false,
    display_name: 'assay',
    meta: { txn: grant.txn, jti: grant.jti },
    ...(vault_policies.length > 0 ? { policies: vault_policies, no_default_policy: true } : {}),
  }
  const reply = await client.write('auth/token/create', body, { as: caller }).catch(told('auth/token/create'))
  const { client_token: token, accessor } = reply?.auth ?? {}
  if (typeof token !== 'string' || token === '' || typeof accessor !== 'string' || accessor === '')
    throw unusable('vault', 'a child token was not made')
  return { token: heldBy(caller, token), accessor }
}

async function asked(
  { vault: client, role: own }: Ports,
  as: Secret,
  parameters: Readonly<Record<string, unknown>>,
): Promise<VaultReply> {
  const call = own.vault_write ? client.write(own.vault_path, parameters, { as }) : client.read(own.vault_path, { as })
  const reply = await call.catch(told(own.vault_path))
  if (!reply?.data) throw unusable(own.vault_path, 'the engine answered without data')
  return reply
}

/** With these Vault itself says that it did nothing, or could not; 502 and 504 are of whoever stands before it, and does not know. */
const UNDONE: readonly number[] = [307, 412, 429, 500, 503]

/** What Vault says of a refusal may repeat parameters: of it only the status goes on. */
const told =
  (path: string) =>
  (error: unknown): never => {
    if (error instanceof VaultRefusal) throw refused(path, `status_${error.status}`)
    if (error instanceof VaultFault && UNDONE.includes(error.status)) throw new NothingDone(error.code, error.message)
    throw error
  }

type Leased = VaultReply & { readonly lease_id?: unknown; readonly lease_duration?: unknown }
type Data = Readonly<Record<string, unknown>>

function credentialOf(grant: Grant, { role: { vault_path: path } }: Ports, reply: Leased): Credential {
  const data = reply.data ?? {}
  const lease = leaseOf(grant, path, reply)
  const end = endOf(data, grant.issuedAt)
  const expiresAt = end ?? (lease && grant.issuedAt + lease.durationSeconds)
  if (expiresAt === undefined) throw unusable(path, 'what the engine gave has neither a lease nor an end')
  const fields = Object.fromEntries(Object.entries(data).flatMap(([name, value]) => shown(name, value)))
  if (Object.keys(fields).length === 0) throw unusable(path, 'what the engine gave is empty')
  const granted = lease ? { lease_duration: lease.durationSeconds } : {}
  return { fields, expiresAt, granted, ...(end === undefined ? {} : { selfContained: true }), ...(lease ? { lease } : {}) }
}

function leaseOf(grant: Grant, path: string, { lease_id: id = '', lease_duration: longest }: Leased): Credential['lease'] {
  if (id === '' || id === null) return undefined
  if (typeof id !== 'string' || !Number.isSafeInteger(longest) || Number(longest) <= 0)
    throw unusable(path, 'the lease that the engine gave has no life')
  // the child ends what was leased to it, whatever the engine would have given: renewing gains nothing
  return { id, durationSeconds: Math.min(Number(longest), grant.ttlSeconds), renewable: false }
}

/** What ends by what it says itself, whatever becomes of its lease, by the field that it is known by; of what cannot be read the end is not a number. */
const ends: Readonly<Record<string, (value: unknown, data: Data, issuedAt: number) => unknown>> = {
  // pki: revocation puts a certificate on a list that whoever verifies it may read
  expiration: value => value,
  // ssh
  signed_key: value => endOfCertificate(String(value)),
  // kubernetes: of a service account that was there before, the lease revokes nothing
  service_account_token: value => endOfJwt(String(value)),
  // aws: STS takes nothing back; what has only one of the two is of an older engine
  session_token: (_, { ttl }, issuedAt) => issuedAt + Number(ttl),
  security_token: (_, { ttl }, issuedAt) => issuedAt + Number(ttl),
}

function endOf(data: Data, issuedAt: number): number | undefined {
  const known = Object.entries(ends).filter(([name]) => (data[name] ?? '') !== '')
  const all = known.map(([name, read]) => read(data[name], data, issuedAt))
  if (all.length === 0) return undefined
  return Math.max(...all.map(end => (typeof end === 'number' ? end : Number.NaN)))
}

function endOfJwt(token: string): unknown {
  try {
    return decodeJwt(token).exp
  } catch {
    return undefined
  }
}

/** Everything that an engine gives counts as secret, lists as JSON text. */
function shown(name: string, value: unknown): readonly [string, Secret | number][] {
  if (value === null || value === undefined || value === '') return []
  if (typeof value === 'number') return [[name, value]]
  return [[name, new Secret(typeof value === 'string' ? value : JSON.stringify(value))]]
}
