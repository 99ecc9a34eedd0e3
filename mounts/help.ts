import type { Field, Fields, Mount } from '#engine'
import { type OpenApi, openapiOf } from './openapi.ts'
import type { Path } from './table.ts'

type Help = { help: string; see_also: readonly string[]; openapi: OpenApi }

/** What `path-help` prints for a path, and the OpenAPI fragment beside it, read off the row. */
export function helpOf(row: Path, type: Mount['type']): Help {
  const title = `Request:        ${row.pattern}\nMatching Route: ${row.pattern}`
  const text = `${title}\n\n${row.help.synopsis}\n\n${parameters(row.fields)}## OPERATIONS\n\n${operations(row)}\n\n## DESCRIPTION\n\n${row.help.description}\n`
  return { help: text, see_also: [], openapi: openapiOf([row], { type, prefix: '/' }) }
}

/** What `path-help` prints for a mount: its paths, each with its synopsis. */
export function mountHelp(title: string, rows: readonly Path[], type: Mount['type']): Help {
  const lines = rows.map(row => `    ${row.pattern}\n        ${row.help.synopsis}`)
  return {
    help: `## DESCRIPTION\n\n${title}\n\n## PATHS\n\n${lines.join('\n\n')}\n`,
    see_also: [],
    openapi: openapiOf(rows, { type, prefix: '/' }),
  }
}

function parameters(fields: Fields): string {
  const lines = Object.entries(fields).map(
    ([name, one]) => `    ${name} (${one.kind}${one.required ? ', required' : ''})\n        ${described(one)}`,
  )
  return lines.length === 0 ? '' : `## PARAMETERS\n\n${lines.join('\n\n')}\n\n`
}

/** What it may be, unless the words say so already, and what it is where nothing is said. */
function described(field: Field<unknown>): string {
  const { description, choices = [], kind } = field
  const isTold = choices.every(choice => description.includes(`\`${choice}\``))
  const initially = initiallyOf(field)
  return `${description}${isTold ? '' : ` ${kind === 'list' ? 'Any' : 'One'} of ${choices.join(', ')}.`}${initially === '' ? '' : ` Default: ${initially}.`}`
}

/** Nothing, none and no are not worth a word. */
function initiallyOf({ fallback, kind }: Field<unknown>): string {
  if (Array.isArray(fallback)) return fallback.join(', ')
  if (typeof fallback === 'number') return fallback === 0 ? '' : `${fallback}${kind === 'duration' ? ' s' : ''}`
  return typeof fallback === 'string' || fallback === true ? `${fallback}` : ''
}

function operations(row: Path): string {
  return Object.entries(row.operations)
    .map(([name, one]) => `    ${name}\n        ${one?.summary}`)
    .join('\n\n')
}
