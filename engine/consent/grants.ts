import { createHash } from 'node:crypto'
import { BrokerError } from '../errors.ts'
import { openLocks } from '../integrations/locks.ts'
import type { Root, RootCredential } from '../integrations/port.ts'
import { ExchangeRefusal } from '../issuers/refusal.ts'
import type { Secret } from '../secret.ts'
import { rootKey } from '../stores/vault_kv.ts'
import type { TaskContext } from '../tasks/context.ts'
import type { Cipher } from '../vault/cipher.ts'
import type { Store } from '../vault/store.ts'
import type { World } from '../world.ts'

/** For what a person consented: this machine, through this plugin, this action, at most this scope; and, where it was asked for in a task, tasks of this
 *  organisation and this user. */
export type Purpose = {
  readonly tpmId: string
  readonly plugin: string
  readonly action: string
  readonly scope: readonly string[]
  readonly task: Pick<TaskContext, 'org' | 'user'> | undefined
}

/** A consent that counts, without its refresh token. */
export type ConsentGrant = Purpose & {
  /** who consented, as the provider names them; empty when it does not tell */
  readonly subject: string
  /** milliseconds since the epoch */
  readonly grantedAt: number
  readonly expiresAt: number
}
type Kept = ConsentGrant & { readonly sealed: string }

/** Refresh tokens of people who consented: encrypted in transit, one for each machine, plugin, action, organisation and user. */
export type Grants = {
  readonly put: (mountId: string, integration: string, grant: ConsentGrant, refreshToken: Secret) => Promise<void>
  /** The refresh token as a root credential, replaced when the provider replaces it.
   *  @throws ExchangeRefusal CONSENT_REQUIRED when nobody consented to this, or not any more */
  readonly rootOf: (mountId: string, integration: string, purpose: Purpose) => Root
  /** Undefined when nobody consented to this. */
  readonly of: (mountId: string, integration: string, purpose: Purpose) => Promise<ConsentGrant | undefined>
  readonly list: (mountId: string, integration: string) => Promise<readonly string[]>
  readonly read: (mountId: string, integration: string, id: string) => Promise<ConsentGrant | undefined>
  readonly delete: (mountId: string, integration: string, id: string) => Promise<void>
}

const NO_CONSENT = 'nobody consented to this yet, or it ended: ask at consent/ and let a person decide'

export function openGrants(store: Store, cipher: Cipher, world: World): Grants {
  const locks = openLocks(store, world)
  const folder = (mountId: string, integration: string) => `${mountId}/consented/${integration}/`
  const pathOf = (mountId: string, integration: string, purpose: Purpose) => folder(mountId, integration) + idOf(purpose)
  const live = async (path: string, scope: readonly string[], integration: string) => {
    const kept = await store.fresh<Kept>(path)
    const covers = kept && kept.value.expiresAt > world.now() && scope.every(one => kept.value.scope.includes(one))
    if (!covers) throw new ExchangeRefusal('CONSENT_REQUIRED', `${integration}: ${NO_CONSENT}`)
    return kept
  }
  const rootOf: Grants['rootOf'] = (mountId, integration, purpose) => {
    const path = pathOf(mountId, integration, purpose)
    const read = async (): Promise<RootCredential> => {
      const { value, version } = await live(path, purpose.scope, integration)
      const token = await cipher.open(rootKey(mountId), value.sealed, path)
      return {
        fields: { refresh_token: token },
        version: String(version),
        expiresAt: Math.floor(value.expiresAt / 1000),
        stale: false,
      }
    }
    return {
      read,
      fresh: read,
      replace: async ({ fields }, version) => {
        const { value } = await live(path, purpose.scope, integration)
        const sealed = await cipher.seal(rootKey(mountId), tokenIn(fields), path)
        await store.put(path, { ...value, sealed }, Number(version))
      },
      alone: work => locks.alone(`${mountId}/lock/consented/${idOf(purpose)}`, async hold => work(await read(), hold)),
    }
  }
  const read: Grants['read'] = async (mountId, integration, id) => {
    const kept = await store.fresh<Kept>(folder(mountId, integration) + checked(id))
    if (!kept) return undefined
    const { sealed: _, ...grant } = kept.value
    return grant
  }
  return {
    rootOf,
    of: (mountId, integration, purpose) => read(mountId, integration, idOf(purpose)),
    put: async (mountId, integration, grant, refreshToken) => {
      const path = pathOf(mountId, integration, grant)
      await cipher.create(rootKey(mountId))
      await store.put(path, { ...grant, sealed: await cipher.seal(rootKey(mountId), refreshToken, path) } satisfies Kept)
    },
    list: (mountId, integration) => store.list(folder(mountId, integration)),
    read,
    delete: (mountId, integration, id) => store.delete(folder(mountId, integration) + checked(id)),
  }
}

/** Whoever consents again to the same replaces what was there; what was granted in a task of one organisation or user serves no other. */
function idOf({ tpmId, plugin, action, task }: Purpose): string {
  return createHash('sha256')
    .update(JSON.stringify([tpmId, plugin, action, task?.org ?? '', task?.user ?? '']))
    .digest('hex')
    .slice(0, 32)
}

function checked(id: string): string {
  if (!/^[0-9a-f]{32}$/.test(id))
    throw new BrokerError('bad_request', 'wanted the id of a consent: 32 hex digits, as the list has them')
  return id
}

function tokenIn(fields: RootCredential['fields']): Secret {
  const token = fields['refresh_token']
  if (!token) throw new Error('a consent without refresh token')
  return token
}
