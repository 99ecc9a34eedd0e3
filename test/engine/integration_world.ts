import { AUDIENCE, configure, dataOf, enrol, logIn, openTestBroker, type TestBroker } from '../fakes/broker.ts'
import { type JsonServer, startJsonServer } from '../fakes/json_server.ts'
import { fakeMachine } from '../fakes/machine.ts'

export const CANARY = 'canary-of-the-client-secret'
export const machine = fakeMachine({ label: 'worker' })

type Answer = ReturnType<TestBroker['ask']>

/** A broker whose role `deploy` names the integration `ci`, which a test writes; the provider that it leads to; a machine that asks. */
export type IntegrationWorld = AsyncDisposable & {
  readonly broker: TestBroker
  readonly provider: JsonServer
  /** of the machine; its entity is `worker` */
  readonly token: string
  /** A token of this entity, logged in as the other was. */
  readonly agentToken: (entity: string, like: string) => string
  /** the integration that is written where nothing else is said */
  readonly record: () => { readonly type: string; readonly settings: object; readonly secrets: object }
  readonly write: (more?: object, as?: string, name?: string) => Answer
  readonly read: (as?: string, name?: string) => Promise<Record<string, string>>
  readonly creds: (data?: object, as?: string) => Answer
  /** the token that was issued */
  readonly issued: (data?: object, as?: string) => Promise<string | undefined>
}

export async function openIntegrationWorld(): Promise<IntegrationWorld> {
  await using opening = new AsyncDisposableStack()
  const provider = opening.use(
    await startJsonServer(() => ({
      status: 200,
      body: { access_token: 'upstream', token_type: 'Bearer', expires_in: 300, scope: 'apps:read' },
    })),
  )
  const broker = opening.use(await openTestBroker())
  await configure(broker, { role: { issuer: 'oauth2', integration: 'ci', provider_ttl: '15m' } })
  await enrol(broker, machine)
  const agentToken = (entity: string, like: string) => {
    const { meta, path } = broker.vault.state.tokens.get(like) ?? {}
    const known = { ...(meta ? { meta } : {}), ...(path ? { path } : {}) }
    return broker.vault.token({ ...known, entity, allow: () => ['read', 'update', 'list', 'delete'] })
  }
  const token = agentToken('worker', await logIn(broker, machine))
  const by = (as: string | undefined) => (as === undefined ? {} : { token: as })
  const record = () => ({
    type: 'oauth2',
    settings: { token_url: `${provider.url}/token`, grant: 'client_credentials', client_id: 'broker' },
    secrets: { client_secret: CANARY },
  })
  const asked = { plugin: 'kubernetes', scope: 'apps:read', audience: AUDIENCE }
  const creds: IntegrationWorld['creds'] = (data = {}, as = token) =>
    broker.ask('update', 'broker/creds/deploy', { ...asked, ...data }, { token: as })
  const parts = opening.move()
  return {
    broker,
    provider,
    token,
    agentToken,
    record,
    write: (more = {}, as, name = 'ci') => broker.ask('update', `broker/integration/${name}`, { ...record(), ...more }, by(as)),
    read: async (as, name = 'ci') => dataOf(await broker.ask('read', `broker/integration/${name}`, {}, by(as))),
    creds,
    issued: async (data, as) => dataOf(await creds(data, as))['token'],
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
}

/** `done`, or what was said against it. */
export const outcome = async (asked: Promise<unknown>): Promise<string> =>
  asked.then(
    () => 'done',
    (error: unknown) => (error instanceof Error ? error.message.replace(/[0-9a-f-]{36}/, 'ID') : 'unknown'),
  )

export const warningsOf = (answer: Awaited<Answer>) =>
  'reply' in answer && answer.reply && 'warnings' in answer.reply ? answer.reply.warnings : []
