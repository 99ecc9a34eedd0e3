import type { Fields } from '#engine'
import type { Path } from './table.ts'

/** What `path-help` prints for a path, and the OpenAPI fragment beside it, read off the row. */
export function helpOf(row: Path): { help: string; see_also: readonly string[]; openapi: object } {
  const title = `Request:        ${row.pattern}\nMatching Route: ${row.pattern}`
  const text = `${title}\n\n${row.help.synopsis}\n\n${parameters(row.fields)}## OPERATIONS\n\n${operations(row)}\n\n## DESCRIPTION\n\n${row.help.description}\n`
  return { help: text, see_also: [], openapi: openapiOf(row) }
}

/** What `path-help` prints for a mount: its paths, each with its synopsis. */
export function mountHelp(title: string, rows: readonly Path[]): { help: string; see_also: readonly string[]; openapi: object } {
  const lines = rows.map(row => `    ${row.pattern}\n        ${row.help.synopsis}`)
  return { help: `## DESCRIPTION\n\n${title}\n\n## PATHS\n\n${lines.join('\n\n')}\n`, see_also: [], openapi: {} }
}

function parameters(fields: Fields): string {
  const lines = Object.entries(fields).map(
    ([name, one]) => `    ${name} (${one.kind}${one.required ? ', required' : ''})\n        ${one.description}`,
  )
  return lines.length === 0 ? '' : `## PARAMETERS\n\n${lines.join('\n\n')}\n\n`
}

function operations(row: Path): string {
  return Object.entries(row.operations)
    .map(([name, one]) => `    ${name}\n        ${one?.summary}`)
    .join('\n\n')
}

const METHODS = { read: 'get', list: 'get', update: 'post', delete: 'delete' } as const
const TYPES = {
  string: 'string',
  bytes: 'string',
  duration: 'string',
  integer: 'integer',
  boolean: 'boolean',
  list: 'array',
  map: 'object',
} as const

function openapiOf(row: Path): object {
  const path = `/${row.pattern.replaceAll(/:([a-z_]+)/g, '{$1}')}`
  const methods = Object.entries(row.operations).map(([name, one]) => [
    METHODS[name as keyof typeof METHODS],
    { summary: one?.summary },
  ])
  const properties = Object.fromEntries(Object.entries(row.fields).map(([name, one]) => [name, property(one)]))
  return {
    openapi: '3.0.2',
    paths: { [path]: { description: row.help.synopsis, ...Object.fromEntries(methods) } },
    components: { schemas: { request: { type: 'object', properties } } },
  }
}

function property(field: Fields[string]): object {
  return {
    type: TYPES[field.kind],
    description: field.description,
    ...(field.kind === 'bytes' ? { format: 'byte' } : {}),
    ...(field.choices && field.kind === 'string' ? { enum: field.choices } : {}),
    ...(field.sensitive ? { 'x-vault-displayAttrs': { sensitive: true } } : {}),
  }
}
