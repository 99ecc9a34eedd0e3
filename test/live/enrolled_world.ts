import type { Attester } from '../../agent/attester.ts'
import type * as flow from '../../agent/flow.ts'
import type { Swtpm } from '../harness/swtpm.ts'
import {
  configureAuth,
  configureBroker,
  enrol,
  MEASURED,
  machine,
  measure,
  openWorld,
  serviceOf,
  type World,
  type WorldOptions,
} from './world.ts'

/** A world with one machine, measured and enrolled, whose TPM is open. */
export type EnrolledWorld = World & {
  readonly tpm: Swtpm
  readonly attester: Attester
  readonly tpmId: string
  readonly enrolled: flow.Enrolled
  readonly service: flow.Service
}

type Options = Pick<WorldOptions, 'args' | 'vaultArgs'> & {
  readonly auth?: Parameters<typeof configureAuth>[3]
  /** without a `broker` mount when false */
  readonly broker?: Parameters<typeof configureBroker>[1] | false
}

export async function openEnrolledWorld({ auth, broker, ...options }: Options = {}): Promise<EnrolledWorld> {
  await using opening = new AsyncDisposableStack()
  const world = opening.use(await openWorld({ ...options, tpms: [{}] }))
  const tpm = world.tpms[0] as Swtpm
  await measure(tpm, MEASURED, 'good firmware')
  const attester = opening.adopt(await machine(tpm), opened => opened.close())
  await configureAuth(world, tpm, attester, auth)
  if (broker !== false) await configureBroker(world, broker)
  const service = serviceOf(world.door.address)
  const enrolled = await enrol(service, tpm, attester)
  const parts = opening.move()
  return { ...world, tpm, attester, tpmId: enrolled.tpm_id, enrolled, service, [Symbol.asyncDispose]: () => parts.disposeAsync() }
}
