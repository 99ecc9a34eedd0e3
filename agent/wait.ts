import { setTimeout } from 'node:timers/promises'
import { laterIfUnavailable } from './exits.ts'
import type { Enrolled } from './flow.ts'
import type { World } from './world.ts'

const BETWEEN_MS = 5000

/**
 * Enrols again and again until an operator has approved of the machine, or so many seconds are over. In between the TPM is free
 * for others; a service that cannot answer for a while is asked again.
 */
export async function approved(
  { err }: Pick<World, 'err'>,
  waitSeconds: number,
  enrol: () => Promise<Enrolled>,
  now = () => performance.now(), // whatever becomes of the wall clock, which machines often set right at their start
): Promise<Enrolled> {
  const until = now() + waitSeconds * 1000
  let enrolled = await enrol()
  if (enrolled.status === 'pending') err(`assay agent: ${enrolled.tpm_id} waits for the approval of an operator\n`)
  while (enrolled.status === 'pending' && now() < until) {
    await setTimeout(Math.min(BETWEEN_MS, until - now()))
    enrolled = (await enrol().catch(laterIfUnavailable)) ?? enrolled
  }
  return enrolled
}
