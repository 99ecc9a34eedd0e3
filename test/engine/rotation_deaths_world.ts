import { configure, openTestBroker, type TestBroker } from '../fakes/broker.ts'
import { type Arrived, type Said, startJsonServer } from '../fakes/json_server.ts'
import { type FakeVault, startFakeVault } from '../fakes/vault.ts'
import { type TestWorld, testWorld } from '../fakes/world.ts'

/** What a process was to change elsewhere: it dies before it does, or after it did and before it learns of it. */
export type When = 'before' | 'after'
type Death = { readonly step: number; readonly when: When }

/** Whose credentials are rotated. Made anew for each world. */
export type Provider = {
  readonly answer: (arrived: Arrived) => Said
  /** what Vault answers beside what the fake one knows */
  readonly vault?: FakeVault['fault']
  /** Writes the integration `it`, and what it needs. */
  readonly write: (ask: TestBroker['ask'], url: string) => Promise<unknown>
  /** what comes with the order */
  readonly order?: object
}

const never = new Promise<never>(() => {})

/** Processes that follow each other, at one Vault and one provider. */
export async function openDeaths<P extends Provider>(providerAt: (world: TestWorld) => P) {
  await using opening = new AsyncDisposableStack()
  const processes: TestBroker[] = []
  // those that died hang on what is closed before them
  opening.defer(async () => void (await Promise.all(processes.map(one => one[Symbol.asyncDispose]()))))
  const world = testWorld()
  const vault = opening.use(await startFakeVault())
  const provider = providerAt(world)
  const dead = new Set<string>()
  let death: Death | undefined
  let [steps, died, live] = [0, Promise.withResolvers<void>(), '']
  /** what becomes of a step of the process that lives */
  const fate = (): When | undefined => {
    steps += 1
    if (steps !== death?.step) return undefined
    dead.add(live)
    died.resolve()
    return death.when
  }
  const server = opening.use(
    await startJsonServer(arrived => {
      const how = fate()
      const answered = how === 'before' ? never : provider.answer(arrived)
      return how === 'after' ? never : answered
    }),
  )
  vault.fault = asked => {
    const { method, token } = asked
    if (dead.has(token)) return 'hang'
    const how = method === 'GET' || method === 'LIST' || token !== live ? undefined : fate()
    if (how === undefined) return provider.vault?.(asked)
    return how === 'before' ? 'hang' : { after: never }
  }
  const start = async (): Promise<TestBroker> => {
    const broker = await openTestBroker({ beside: { vault, world } })
    processes.push(broker)
    live = broker.broker.session.token().reveal()
    return broker
  }
  const first = await start()
  await configure(first)
  await provider.write(first.ask, server.url)
  const parts = opening.move()
  return {
    world,
    provider,
    start,
    /** A rotation from its order to the end of the key before, by a process that may die in it. @returns how many steps it took */
    rotate: async ({ ask, broker }: TestBroker, at?: Death) => {
      ;[steps, death, died] = [0, at, Promise.withResolvers()]
      const whole = async () => {
        await ask('update', 'broker/integration/it/rotate', provider.order)
        world.pass(61_000)
        await broker.integrations.upkeep.round()
      }
      await Promise.race([whole(), died.promise])
      death = undefined
      // that who died keeps nobody out for long is shown where locks are
      for (const path of vault.state.kv.keys()) if (path.endsWith('/lock/it')) vault.state.kv.delete(path)
      return steps
    },
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
}

/** Fields of the root credential that is in use. */
export async function rootOf({ broker }: TestBroker): Promise<Readonly<Record<string, string>>> {
  const mount = broker.mounts.find('broker/x')
  const read = await (mount && (await broker.integrations.source(mount, 'it')))?.root.fresh()
  return Object.fromEntries(Object.entries(read?.fields ?? {}).map(([name, field]) => [name, field.reveal()]))
}
