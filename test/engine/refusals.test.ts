import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { refusals as evidenceRefusals, refusalsTable } from '#attestation'
import { BrokerError } from '../../engine/errors.ts'
import { type OwnRefusal, ownRefusals, refusals } from '../../engine/refusals.ts'
import { configure, enrol, openTestBroker, type TestBroker } from '../fakes/broker.ts'
import { consentRefusals, exchangeRefusals, machine, provocations, withRequest } from './provocations.ts'

let broker: TestBroker
beforeEach(async () => {
  broker = await openTestBroker()
  await configure(broker)
  await enrol(broker, machine)
})
afterEach(() => broker[Symbol.asyncDispose]())

async function refused(asked: Promise<unknown>): Promise<string> {
  const error = await asked.then(
    () => new Error('it was not refused'),
    (thrown: unknown) => thrown,
  )
  if (!(error instanceof BrokerError) || error.code !== 'permission_denied') throw error
  return error.message
}

/** The reason as the audit log has it, found by the correlation id that the caller was told. */
async function recorded(message: string): Promise<unknown> {
  const txn = message.slice(-36)
  const mine = (await broker.records()).filter(one => one['txn'] === txn && one['type'] !== 'request')
  const code = mine.at(-1)?.['code']
  expect(mine.map(one => one['type'])).toEqual(late.includes(String(code)) ? ['intent', 'refusal'] : ['refusal'])
  return code
}

/** What is looked at once more after the intent is on record. */
const late = ['STALE_EPOCH', 'NOT_REVOCABLE']

const authorised = ['authorization', 'policy']
const told = (code: OwnRefusal) => authorised.includes(ownRefusals[code].family) && code !== 'ROLE'

describe('each is provoked, is in the audit log with its reason, and nothing was meant to be issued', () => {
  test.each(Object.entries(provocations))('%s', async (code, provoke) => {
    const message = await refused(provoke(broker))
    expect(await recorded(message)).toBe(code)
    const { means, next } = ownRefusals[code as OwnRefusal]
    if (told(code as OwnRefusal)) expect(message).toMatch(new RegExp(`^${code}: ${means} \\(.+\\): ${next}; correlation id`))
    else expect(message).toMatch(/^the evidence was refused; correlation id [0-9a-f-]{36}$/)
  })
})

describe('who is known is told the reason', () => {
  test.each(Object.entries(withRequest))('%s', async (code, provoke) => {
    await broker.ask('update', 'broker/role/deploy', { attestation: 'login' })
    const message = await refused(provoke(broker))
    expect(message).toMatch(new RegExp(`^${code}: `))
    expect(await recorded(message)).toBe(code)
  })
})

describe('the table', () => {
  test('is in the README', () => {
    const readme = readFileSync(join(import.meta.dirname, '../../engine/README.md'), 'utf8')
    expect(/<!-- refusals:start -->\n([\s\S]*)<!-- refusals:end -->/.exec(readme)?.[1]).toBe(refusalsTable(ownRefusals))
  })

  test('has every row once, with those of the evidence', () => {
    expect(Object.keys(refusals)).toEqual([...Object.keys(evidenceRefusals), ...Object.keys(ownRefusals)])
    expect([...Object.keys(provocations), ...exchangeRefusals, ...consentRefusals].sort()).toEqual(
      Object.keys(ownRefusals).sort(),
    )
  })

  test('says what was wrong and what to do in sentences', () => {
    for (const { means, next } of Object.values(ownRefusals))
      for (const sentence of [means, next]) expect(sentence).toMatch(/^[a-z].*[^.]$/)
  })
})
