import { accept, reject } from '#attestation'
import { BrokerError } from '../errors.ts'
import { optional, parseFields } from '../fields.ts'
import { type Credential, type Grant, issuers } from '../issuers/index.ts'
import type { Keep } from '../issuers/issuer.ts'
import { ExchangeRefusal, Unwanted } from '../issuers/refusal.ts'
import type { Mount } from '../mount_table.ts'
import type { Verdict } from '../refusals.ts'
import type { Deliver } from '../sealing/deliver.ts'
import { Secret } from '../secret.ts'
import type { Asker } from './asker.ts'
import { type Lent, portsOf } from './issuer_ports.ts'
import type { Leased } from './leased.ts'
import { within } from './life.ts'
import { assertNotWider } from './not_wider.ts'
import { fieldsOf, isRevocable, type Prepared, prepare, type Source } from './prepared.ts'
import { openReuse } from './reuse.ts'
import type { RoleRecord } from './settings.ts'

export type Exchanged = { readonly credential: Credential; readonly reused: boolean }

/** Turns decisions into credentials: the one place where issuers are called, and where what came back is compared with what was asked. */
export type Exchange = {
  readonly prepare: typeof prepare
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

export type ExchangeParts = Lent & { readonly leased: Leased; readonly deliver: Deliver }

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
    const order = { ...from, engine: issuer.engine, heartbeat: record.heartbeat > 0, grant, asker, make }
    return parts.leased(order, decisionOf(prepared, grant, decidedBy))
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

/** Everything that the credential depends on but who asks at which moment. */
function decisionOf({ mount, record, source, permissions }: Prepared, grant: Grant, decidedBy: object): object {
  const { txn: _txn, jti: _jti, issuedAt: _at, ttlSeconds: _ttl, ...asked } = grant
  const integration = source?.integration ?? null
  return { mount: mount.id, record: within(mount, record), integration, permissions, asked, decidedBy }
}
