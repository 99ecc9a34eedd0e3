import { Agent, request } from 'undici'
import { pause } from '../back_off.ts'
import { signJwt } from '../jwt.ts'
import type { Mount } from '../mount_table.ts'
import { SUITES } from '../suites.ts'
import { keySetOf } from '../vault/key_set.ts'
import type { Signer } from '../vault/transit.ts'
import type { World } from '../world.ts'
import { openEgress } from './egress.ts'
import type { Incident, Reason } from './machine.ts'
import { securityEvent } from './security_event.ts'
import { literalOf, type Webhook, type Webhooks } from './webhooks.ts'

/** Pushes security events to webhooks: signed inside transit, at least once, in order for each machine. */
export type Courier = {
  /** One try at every webhook that has not been told, but for those that still wait for an earlier incident. `told`: who is done with it; `left`: who is not. */
  readonly tell: (
    mount: Mount,
    tpmId: string,
    incident: Incident,
    waiting: readonly string[],
  ) => Promise<{ readonly told: readonly string[]; readonly left: readonly string[] }>
  /** RFC 7517: what the events are verified with */
  readonly jwks: (mount: Mount) => Promise<object>
  /** makes the key, where there is none yet */
  readonly open: (mount: Mount) => Promise<void>
  readonly close: (mount: Mount) => Promise<void>
}

export type CourierPorts = {
  readonly world: World
  readonly signer: Signer
  readonly webhooks: Webhooks
  /** networks that may be sent to although they are not public */
  readonly networks: (mount: Mount) => Promise<readonly string[]>
  readonly ownUrl: () => string
  readonly counted: (outcome: 'ok' | 'refused' | 'failed' | 'unreachable' | 'given up') => void
}

const DEADLINE_MS = 5_000
/** For how long a receiver may be down before an event is dropped. */
const PATIENCE_MS = 24 * 3600_000
const FIRST_MS = 1_000
const LONGEST_MS = 300_000

const keyName = (mount: Mount) => `assay-event-${mount.id}`

export function openCourier(ports: CourierPorts): Courier {
  const { world, signer, webhooks } = ports
  const pauses = openPauses(world)

  const one = async (mount: Mount, tpmId: string, incident: Incident, name: string): Promise<boolean> => {
    const hook = await webhooks.get(mount.id, name)
    if (!hook || !wants(hook, incident.reason)) return true
    if (world.now() - incident.at > PATIENCE_MS) {
      ports.counted('given up')
      world.log.warn(
        { webhook: name, tpm: tpmId, incident: incident.id },
        'a webhook was down for too long: it is not told any more',
      )
      return true
    }
    const key = `${mount.id} ${name}`
    if (!pauses.over(key)) return false
    const told = {
      issuer: `${ports.ownUrl()}/v1/${mount.path.slice(0, -1)}`,
      audience: hook.audience || hook.url,
      name,
      now: world.now(),
    }
    const transit = await signer.key(keyName(mount))
    const jwt = await signJwt(signer, transit, transit.latest, 'secevent+jwt', securityEvent(tpmId, incident, told))
    const outcome = await push(hook, jwt, await ports.networks(mount))
    ports.counted(outcome.kind)
    pauses.note(key, outcome.kind === 'ok')
    if (outcome.kind !== 'ok')
      world.log.warn({ webhook: name, outcome: outcome.why }, 'a webhook did not take a security event: trying again')
    return outcome.kind === 'ok'
  }
  return {
    tell: async (mount, tpmId, incident, waiting) => {
      const names = await webhooks.list(mount.id)
      const isDone = async (name: string) =>
        incident.told.includes(name) || (!waiting.includes(name) && (await one(mount, tpmId, incident, name)))
      const done = await Promise.all(names.map(isDone))
      return { told: names.filter((_, at) => done[at]), left: names.filter((_, at) => !done[at]) }
    },
    jwks: async mount => {
      // the key is made with the first webhook
      const key = await signer.key(keyName(mount)).catch(async (error: unknown) => {
        if ((await webhooks.list(mount.id)).length > 0) throw error
      })
      return { keys: keySetOf(key?.versions ?? [], 'ES256') }
    },
    open: mount => signer.create(keyName(mount)),
    close: mount => signer.destroy(keyName(mount)),
  }
}

function wants(hook: Webhook, reason: Reason): boolean {
  return hook.reasons.length === 0 || hook.reasons.includes(reason)
}

type Outcome = { readonly kind: 'ok' | 'refused' | 'failed' | 'unreachable'; readonly why: string }

/** RFC 8935, 2: any answer of success will do, redirects are not followed. */
async function push(hook: Webhook, jwt: string, networks: readonly string[]): Promise<Outcome> {
  const egress = openEgress(networks)
  const literal = literalOf(hook.url)
  if (literal !== undefined && !egress.allows(literal)) return { kind: 'unreachable', why: 'its address is not listed' }
  const dispatcher = new Agent({
    allowH2: false,
    connect: { timeout: DEADLINE_MS, lookup: egress.lookup, ciphers: SUITES, ...(hook.ca ? { ca: hook.ca } : {}) },
  })
  try {
    const headers = { 'content-type': 'application/secevent+jwt', accept: 'application/json' }
    const signal = AbortSignal.timeout(DEADLINE_MS)
    const { statusCode, body } = await request(hook.url, { dispatcher, method: 'POST', headers, body: jwt, signal })
    await body.dump({ limit: 65_536 })
    if (statusCode >= 200 && statusCode < 300) return { kind: 'ok', why: '' }
    return { kind: statusCode < 500 ? 'refused' : 'failed', why: `status ${statusCode}` }
  } catch (error) {
    const { code, name } = error as NodeJS.ErrnoException
    return { kind: 'unreachable', why: code ?? name }
  } finally {
    void dispatcher.destroy()
  }
}

/** When a webhook that failed is tried again. */
function openPauses({ monotonic, random }: World) {
  const kept = new Map<string, { failures: number; until: number }>()
  return {
    over: (key: string) => (kept.get(key)?.until ?? 0) <= monotonic(),
    note: (key: string, ok: boolean) => {
      if (ok) return void kept.delete(key)
      const failures = (kept.get(key)?.failures ?? 0) + 1
      const ms = pause(failures, FIRST_MS, LONGEST_MS, random(1).readUInt8() / 256)
      return void kept.set(key, { failures, until: monotonic() + ms })
    },
  }
}
