import { expect, test } from 'vitest'
import { calm, type Step, same, wanted } from '../../scripts/clients/terraform_judgement.ts'

// What scripts/test-clients makes of runs of Terraform.

const applied: Step = {
  step: 'apply',
  code: 0,
  changes: ['planned_change vault_mount.one: create'],
  said: [],
  state: { 'vault_mount.one': '{"type":"transit"}' },
}
const planned: Step = { ...applied, step: 'plan again', changes: [] }

test('two runs are the same in all that they did, said and knew', () => {
  expect(
    same(
      'mounts',
      [
        [applied, planned],
        [applied, planned],
      ],
      { resources: 1 },
    ),
  ).toEqual({
    ok: true,
    lines: ['mounts: 2 steps, 2 of them without an error, up to 1 resources'],
  })
})

test.each<[string, Partial<Step>, string]>([
  ['ends otherwise', { code: 1 }, '  apply, only through the front door: ended with 1'],
  ['does nothing', { changes: [] }, '  apply, only straight: planned_change vault_mount.one: create'],
  ['says more', { said: ['vault_mount.one: no'] }, '  apply, only through the front door: vault_mount.one: no'],
  [
    'knows something else',
    { state: { 'vault_mount.one': '{}' } },
    '  apply, only straight: vault_mount.one = {"type":"transit"}',
  ],
])('it is not well when the other one %s', (_, other, line) => {
  const { ok, lines } = same('mounts', [[applied], [{ ...applied, ...other }]])
  expect(ok).toBe(false)
  expect(lines).toContain(line)
})

test('nor when the other one ends earlier, when little was there, or nothing was run', () => {
  expect(same('mounts', [[applied, planned], [applied]]).ok).toBe(false)
  expect(same('mounts', [[applied], [applied]], { resources: 2 })).toEqual({
    ok: false,
    lines: [expect.any(String), '  wanted 2 resources straight'],
  })
  expect(same('mounts', [[], []]).ok).toBe(false)
})

test('what may differ is left out', () => {
  const ours = { ...applied, state: { 'vault_mount.one': '{"type":"broker"}' } }
  expect(same('mounts', [[applied], [ours]], { alike: text => text.replace(/transit|broker/, 'TYPE') }).ok).toBe(true)
})

test('a run is calm when it works and leaves nothing to be done: what was found changed at Vault alone is nothing to be done', () => {
  const drifted = { ...planned, changes: ['resource_drift vault_mount.one: update'] }
  expect(calm('ours', [applied, drifted])).toEqual({ ok: true, lines: ['ours: 2 steps'] })
  const left = calm('ours', [applied, { ...planned, changes: ['planned_change vault_mount.one: replace'] }])
  expect(left).toMatchObject({ ok: false, lines: [expect.any(String), '  plan again: planned_change vault_mount.one: replace'] })
  expect(calm('ours', [{ ...applied, code: 1 }]).ok).toBe(false)
  expect(calm('ours', [{ ...applied, said: ['a warning'] }]).ok).toBe(false)
  expect(calm('ours', []).ok).toBe(false)
})

test('what is wanted is told beside what was found', () => {
  expect(wanted('given', [1, 'b'], [1, 'b'])).toEqual({ ok: true, lines: ['given'] })
  expect(wanted('given', [undefined], ['b'])).toEqual({ ok: false, lines: ['given: no: [null], wanted ["b"]'] })
})
