import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import known from '../../scripts/clients/differs.json' with { type: 'json' }
import { mounts } from './differences_mounts.ts'
import { overTls, requests, vaultIsAway } from './differences_requests.ts'
import { openSides, type Sides } from './sides.ts'
import { openTlsSides, type TlsSides } from './sides_tls.ts'

// docs/differences.md says what a client of the front door finds otherwise than at Vault, and why. Its table is this one, and each row
// of it is provoked on both sides: the page cannot say what is not so. UPDATE_DOCS=1 writes the table into the page.

const page = join(import.meta.dirname, '../../docs/differences.md')

let sides: Sides
beforeAll(async () => {
  sides = await openSides()
  await sides.both(async ({ vault, address }) => {
    await vault.api('POST', 'sys/mounts/kv', { type: 'kv' })
    await vault.api('POST', 'kv/a', { b: 'c' })
    const headers = { 'X-Vault-Token': vault.rootToken }
    await fetch(`${address}/v1/sys/mounts/broker`, { method: 'POST', headers, body: '{"type":"broker"}' })
  })
})
afterAll(() => sides[Symbol.asyncDispose]())

const rows = [...requests, ...mounts, vaultIsAway]

describe('what is said to differ over TLS does', () => {
  let tls: TlsSides
  beforeAll(async () => {
    tls = await openTlsSides()
  })
  afterAll(() => tls[Symbol.asyncDispose]())

  test.each(overTls.map(row => [row.what, row] as const))('%s', async (_, { ask, seen }) => {
    expect(await tls.both(side => ask(side, tls))).toEqual(seen)
  })
})

describe('what is said to differ does', () => {
  test.each(rows.map(row => [row.what, row] as const))('%s', async (_, { ask, seen }) => {
    expect(await sides.both(side => ask(side, sides))).toEqual(seen)
  })
})

const MARKS = ['<!-- rows: test/live/differences.test.ts -->\n', '<!-- end of rows -->\n'] as const

test('the page has these rows', async () => {
  const text = await readFile(page, 'utf8')
  const [before = '', rest = ''] = text.split(MARKS[0])
  const [said, after = ''] = rest.split(MARKS[1])
  const lines = [...rows, ...overTls].map(({ what, vault, here, why }) => `| ${what} | ${vault} | ${here} | ${why} |\n`)
  const wanted = `\n| | Vault | front door | why |\n|---|---|---|---|\n${lines.join('')}\n`
  if (process.env['UPDATE_DOCS']) await writeFile(page, `${before}${MARKS[0]}${wanted}${MARKS[1]}${after}`)
  else expect(said).toBe(wanted)
})

test('the page says how many of hvac’s tests differ, and how many have to pass', async () => {
  const names = ['none', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine']
  const count = names[Object.keys(known.differs).length]
  expect(await readFile(page, 'utf8')).toContain(
    `all that pass at Vault, ${known.floor} at least, pass here, but for ${count} that`,
  )
})
