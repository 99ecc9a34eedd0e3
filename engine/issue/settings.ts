import { type Collection, openCollection } from '../collection.ts'
import { BrokerError } from '../errors.ts'
import { duration, flag, list, map, parseFields, required, text, type Values } from '../fields.ts'
import { TRANSIT_KEY } from '../issuers/common.ts'
import { issuerRoleFields, issuers } from '../issuers/index.ts'
import type { Mount } from '../mount_table.ts'
import { checkPolicy, sentenceOf } from '../policy/index.ts'
import { rulesOf } from '../sealing/deliver.ts'
import { destinationsIn } from '../sealing/destinations.ts'
import type { RsaSigner } from '../vault/rsa_signer.ts'
import type { Store } from '../vault/store.ts'
import { checkExchangeRole } from './exchange_role.ts'

/** No credential lives longer than this, whatever is configured. */
export const CEILING_SECONDS = 3600
export const DEFAULT_SECONDS = 900

/** What an operator configures on a `broker` mount. */
export const configFields = {
  issuer: text(
    'URL of this mount as relying parties reach it, without a slash at the end; `iss` of what is issued. The address of this service when empty.',
    {
      fallback: '',
    },
  ),
  rsa_keys: list(
    'RSA keys in transit whose public halves are in the JWKS, for providers that verify RS256 alone (`signing_key` of an integration).',
    { form: TRANSIT_KEY },
  ),
  actions: list('Actions that policies may name. A policy that names another is refused when it is written.'),
}

export const policyFields = {
  policy: required(text('Cedar policies: which Agent may do which Action with which Plugin.', { max: 65_536 })),
}

export const roleFields = {
  issuer: text('What is issued.', { fallback: 'jwt', choices: Object.keys(issuers) }),
  plugins: required(list('Plugins that the role serves.')),
  actions: required(list('Actions that the role serves.')),
  scopes: list('Ceiling: a request may ask for these and nothing else. No scope at all when empty.'),
  audiences: required(list('Audiences that the role issues for; the first when a request names none.')),
  ttl: duration('Life of a credential when the request names none; 0 is the default of the mount, 15 minutes unless tuned.', {
    fallback: 0,
  }),
  max_ttl: duration('Longest life that a request may ask for, at most an hour.', { fallback: CEILING_SECONDS }),
  attestation: text('`login`: the quote at login counts. `request`: every request brings a quote of its own.', {
    fallback: 'login',
    choices: ['login', 'request'],
  }),
  bind_key: text(
    'Whether what is issued is bound to a key of the machine (`cnf`): any, or one that its TPM certified as its own.',
    {
      fallback: 'required',
      choices: ['required', 'optional', 'certified'],
    },
  ),
  max_attestation_age: duration('How old the quote may be that the request stands on. Without limit when 0.', { fallback: 0 }),
  max_work: duration(
    'How long credentials may follow each other for one session of a task, or for one login where no session is named. Without limit when 0.',
    { fallback: 0 },
  ),
  heartbeat: duration(
    'How long the agent may be silent in its work: who neither asks nor beats within it gets nothing more, and its leases end. None is wanted when 0.',
    { fallback: 0 },
  ),
  task: text('`required`: only for a task, by name, that an orchestrator signed or an operator bound the agent to.', {
    fallback: 'optional',
    choices: ['optional', 'required'],
  }),
  login_roles: list(
    'Login roles that may ask: `builder` of whatever auth mount, `auth/tpm-quote/builder` of this one. Any when empty.',
  ),
  integration: text('Where the credential comes from, for issuers that ask a provider.', { fallback: '' }),
  permissions: map('What each action may do at the provider, in the words of the provider: a JSON object of lists by action.'),
  delivery: text('`direct`: the credential itself. `sealed`: a token that the proxy alone can open.', {
    fallback: 'direct',
    choices: ['direct', 'sealed'],
  }),
  destinations: destinationsIn(
    'Where sealed tokens may go: `GET,POST https://api.example.com/items/{id}/**`, methods and path may be left out.',
  ),
  provider_ttl: duration(
    'Life that is put up with, at most an hour, where the provider cannot be asked for less and what it gives cannot be revoked.',
    { fallback: 0 },
  ),
  reuse: flag('Whether the same decision for the same machine may be answered with the same credential while it is young.', {
    fallback: false,
  }),
}
export type RoleRecord = Values<typeof roleFields>

export type IssueSettings = {
  readonly config: Collection<typeof configFields>
  readonly policy: Collection<typeof policyFields>
  readonly role: Collection<typeof roleFields>
}

/** `config` is a collection of one record with this name. */
export const CONFIG = 'config'
export type IssueConfig = Values<typeof configFields>

/** A mount that was never configured is as the fields say. */
export async function configOf({ config }: Pick<IssueSettings, 'config'>, mount: Mount): Promise<IssueConfig> {
  return (await config.get(mount.id, CONFIG)) ?? parseFields(configFields, {}).values
}

/** @param rsaSigner of a key that cannot be published nothing would be: it is looked for before it is written */
export function openIssueSettings(store: Store, rsaSigner: Pick<RsaSigner, 'versions'>): IssueSettings {
  const config = openCollection(store, CONFIG, configFields, {
    check: async record => {
      checkConfig(record)
      for (const key of record.rsa_keys) await rsaSigner.versions(key)
    },
  })
  const policy = openCollection(store, 'policy', policyFields, {
    check: async (record, mountId, name) =>
      checkPolicyText(name, record.policy, (await config.get(mountId, CONFIG))?.actions ?? []),
  })
  const role = openCollection(
    store,
    'role',
    { ...issuerRoleFields, ...roleFields },
    {
      check: async (record, mountId) => checkRole(record, (await config.get(mountId, CONFIG))?.actions ?? []),
    },
  )
  return { config, policy, role }
}

function checkConfig(record: IssueConfig): void {
  if (record.issuer === '') return
  const url = URL.canParse(record.issuer) ? new URL(record.issuer) : undefined
  const plain =
    url && ['http:', 'https:'].includes(url.protocol) && url.search === '' && url.hash === '' && !record.issuer.endsWith('/')
  if (!plain)
    throw new BrokerError('bad_request', 'issuer: wanted an http or https URL without query and without a slash at the end')
}

function checkPolicyText(name: string, policy: string, actions: readonly string[]): void {
  if (actions.length === 0)
    throw new BrokerError('bad_request', 'write the actions into config first: policies are checked against them')
  const checked = checkPolicy(name, policy, actions)
  if (checked.ok) return
  throw new BrokerError('bad_request', `policy: ${checked.errors.map(sentenceOf).join('\n')}`)
}

function checkRole(record: RoleRecord, known: readonly string[]): void {
  const stray = record.actions.findIndex(action => !known.includes(action))
  if (stray >= 0)
    throw new BrokerError('bad_request', `actions: the one at place ${stray + 1} is not among the actions in config`)
  for (const name of ['plugins', 'actions', 'audiences'] as const) {
    if (record[name].length === 0) throw new BrokerError('bad_request', `${name}: wanted at least one`)
  }
  const spaced = record.scopes.find(scope => /[\s"\\]/.test(scope))
  if (spaced !== undefined)
    throw new BrokerError('bad_request', 'scopes: wanted scope tokens without space, quote and backslash (RFC 6749, 3.3)')
  if (record.max_ttl < Math.max(1, record.ttl))
    throw new BrokerError('bad_request', `ttl: wanted at most max_ttl, which is ${record.max_ttl} seconds, and that at least one`)
  if (record.max_ttl > CEILING_SECONDS) throw new BrokerError('bad_request', `max_ttl: wanted at most ${CEILING_SECONDS} seconds`)
  checkExchangeRole(record)
  checkDelivery(record)
}

function checkDelivery({ delivery, destinations }: RoleRecord): void {
  if (delivery === 'sealed' && destinations.length === 0)
    throw new BrokerError('bad_request', 'destinations: wanted at least one, as delivery is sealed')
  if (delivery !== 'sealed' && destinations.length > 0)
    throw new BrokerError('bad_request', 'destinations: only what is delivered sealed is bound to them')
  rulesOf(destinations)
}
