import { BrokerError } from '../errors.ts'
import { Secret } from '../secret.ts'
import type { World } from '../world.ts'
import { type Vault, VaultRefusal } from './client.ts'

/** The broker's own identity at Vault: an AppRole token, renewed in time, replaced when it is lost. */
export type Session = {
  /** @throws BrokerError unavailable while there is no token */
  readonly token: () => Secret
  /** Vault refused something to this token of ours: logs in again now, once for all who noticed. Never throws.
   *  @returns whether there is another token by now, so that it is worth asking again */
  readonly replaced: (refused: Secret) => Promise<boolean>
  /** It was refused to the new token as well. What is missing is a right, then, and logging in again brings none: not for a while. */
  readonly lacks: () => void
  readonly ready: () => boolean
  readonly stop: () => Promise<void>
}

export type AppRole = { readonly mount: string; readonly roleId: string; readonly secretId: () => Promise<Secret> }

const RETRY_MIN_MS = 500
const RETRY_MAX_MS = 15_000
/** So long nobody logs in again because something was refused, when a new token was of no help. */
const LACKING_MS = 2_000
/** Timers of Node hold 24.8 days; a token without an end is looked at once a day. */
const LONGEST_WAIT_MS = 86_400_000

/** Logs in by AppRole; renews at two thirds of the token's life, logs in anew when that fails, and keeps trying with growing pauses.
 *  @throws BrokerError unavailable when the first login fails */
export async function openSession(vault: Vault, approle: AppRole, world: World): Promise<Session> {
  let token: Secret | undefined
  let lackingSince = Number.NEGATIVE_INFINITY
  let life = 0
  let timer: NodeJS.Timeout | undefined
  let flight: Promise<void> | undefined
  let stopped = false

  const schedule = (ms: number, next: () => Promise<void>) => {
    clearTimeout(timer)
    if (!stopped) timer = setTimeout(() => void next(), Math.min(ms, LONGEST_WAIT_MS)).unref()
  }
  const hold = (auth: Auth) => {
    token = new Secret(auth.client_token)
    world.log.hide(token)
    const wait = auth.lease_duration === 0 ? LONGEST_WAIT_MS : (auth.lease_duration * 1000 * 2) / 3
    schedule(wait, () => renew(auth.renewable))
  }
  const login = async () => {
    const secretId = await approle.secretId()
    world.log.hide(secretId)
    const reply = await vault.write(`auth/${approle.mount}/login`, { role_id: approle.roleId, secret_id: secretId.reveal() })
    const auth = authOf(reply?.auth)
    hold(auth)
    life = auth.lease_duration
  }
  const renew = async (renewable: boolean) => {
    if (!renewable) return again(RETRY_MIN_MS)
    try {
      const reply = await vault.write('auth/token/renew-self', {}, { as: current() })
      const auth = authOf(reply?.auth)
      hold(auth)
      // close to its maximum a renewal gives less and less: a new login gives a whole life
      if (auth.lease_duration < life / 2) await again(RETRY_MIN_MS, true)
    } catch (error) {
      world.log.warn({ error, ...saidBy(error) }, 'the broker token could not be renewed: logging in again')
      await again(RETRY_MIN_MS)
    }
  }
  const again = async (pause: number, isAlive = false): Promise<void> => {
    flight ??= login().finally(() => {
      flight = undefined
    })
    try {
      await flight
    } catch (error) {
      // a refusal means that the token we hold is worth nothing either, unless it has just been renewed; an outage does not
      if (error instanceof VaultRefusal && !isAlive) token = undefined
      world.log.error({ error, ...saidBy(error) }, 'the broker could not log in to vault')
      schedule(pause, () => again(Math.min(pause * 2, RETRY_MAX_MS), isAlive))
    }
  }
  const current = (): Secret => {
    if (!token) throw new BrokerError('unavailable', 'the broker is not logged in to vault')
    return token
  }
  // of several servers the first that was asked may be out of service, and would be at each start
  await login()
    .catch((error: unknown) => (error instanceof VaultRefusal ? Promise.reject(error) : login()))
    .catch(notLetIn(approle.mount))
  return {
    token: current,
    replaced: async refused => {
      const isCurrent = () => refused.reveal() === token?.reveal()
      if (isCurrent() && world.monotonic() - lackingSince >= LACKING_MS) await again(RETRY_MIN_MS)
      else await flight?.catch(() => undefined)
      return token !== undefined && !isCurrent()
    },
    lacks: () => {
      lackingSince = world.monotonic()
    },
    ready: () => token !== undefined,
    stop: async () => {
      stopped = true
      clearTimeout(timer)
      await flight?.catch(() => undefined)
      if (token) await vault.write('auth/token/revoke-self', {}, { as: token }).catch(() => undefined)
      token = undefined
    },
  }
}

/** Whether it is the secret id, the address that it is bound to, or a lockout, Vault's words tell. */
const saidBy = (error: unknown) => (error instanceof VaultRefusal ? { status: error.status, errors: error.errors } : {})

/** Whoever starts it reads this: which of the three is wrong, Vault does not say. */
const notLetIn = (mount: string) => (error: unknown) => {
  if (!(error instanceof VaultRefusal)) throw error
  const said = [error.status, ...error.errors].join(': ')
  throw new BrokerError(
    'unavailable',
    `vault does not let this service in by AppRole (${said}): wanted the mount (auth/${mount}), the role id and the secret id that \`assay setup\` made, and a role that is not locked out`,
    { cause: error },
  )
}

type Auth = { client_token: string; lease_duration: number; renewable: boolean }

function authOf(auth: Readonly<Record<string, unknown>> | null | undefined): Auth {
  const { client_token, lease_duration, renewable } = (auth ?? {}) as Partial<Auth>
  if (typeof client_token !== 'string' || client_token === '' || typeof lease_duration !== 'number') {
    throw new BrokerError('unavailable', 'vault answered a login without a token')
  }
  return { client_token, lease_duration, renewable: renewable === true }
}
