import { afterEach, beforeEach } from 'vitest'
import { configure, dataOf, openTestBroker, type TestBroker } from '../fakes/broker.ts'
import { type Arrived, type JsonServer, type Said, startJsonServer } from '../fakes/json_server.ts'

type Answered = ReturnType<TestBroker['ask']>

/** Of the test that runs: a broker whose integration `it` a test writes, and the provider that it leads to. */
export type RotationWorld = {
  readonly broker: TestBroker
  readonly provider: JsonServer
  /** of the provider; a test says it */
  answer: (arrived: Arrived) => Said | Promise<Said>
  readonly write: (data: object) => Answered
  readonly read: (path: string) => Answered
  readonly rotate: (data?: object) => Promise<Record<string, string>>
  /** fields of the root credential that is there now */
  readonly root: () => Promise<Record<string, string>>
  /** what the audit log has of rotations */
  readonly results: () => Promise<readonly unknown[]>
  readonly upkeep: () => Promise<void>
}

/** Opens one before each test and closes it after. */
export function rotationWorld(): RotationWorld {
  const world = {} as { -readonly [K in keyof RotationWorld]: RotationWorld[K] }
  const ask = (operation: 'read' | 'update', path: string, data: object = {}) => world.broker.ask(operation, path, data)
  beforeEach(async () => {
    world.provider = await startJsonServer(arrived => world.answer(arrived))
    world.broker = await openTestBroker()
    await configure(world.broker)
  })
  afterEach(async () => {
    await world.broker[Symbol.asyncDispose]()
    await world.provider[Symbol.asyncDispose]()
  })
  return Object.assign(world, {
    write: (data: object) => ask('update', 'broker/integration/it', data),
    read: (path: string) => ask('read', path),
    rotate: async (data: object = {}) => dataOf(await ask('update', 'broker/integration/it/rotate', data)),
    root: async () => {
      const { mounts, integrations } = world.broker.broker
      const mount = mounts.find('broker/x')
      const read = await (mount && (await integrations.source(mount, 'it')))?.root.fresh()
      return Object.fromEntries(Object.entries(read?.fields ?? {}).map(([name, one]) => [name, one.reveal()]))
    },
    results: async () =>
      (await world.broker.records()).filter(one => one['operation'] === 'rotate').map(one => one['result'] ?? one['type']),
    upkeep: () => world.broker.broker.integrations.upkeep.round(),
  })
}
