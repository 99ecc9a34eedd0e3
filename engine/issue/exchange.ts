import { accept, reject } from '#attestation'
import type { Grants } from '../consent/index.ts'
import { BrokerError } from '../errors.ts'
import { type Fields, parseFields } from '../fields.ts'
import type { Integration, Root, RootCredential } from '../integrations/port.ts'
import { type Credential, type Grant, type Issuer, issuers } from '../issuers/index.ts'
import type { IssuerPorts, Keep } from '../issuers/issuer.ts'
import type { Upstreams } from '../issuers/outbound.ts'
import { ExchangeRefusal, Unwanted, unwanted } from '../issuers/refusal.ts'
import { signJwt, signRs256 } from '../jwt.ts'
import type { Mount } from '../mount_table.ts'
import type { Verdict } from '../refusals.ts'
import type { Deliver } from '../sealing/deliver.ts'
import { Secret } from '../secret.ts'
import { rootKey } from '../stores/vault_kv.ts'
import type { Cipher } from '../vault/cipher.ts'
import type { Vault } from '../vault/client.ts'
import { isInvalidAccessor, type OwnVault } from '../vault/own.ts'
import type { RsaSigner } from '../vault/rsa_signer.ts'
import type { Signer } from '../vault/transit.ts'
import type { World } from '../world.ts'
import type { Asker } from './asker.ts'
import type { Keys } from './keys.ts'
import type { Leased } from './leased.ts'
import { within } from './life.ts'
import { permissionsOf, textsOf } from './permissions.ts'
import { livesLonger, openReuse } from './reuse.ts'
import { CEILING_SECONDS, type RoleRecord } from './settings.ts'

/** An integration and its root credential, after whoever asked was found to be allowed to use it. */
export type Source = {
  readonly integration: Integration
  readonly root: Root
  /** what was seen while the root credential was read */
  readonly notes?: { readonly stale: boolean; readonly warning: string | undefined }
}

/** What a role asks for, with everything that was looked up for it. */
export type Prepared = {
  readonly mount: Mount
  readonly record: RoleRecord
  readonly issuer: Issuer
  readonly source: Source | undefined
  readonly permissions: readonly string[]
  /** no renewal goes beyond */
  readonly maxTtlSeconds: number
}

export type Exchanged = { readonly credential: Credential; readonly reused: boolean }

/** Turns decisions into credentials: the one place where issuers are called, and where what came back is compared with what was asked. */
export type Exchange = {
  /** Nothing secret is made and nobody outside is asked.
   *  @param leftSeconds how long what follows may live at all */
  readonly prepare: (
    mount: Mount,
    record: RoleRecord,
    action: string,
    source: Source | undefined,
    leftSeconds?: number,
  ) => Verdict<Prepared>
  /** `decidedBy`: whatever else the decision came from, such as the version of the policies: part of what two requests have to share to share a credential. */
  readonly issue: (prepared: Prepared, grant: Grant, asker: Asker, decidedBy: object) => Promise<Verdict<Exchanged>>
  /** What would be asked of the provider, or why nothing would be; nothing secret is in it. */
  readonly plan: (prepared: Prepared, grant: Grant) => Promise<Verdict<object>>
  /** Ends what `issuer` issued through this integration. */
  readonly revoke: (
    mount: Mount,
    issuer: string,
    handle: Readonly<Record<string, string>>,
    source: Source | undefined,
  ) => Promise<void>
}

export type ExchangeParts = {
  readonly world: World
  readonly keys: Keys
  readonly signer: Signer
  readonly rsaSigner: RsaSigner
  readonly cipher: Cipher
  readonly vault: Vault
  readonly own: Pick<OwnVault, 'write'>
  readonly upstreams: Upstreams
  readonly leased: Leased
  readonly grants: Pick<Grants, 'rootOf'>
  readonly deliver: Deliver
}

export function openExchange(parts: ExchangeParts): Exchange {
  const { world } = parts
  const reuse = openReuse(world.now)
  const made = async (prepared: Prepared, grant: Grant, caller: Secret, keep?: Keep): Promise<Credential> => {
    const ports = await portsOf(parts, prepared, caller, keep)
    const credential = await prepared.issuer.issue(grant, ports)
    await assertNotWider(prepared, grant, credential, ports)
    return credential
  }
  const fresh = (prepared: Prepared, grant: Grant, asker: Asker, decidedBy: object): Promise<Credential> => {
    const make = (keep?: Keep) => made(prepared, grant, asker.token, keep)
    const { mount, issuer, record, source, maxTtlSeconds } = prepared
    if (!isRevocable(prepared) && !issuer.engine) return make()
    const from = { mount, issuer: record.issuer, integration: source?.integration.name ?? '', maxTtlSeconds }
    return parts.leased({ ...from, engine: issuer.engine, grant, asker, make }, decisionOf(prepared, grant, decidedBy))
  }
  const issued = (prepared: Prepared, grant: Grant, asker: Asker, decidedBy: object): Promise<Verdict<Exchanged>> =>
    answered(async () => {
      // what can be revoked belongs to one lease
      if (!prepared.issuer.cacheable || !prepared.record.reuse || isRevocable(prepared))
        return { credential: await fresh(prepared, grant, asker, decidedBy), reused: false }
      const version = (await prepared.source?.root.read())?.version
      const decision = { ...decisionOf(prepared, grant, decidedBy), version }
      return reuse.of(decision, grant.ttlSeconds, () => fresh(prepared, grant, asker, decidedBy))
    })
  return {
    prepare,
    plan: (prepared, grant) =>
      answered(async () => {
        const { plan } = prepared.issuer
        return plan ? plan(grant, { ...fieldsOf(prepared), issuerUrl: await parts.keys.issuerUrl(prepared.mount) }) : {}
      }),
    issue: async (prepared, grant, asker, decidedBy) => {
      const { mount, record } = prepared
      if (record.delivery !== 'sealed') return issued(prepared, grant, asker, decidedBy)
      let reused = false
      const sealed = await parts.deliver.seal(mount.id, record.destinations, grant, async inner => {
        const made = await issued(prepared, inner, asker, decidedBy)
        if (!made.ok) return made
        reused = made.value.reused
        return accept(made.value.credential)
      })
      return sealed.ok ? accept({ credential: sealed.value, reused }) : sealed
    },
    revoke: async (mount, name, handle, source) => {
      const issuer = issuers[name]
      if (!issuer?.revoke) throw new BrokerError('unavailable', `the issuer ${name} cannot revoke what it issued`)
      // a role that says nothing, not even what every one has to say
      const record = parseFields(optional(issuer.role), {}).values as RoleRecord
      await issuer.revoke(
        handle,
        await portsOf(parts, { mount, record, issuer, source, permissions: [], maxTtlSeconds: 0 }, new Secret('')),
      )
    },
  }
}

/** A refusal of an exchange is an answer. */
async function answered<T>(work: () => Promise<T>): Promise<Verdict<T>> {
  try {
    return accept(await work())
  } catch (thrown) {
    const error = thrown instanceof Unwanted ? thrown.why : thrown
    if (error instanceof ExchangeRefusal) return reject(error.code, error.detail)
    throw error
  }
}

function isRevocable({ issuer, source }: Prepared): boolean {
  return issuer.revoke !== undefined && issuer.revocable?.(source?.integration.settings ?? {}) !== false
}

function prepare(
  mount: Mount,
  record: RoleRecord,
  action: string,
  source: Source | undefined,
  leftSeconds = Number.POSITIVE_INFINITY,
): Verdict<Prepared> {
  const issuer = issuers[record.issuer]
  if (!issuer) throw new BrokerError('unavailable', `the role asks for the issuer ${record.issuer}, which is not there`)
  if (issuer.integration && source?.integration.type !== record.issuer)
    return reject('INTEGRATION', `the role names no integration of type ${record.issuer}`)
  if (issuer.delivery === 'sealed' && record.delivery !== 'sealed')
    return reject('DELIVERY', `what ${record.issuer} issues is only ever delivered sealed`)
  const permissions = permissionsOf(issuer, record, action, ceilingOf(source))
  const maxTtlSeconds = Math.min(within(mount, record).max_ttl, Math.floor(leftSeconds))
  return permissions.ok ? accept({ mount, record, issuer, source, permissions: permissions.value, maxTtlSeconds }) : permissions
}

/** `ceiling` of the integration; one that is empty is none. */
function ceilingOf(source: Source | undefined): readonly string[] | undefined {
  const ceiling = textsOf(source?.integration.settings['ceiling'] ?? [])
  return ceiling.length > 0 ? ceiling : undefined
}

function fieldsOf({ record, issuer, source }: Prepared) {
  const own = Object.keys(issuer.role).map(name => [name, (record as Readonly<Record<string, unknown>>)[name]])
  return {
    role: Object.fromEntries(own),
    settings: source?.integration.settings ?? {},
    integration: source?.integration.name ?? '',
  }
}

const optional = (fields: Fields): Fields => Object.fromEntries(Object.entries(fields).filter(([, { required }]) => !required))

async function portsOf(
  parts: ExchangeParts,
  prepared: Prepared,
  caller: Secret,
  keep: Keep = async () => {},
): Promise<IssuerPorts> {
  const { keys, signer, rsaSigner, cipher, upstreams } = parts
  const { mount } = prepared
  const plain = fieldsOf(prepared)
  const made = prepared.source?.integration.made ?? ''
  const ca = plain.settings['ca']
  return {
    ...plain,
    root: rootOf(prepared.source, parts.world),
    consented: grant => hiding(parts.grants.rootOf(mount.id, plain.integration, grant), parts.world.log),
    issuerUrl: await keys.issuerUrl(mount),
    key: () => keys.read(mount),
    sign: (key, typ, claims) => signJwt(signer, key, key.latest, typ, claims),
    signRs256: (key, claims) => signRs256(rsaSigner, key, claims),
    http: upstreams.of(
      `${mount.id}/${plain.integration}`,
      plain.integration,
      typeof ca === 'string' ? ca : '',
      prepared.issuer.throttled,
    ),
    seal: async secret => {
      await cipher.create(rootKey(mount.id))
      return [await cipher.seal(rootKey(mount.id), secret, mount.id), made].join(' ').trim()
    },
    unseal: async sealed => {
      const [text = '', whose = made] = sealed.split(' ')
      // another integration of this name would send it to another provider
      if (whose !== made)
        throw new BrokerError('unavailable', `it was issued through another integration ${plain.integration} than there is now`)
      return cipher.open(rootKey(mount.id), text, mount.id)
    },
    vault: parts.vault,
    caller,
    keep,
    endToken: accessor => endToken(parts, accessor),
    now: parts.world.now,
  }
}

async function endToken({ own }: Pick<ExchangeParts, 'own'>, accessor: string): Promise<void> {
  try {
    await own.write('auth/token/revoke-accessor', { accessor })
  } catch (error) {
    if (!isInvalidAccessor(error)) throw error
  }
}

/** The root credential. */
function rootOf(source: Source | undefined, { log }: World): Root {
  const absent = async () => {
    throw new BrokerError('unavailable', 'the role names no integration')
  }
  if (!source) return { read: absent, fresh: absent, replace: absent, alone: absent }
  return hiding(source.root, log)
}

/** What is read from it is in no log line from then on. */
function hiding(root: Root, log: World['log']): Root {
  const hidden = (read: RootCredential): RootCredential => {
    for (const secret of Object.values(read.fields)) log.hide(secret)
    return read
  }
  return {
    read: async () => hidden(await root.read()),
    fresh: async () => hidden(await root.fresh()),
    replace: root.replace,
    alone: work => root.alone((read, hold) => work(hidden(read), hold)),
  }
}

/** Everything that the credential depends on but who asks at which moment. */
function decisionOf({ mount, record, source, permissions }: Prepared, grant: Grant, decidedBy: object): object {
  const { txn: _txn, jti: _jti, issuedAt: _at, ttlSeconds: _ttl, ...asked } = grant
  const integration = source?.integration ?? null
  return { mount: mount.id, record: within(mount, record), integration, permissions, asked, decidedBy }
}

/** No provider's answer goes out that is empty, that has ended, or that lives longer than was asked without our being able to end it. */
async function assertNotWider(
  { record, issuer }: Prepared,
  grant: Grant,
  credential: Credential,
  ports: IssuerPorts,
): Promise<void> {
  const fault = faultOf(record, grant, credential, ports.now())
  if (!fault) return
  const why = new ExchangeRefusal(fault.code, `${ports.integration || record.issuer}: ${fault.detail}`)
  const { handle } = credential
  if (!handle) throw why
  await unwanted(
    why,
    async () => issuer.revoke?.(handle, ports),
    async () => handle,
  )
}

type Fault = { readonly code: 'EXCHANGE_UNUSABLE' | 'EXCHANGE_WIDER'; readonly detail: string }

function faultOf(record: RoleRecord, grant: Grant, credential: Credential, now: number): Fault | undefined {
  const { fields, expiresAt, handle, selfContained } = credential
  const empty = Object.entries(fields).find(([, value]) => value instanceof Secret && !isText(value.reveal()))
  if (empty) return { code: 'EXCHANGE_UNUSABLE', detail: `${empty[0]} is empty` }
  if (!Number.isSafeInteger(expiresAt)) return { code: 'EXCHANGE_UNUSABLE', detail: 'it has no end of life' }
  if (expiresAt <= now / 1000) return { code: 'EXCHANGE_UNUSABLE', detail: 'it has ended already' }
  const ended = (handle !== undefined && !selfContained) || record.delivery === 'sealed'
  const longest = Math.max(grant.ttlSeconds, Math.min(record.provider_ttl, CEILING_SECONDS))
  if (ended || !livesLonger(credential, longest, now)) return undefined
  return { code: 'EXCHANGE_WIDER', detail: `it lives ${Math.ceil(expiresAt - now / 1000)} s, asked were ${grant.ttlSeconds} s` }
}

const isText = (value: unknown) => typeof value === 'string' && value !== ''
