import { expect, test } from 'vitest'
import { accept, type BoundRequest, type Clock, qualifyingData } from '#attestation'
import { openAppraiser } from '../../engine/attest/appraise.ts'
import { openMeasurements } from '../../engine/attest/measurements.ts'
import type { Mount } from '../../engine/mount_table.ts'
import { answer, PCRS, pcrValue } from '../attestation/attester.ts'

// A machine that starts anew while the logs of its last boot are still judged.

const mount = { id: 'mount', path: 'auth/tpm-quote/' } as Mount
const nonce = Buffer.alloc(32, 5)
const asked = answer()
const request: BoundRequest = {
  operation: 'login',
  mount: mount.path,
  role: 'r',
  audience: '',
  akName: asked.expected.ak.name,
  keyThumbprint: '',
  plugin: '',
  action: '',
  scope: [],
}
const { evidence } = answer(undefined, { extraData: qualifyingData(nonce, request) })
const record = {
  pcrs: { sha256: { 0: pcrValue(0).toString('hex') } },
  bank: 'sha256',
  replay: [],
  firmware_versions: [],
  databases: {},
  ima: 'off',
  ima_lists: [],
  ima_boot_aggregate: 'unchecked',
  not_before: '',
  not_after: '',
  observe: false,
  disabled: false,
  version: 1,
}
const role = { format: 'tpm2-quote', references: ['good'], tpm_ids: [], bind_key: 'optional', disabled: false }
const clockOf = (resetCount: number): Clock => ({ resetCount, restartCount: 2, firmwareVersion: '2024012500120000', clock: 1n })

/** @param clocks what was accepted last, at each look */
async function judged(...clocks: readonly Clock[]): Promise<string> {
  let looks = 0
  const pcrs = { sha256: Object.fromEntries(PCRS.map(pcr => [pcr, pcrValue(pcr).toString('hex')])) }
  const parts = {
    settings: {
      role: { get: async () => role },
      reference: { get: async () => ({ ...record, pcrs }) },
      config: { get: async () => undefined },
    },
    records: {
      find: async () =>
        accept({ record: { tpm_id: 'x', hierarchy: 'endorsement', ek_public: '' }, key: asked.expected.ak, maker: '' }),
    },
    challenges: { take: () => accept({ nonce, drawnAt: 0 }) },
    clocks: { last: async () => clocks[looks++], advance: async () => {} },
    measurements: openMeasurements({} as never, { keep: async () => {} } as never),
    lifecycle: { standing: async () => ({}), failed: async () => {}, booted: async () => accept(0) },
    world: { now: () => 0 },
  }
  const verdict = await openAppraiser(parts as never).appraise(mount, 'r', request, { challenge: nonce, ...evidence } as never)
  return verdict.ok ? 'OK' : verdict.code
}

test('is what it was when nothing happened meanwhile', async () => {
  expect(await judged(clockOf(7), clockOf(7))).toBe('OK')
  expect(await judged(clockOf(6), clockOf(6))).toBe('OK')
})

test('is of the past when the next boot was accepted meanwhile', async () => {
  expect(await judged(clockOf(7), clockOf(8))).toBe('OLD_BOOT')
  expect(await judged(clockOf(8), clockOf(8))).toBe('OLD_BOOT')
})
