import { expect } from 'vitest'
import { Secret } from '../../engine/secret.ts'
import { type Authority, openAuthority } from '../../engine/vault/authority.ts'
import { type Vault as Client, openVault } from '../../engine/vault/client.ts'
import { openOwn } from '../../engine/vault/own.ts'
import { PLACES, provision } from '../../engine/vault/provision.ts'
import { openSession, type Session } from '../../engine/vault/session.ts'
import { openStore, type Store } from '../../engine/vault/store.ts'
import { openSigner, type Signer } from '../../engine/vault/transit.ts'
import { type TestWorld, testWorld } from '../fakes/world.ts'
import { type Reply, startVault, type Vault } from '../harness/vault.ts'

/** What the engine has of a real server, with the rights that it has in production. Disposing of it ends the server. */
export type EngineVault = AsyncDisposable & {
  readonly vault: Vault
  readonly client: Client
  readonly world: TestWorld
  readonly session: Session
  readonly signer: Signer
  readonly authority: Authority
  /** state as another replica sees it: it has read nothing yet */
  readonly newStore: () => Store
  /** One request with the root token. @throws Error when it is refused */
  readonly done: (method: string, path: string, body?: object) => Promise<Reply['body']>
}

export const unavailable = expect.objectContaining({ name: 'BrokerError', code: 'unavailable' })
export const denied = expect.objectContaining({ name: 'BrokerError', code: 'permission_denied' })

export async function openEngineVault(): Promise<EngineVault> {
  await using opening = new AsyncDisposableStack()
  const vault = opening.use(await startVault())
  const server = { address: vault.address, deadlineMs: 60_000 }
  const client = openVault(server)
  opening.defer(() => client.close())
  const { roleId, secretId } = await provision(server, PLACES, new Secret(vault.rootToken))
  const world = testWorld()
  const session = await openSession(client, { mount: PLACES.approle, roleId, secretId: async () => secretId }, world)
  opening.defer(() => session.stop())
  const own = openOwn(client, session, world.log)
  const parts = opening.move()
  return {
    vault,
    client,
    world,
    session,
    signer: openSigner(own, PLACES.transit, world.monotonic),
    authority: openAuthority(client, own, world.monotonic),
    newStore: () => openStore(own, PLACES.kv, world.monotonic),
    done: async (method, path, body) => {
      const { status, body: reply } = await vault.api(method, path, body)
      if (status >= 300) throw new Error(`${method} ${path}: ${status} ${JSON.stringify(reply)}`)
      return reply
    },
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
}
