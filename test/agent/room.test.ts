import { randomBytes } from 'node:crypto'
import { expect, test } from 'vitest'
import { handle } from '#attestation'
import { openAttester } from '../../agent/attester.ts'
import { createPrimary, startPolicySession } from '../../agent/tpm/commands.ts'
import { withRoom } from '../../agent/tpm/room.ts'
import { boundKeyTemplate } from '../../agent/tpm/templates.ts'
import type { Tpm } from '../../agent/tpm/tpm.ts'
import { type Swtpm, startSwtpm } from '../harness/swtpm.ts'
import { openTpm, world } from './tools.ts'

// A TPM without a resource manager has room for three keys and three sessions, and keeps them when whoever made them is gone.

const makeKey = (tpm: Tpm) => createPrimary(tpm, handle.ENDORSEMENT, boundKeyTemplate)
const times = (count: number) => Array.from({ length: count }, (_, at) => at)

/** What agents leave that are killed. */
async function leave(swtpm: Swtpm, keys: number, sessions: number): Promise<void> {
  await using tpm = await openTpm(swtpm)
  for (const _ of times(keys)) await makeKey(tpm)
  for (const _ of times(sessions)) await startPolicySession(tpm, randomBytes)
}

test.each([
  [3, 3],
  [2, 2],
  [1, 3],
])('an agent finds room where others left %d keys and %d sessions, and keeps what is its own', async (keys, sessions) => {
  await using swtpm = await startSwtpm()
  await leave(swtpm, keys, sessions)
  await using attester = await openAttester({ tpm: swtpm.spec, ...world })
  await attester.certify(Buffer.alloc(32))
  await attester.quote({ sha256: [0] }, Buffer.alloc(32))
  expect(await attester.sign(Buffer.from('x'))).toHaveLength(64)
})

test('what an agent has filled itself stays full', async () => {
  await using swtpm = await startSwtpm()
  await using tpm = withRoom(await openTpm(swtpm))
  for (const _ of times(3)) await makeKey(tpm)
  await expect(makeKey(tpm)).rejects.toMatchObject({ symbol: 'TPM_RC_OBJECT_MEMORY' })
})
