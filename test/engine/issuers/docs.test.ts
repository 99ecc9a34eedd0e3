import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { issuers } from '../../../engine/issuers/index.ts'

test('the table of issuers in the docs is that of the registry', () => {
  const page = readFileSync(join(import.meta.dirname, '../../../docs/issuers.md'), 'utf8')
  const rows = Object.entries(issuers).map(([name, { summary, revoke, cacheable, delivery, integration }]) => {
    const cells = [
      `\`${name}\``,
      summary,
      integration ? 'yes' : '',
      revoke ? 'yes' : '',
      cacheable ? 'yes' : '',
      delivery ?? 'any',
    ]
    return `| ${cells.join(' | ')} |`
  })
  const head = ['| issuer | what it gives | integration | revocable | `reuse` | delivery |', '|---|---|---|---|---|---|']
  expect(/<!-- issuers:start -->\n([\s\S]*)<!-- issuers:end -->/.exec(page)?.[1]).toBe(`${[...head, ...rows].join('\n')}\n`)
})
