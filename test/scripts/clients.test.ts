import { expect, test } from 'vitest'
import { judge, outcomesOf } from '../../scripts/clients/judgement.ts'

// What scripts/test-clients makes of two reports of hvac's tests, in the form in which pytest writes them.

const PLACE = 'tests.integration_tests.api.test_some.TestSome'
const passed = (name: string) => `<testcase classname="${PLACE}" name="${name}" time="0.1" />`
const failed = (name: string) => `<testcase classname="${PLACE}" name="${name}"><failure message="no">at 1</failure></testcase>`
const broken = (name: string) => `<testcase classname="${PLACE}" name="${name}"><error message="no">at 1</error></testcase>`
const skipped = (name: string) => `<testcase classname="${PLACE}" name="${name}"><skipped message="not here" /></testcase>`
const report = (...cases: readonly string[]) => outcomesOf(`<testsuites><testsuite>${cases.join('')}</testsuite></testsuites>`)
const named = (name: string) => `api.test_some.TestSome.${name}`
const known = { differs: { [named('listed')]: 'for a reason' }, floor: 2 }

const straight = report(passed('one'), passed('listed'), failed('never'), broken('broken'), skipped('skipped'))

test('a report is read: what passed, failed, could not be run, and was skipped', () => {
  expect(Object.fromEntries(straight)).toEqual({
    [named('one')]: 'passed',
    [named('listed')]: 'passed',
    [named('never')]: 'failed',
    [named('broken')]: 'failed',
    [named('skipped')]: 'skipped',
  })
})

test('what passes straight passes through the front door, but for what is listed with a reason', () => {
  const through = report(passed('one'), failed('listed'), failed('never'), skipped('skipped'))
  expect(judge({ straight, through }, known)).toEqual({
    ok: true,
    lines: ['5 tests: 2 pass straight, 1 of them through the front door', `  differs  ${named('listed')}: for a reason`],
  })
})

test.each([
  ['one fails that is not listed', report(failed('one'), failed('listed')), `  differs  ${named('one')}: NOT KNOWN`],
  ['one is skipped', report(skipped('one'), failed('listed')), `  differs  ${named('one')}: NOT KNOWN`],
  ['one was not run', report(failed('listed')), `  differs  ${named('one')}: NOT KNOWN`],
  ['what is listed passes', report(passed('one'), passed('listed')), `  listed, but passes: ${named('listed')}`],
])('it is not well when %s', (_, through, line) => {
  const { ok, lines } = judge({ straight, through }, known)
  expect(ok).toBe(false)
  expect(lines).toContain(line)
})

test('nor when fewer pass straight than in a good run, whatever the front door does', () => {
  const through = report(passed('one'), failed('listed'))
  const { ok, lines } = judge({ straight, through }, { ...known, floor: 3 })
  expect(ok).toBe(false)
  expect(lines.at(-1)).toMatch(/^ {2}wanted 3 that pass straight/)
  expect(judge({ straight: report(), through: report() }, { differs: {}, floor: 1 }).ok).toBe(false)
})
