import { afterAll, afterEach, beforeAll, vi } from 'vitest'
import { provider } from '../fakes/leased_issuer.ts' // first: it registers an issuer
import { type EnrolledWorld, openEnrolledWorld } from './enrolled_world.ts'
import { type Here, moveClocks, serveHere } from './in_process.ts'
import { type AskOptions, ask, done, logIn, ROLE, serviceOf } from './world.ts'

/** Two replicas in this process, as the issuer of the tests is, an enrolled machine and its token. */
type Live = { world: EnrolledWorld; here: Here; other: Here; token: string; passes: (ms: number) => void }

/** Opened before the tests of the file that calls this and closed after them; between two of them everything is revoked. */
export function leaseWorld({ vaultArgs = async () => [] }: { vaultArgs?: () => Promise<readonly string[]> } = {}) {
  const live = {} as Live
  const root = (method: string, path: string, body?: object) =>
    ask(live.here.address, method, path, { token: live.world.vault.rootToken, ...(body ? { body } : {}) })
  const cli = (args: readonly string[], env = {}) =>
    live.world.vault.cli(args, { env: { VAULT_ADDR: live.here.address, ...env } })
  let asks = 0
  /** A credential of the role, unlike all others by what it asks for. */
  const creds = (options: AskOptions & { at?: Here; role?: string; ttl?: number } = {}) => {
    const { at = live.here, role = 'leased', ttl = 600 - ++asks, ...rest } = options
    const body = { plugin: 'kubernetes', action: 'deploy', scope: 'apps:read', ttl }
    return ask(at.address, 'POST', `broker/creds/${role}`, { token: live.token, body, ...rest })
  }
  /** Also after the clock of this process was moved, or the token revoked. */
  const logInAnew = async () => {
    live.token = await logIn(serviceOf(live.here.address), live.world.attester)
  }

  beforeAll(async () => {
    live.world = await openEnrolledWorld({ vaultArgs: await vaultArgs() })
    live.here = await serveHere(live.world.vault)
    live.other = await serveHere(live.world.vault)
    live.passes = moveClocks()
    await logInAnew()
    await done(root('POST', 'broker/role/leased', { ...ROLE, issuer: 'leased', ttl: '10m', max_ttl: '30m' }))
  })
  afterAll(async () => {
    vi.restoreAllMocks()
    await live.other?.[Symbol.asyncDispose]()
    await live.here?.[Symbol.asyncDispose]()
    await live.world?.[Symbol.asyncDispose]()
  })
  afterEach(async () => {
    provider.up = true
    await root('PUT', 'sys/leases/revoke-prefix/broker', { sync: true })
    provider.reset()
  })
  return { live, root, cli, creds, logInAnew }
}

export const LEASE = /^broker\/creds\/leased\/[0-9A-Za-z]{24}$/
