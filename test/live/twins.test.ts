import { afterAll, beforeAll, expect, test } from 'vitest'
import { until } from '../harness/process.ts'
import { startSwtpm } from '../harness/swtpm.ts'
import { type EnrolledWorld, openEnrolledWorld } from './enrolled_world.ts'
import { done, logIn, MEASURED, machine, measure, refusal } from './world.ts'

// A virtual machine that was copied with its TPM: two that are one to whoever asks.

let world: EnrolledWorld
beforeAll(async () => {
  world = await openEnrolledWorld()
})
afterAll(() => world[Symbol.asyncDispose]())

const lives = async (token: string) => (await world.vault.api('POST', 'auth/token/lookup', { token })).status === 200

test('the one that was started last ends what the other had, and neither comes in when the machine is denied', async () => {
  const { service, attester, tpm, tpmId } = world
  const first = await logIn(service, attester)
  await using copy = await startSwtpm({ copyOf: tpm })
  await measure(copy, MEASURED, 'good firmware')
  const twin = await machine(copy)
  try {
    expect(await lives(first)).toBe(true)
    // the state was taken while the first ran: what the copy says of its clock is not certain for some seconds
    const tokens: string[] = []
    await until('its clock to be certain', async () => {
      tokens.push(
        ...(await logIn(service, twin).then(
          token => [token],
          () => [],
        )),
      )
      return tokens.length > 0
    })
    await until('what the first had to end', async () => !(await lives(first)))
    expect(await refusal(world, logIn(service, attester))).toBe('OLD_BOOT')
    await done(world.api('POST', `auth/tpm-quote/tpm/${tpmId}`, { disabled: true }))
    for (const one of [attester, twin]) expect(await refusal(world, logIn(service, one))).toMatch(/DISABLED/)
    await until('what the copy had to end', async () => !(await lives(tokens[0] ?? '')))
  } finally {
    await twin.close()
  }
})
