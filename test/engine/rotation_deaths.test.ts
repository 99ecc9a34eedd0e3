import { expect, test } from 'vitest'
import { configure, dataOf, openTestBroker, type TestBroker } from '../fakes/broker.ts'
import { type Arrived, type Said, startJsonServer } from '../fakes/json_server.ts'
import { startFakeVault } from '../fakes/vault.ts'
import { testWorld } from '../fakes/world.ts'

// A rotation whose process dies at any step: what it was to change elsewhere, before it does or after it did and before it learns of it. IAM keeps two keys
// of a user at most, so one that is left behind would end all rotations.

const never = new Promise<never>(() => {})
type When = 'before' | 'after'

/** IAM and STS with the keys of one user; their clock is some seconds behind. */
function openIam(now: () => number) {
  const keys = new Map([['AKIA000000000000K0', { secret: 'canary0canary0canary0', madeAt: 0 }]])
  let made = 0
  const said = (text: string): Said => ({ status: 200, text: `<Response>${text}</Response>` })
  const refused = (code: string): Said => ({ status: 400, text: `<Error><Code>${code}</Code></Error>` })
  const create = (): Said => {
    if (keys.size > 1) return refused('LimitExceeded')
    const [id, secret] = [`AKIA000000000000K${++made}`, `canary${made}canary${made}canary${made}`]
    keys.set(id, { secret, madeAt: now() - 3_000 })
    return said(`<AccessKeyId>${id}</AccessKeyId><SecretAccessKey>${secret}</SecretAccessKey>`)
  }
  const member = ([id, { madeAt }]: readonly [string, { readonly madeAt: number }]) =>
    `<member><AccessKeyId>${id}</AccessKeyId><CreateDate>${new Date(madeAt).toISOString()}</CreateDate></member>`
  const answer = ({ headers, body }: Arrived): Said => {
    const form = new URLSearchParams(body)
    if (!keys.has(/Credential=(\w+)\//.exec(headers.authorization ?? '')?.[1] ?? '')) return refused('InvalidClientTokenId')
    if (form.get('Action') === 'CreateAccessKey') return create()
    if (form.get('Action') === 'GetCallerIdentity') return said('<Arn>arn:aws:iam::123456789012:user/broker</Arn>')
    if (form.get('Action') === 'ListAccessKeys') return said([...keys].map(member).join(''))
    return keys.delete(form.get('AccessKeyId') ?? '') ? said('') : refused('NoSuchEntity')
  }
  return { keys, answer }
}

/** Processes that follow each other, at one Vault and one IAM. */
async function openWorld() {
  await using opening = new AsyncDisposableStack()
  const processes: TestBroker[] = []
  // those that died hang on what is closed before them
  opening.defer(async () => void (await Promise.all(processes.map(one => one[Symbol.asyncDispose]()))))
  const world = testWorld()
  const vault = opening.use(await startFakeVault())
  const iam = openIam(world.now)
  const dead = new Set<string>()
  let death: { readonly step: number; readonly when: When } | undefined
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
      const answered = how === 'before' ? never : iam.answer(arrived)
      return how === 'after' ? never : answered
    }),
  )
  vault.fault = ({ method, token }) => {
    if (dead.has(token)) return 'hang'
    const how = method === 'GET' || method === 'LIST' || token !== live ? undefined : fate()
    if (how === undefined) return undefined
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
  await first.ask('update', 'broker/integration/it', {
    type: 'aws_sts',
    settings: { region: 'eu-central-1', endpoint: server.url, auth: 'access_key' },
    rotation: { iam_url: server.url },
    secrets: { access_key_id: 'AKIA000000000000K0', secret_access_key: 'canary0canary0canary0' },
  })
  const parts = opening.move()
  return {
    world,
    iam,
    start,
    /** A rotation from its order to the end of the key before, by a process that may die in it. @returns how many steps it took */
    rotate: async ({ ask, broker }: TestBroker, at?: typeof death) => {
      ;[steps, death, died] = [0, at, Promise.withResolvers()]
      const whole = async () => {
        await ask('update', 'broker/integration/it/rotate')
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

/** The key that is in use, and what IAM has: they are to agree at every time. */
async function inUse({ broker }: TestBroker, { keys }: ReturnType<typeof openIam>) {
  const mount = broker.mounts.find('broker/x')
  const read = await (mount && (await broker.integrations.source(mount, 'it')))?.root.fresh()
  const [id = '', secret] = ['access_key_id', 'secret_access_key'].map(name => read?.fields[name]?.reveal())
  expect({ id, secret }).toEqual({ id, secret: keys.get(id)?.secret })
  return id
}

const stateOf = async ({ ask }: TestBroker) => dataOf(await ask('read', 'broker/integration/it/rotate'))['state']

test.each(['before', 'after'] as const)('%s it takes effect: the key in use works, and no other stays', async when => {
  await using at = await openWorld()
  const tend = async (process: TestBroker) => {
    at.world.pass(61_000)
    await process.broker.integrations.upkeep.round()
    return inUse(process, at.iam)
  }
  let process = await at.start()
  const all = await at.rotate(process)
  expect(all).toBeGreaterThan(12)
  for (let step = 1; step <= all; step++) {
    await at.rotate(process, { step, when })
    process = await at.start()
    await inUse(process, at.iam)
    await tend(process)
    const id = await tend(process)
    expect({ step, keys: [...at.iam.keys.keys()] }).toEqual({ step, keys: [id] })
    expect({ step, state: await stateOf(process) }).toEqual({ step, state: 'done' })
  }
})
