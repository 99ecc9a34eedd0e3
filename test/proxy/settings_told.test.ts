import { readFile } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { schema as frontDoor } from '../../engine/config.ts'
import { schema as proxy } from '../../proxy/config.ts'
import { connectors } from '../../proxy/connectors/index.ts'

// The pages for operators tell of every setting, with its default and what it takes, and of none that is not there.

type Schema = {
  properties?: Record<string, Schema>
  required?: string[]
  default?: unknown
  minimum?: number
  maximum?: number
  enum?: string[]
  type?: string
}
type Row = readonly [setting: string, fallback: string, takes: string | undefined]

/** What a setting takes, where its form says so: else a page finds a word for it. */
function takes({ minimum, maximum, enum: choices, type }: Schema): string | undefined {
  if (choices) return choices.map(one => `\`${one}\``).join(', ')
  if (type === 'boolean') return '`true`, `false`'
  return minimum === undefined || maximum === undefined ? undefined : `${minimum} to ${maximum}`
}

const isNothing = (value: unknown) => value === undefined || (Array.isArray(value) && value.length === 0)
const shown = (value: unknown) => (Array.isArray(value) ? `[${value.join(', ')}]` : String(value))

function fallback(value: unknown, needed: boolean): string {
  if (needed) return '*needed*'
  return isNothing(value) ? 'none' : `\`${shown(value)}\``
}

function rowsOf(schema: Schema, at: readonly string[] = [], needed = true): readonly Row[] {
  if (!schema.properties) return [[at.join('.'), fallback(schema.default, needed), takes(schema)]]
  return Object.entries(schema.properties).flatMap(([name, one]) =>
    rowsOf(one, [...at, name], schema.required?.includes(name) ?? false),
  )
}

const rowsIn = (schema: z.ZodType) => rowsOf(z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as Schema)

async function told(page: string, what: string): Promise<readonly string[][]> {
  const text = await readFile(new URL(`../../docs/${page}.md`, import.meta.url), 'utf8')
  const table = text.split(`<!-- settings: ${what} -->\n`)[1]?.split('<!-- end of settings -->')[0] ?? ''
  return table
    .split('\n')
    .filter(line => line.startsWith('| `'))
    .map(line => line.split(' | ').map(cell => cell.replace(/^\| /, '').trim()))
}

const LONG = '[the usual ones](#routes-that-issue-tokens)'

describe.each([
  ['configuration', 'front door', frontDoor],
  ['configuration', 'proxy', proxy],
  ['proxy', 'http', connectors.http.schema],
  ['postgres-and-ssh', 'postgres', connectors.postgres.schema],
  ['postgres-and-ssh', 'ssh', connectors.ssh.schema],
] as const)('docs/%s.md, %s', (page, what, schema) => {
  const rows = rowsIn(schema).filter(([name]) => name !== 'kind')

  test('has every setting and its default, in order, and no other', async () => {
    const cells = (await told(page, what)).map(([name = '', value]) => [name.replaceAll('`', ''), value])
    expect(cells).toEqual(rows.map(([name, value]) => [name, name === 'token_routes' ? LONG : value]))
  })

  test('has what each takes', async () => {
    const cells = await told(page, what)
    for (const [at, [name, , wanted]] of rows.entries()) if (wanted) expect(cells[at]?.[2], name).toBe(wanted)
  })
})
