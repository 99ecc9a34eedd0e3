import { printable } from './printable.ts'

/** Rows as Vault's CLI prints them: two columns, the first as wide as its widest name. */
export function tableOf(rows: readonly (readonly [string, unknown])[]): string {
  const all = [['Key', 'Value'], ['---', '-----'], ...rows.map(([name, value]) => [name, cellOf(value)])] as const
  const width = Math.max(...all.map(([name]) => (name ?? '').length)) + 4
  return all.map(([name, value]) => `${(name ?? '').padEnd(width)}${value}\n`).join('')
}

/** The rows that `vault login` has, read off the reply. */
export function loginRows(auth: object): [string, unknown][] {
  const at = (name: string) => (auth as Record<string, unknown>)[name]
  const metadata = Object.entries(Object(at('metadata')) as object)
  return [
    ['token', at('client_token')],
    ['token_accessor', at('accessor')],
    ['token_duration', durationOf(at('lease_duration'))],
    ['token_renewable', at('renewable')],
    ['token_policies', at('token_policies')],
    ['identity_policies', at('identity_policies')],
    ['policies', at('policies')],
    ...metadata.map(([name, value]): [string, unknown] => [`token_meta_${name}`, value]),
  ]
}

/** Seconds as Go writes a duration without the units that are zero: 1h30m, 45s. */
function durationOf(seconds: unknown): unknown {
  if (typeof seconds !== 'number') return seconds
  if (seconds === 0) return '0s'
  const parts = [
    [Math.floor(seconds / 3600), 'h'],
    [Math.floor((seconds % 3600) / 60), 'm'],
    [seconds % 60, 's'],
  ] as const
  return parts.flatMap(([count, unit]) => (count > 0 ? [`${count}${unit}`] : [])).join('')
}

/** As in a cell of the table. */
function cellOf(value: unknown): string {
  if (value === null || value === undefined) return 'n/a'
  if (Array.isArray(value)) return printable(`[${value.map(one => JSON.stringify(one)).join(' ')}]`)
  return printable(typeof value === 'string' ? value : JSON.stringify(value))
}

/** One value, for a script: a key in PEM has lines. What a terminal would obey is in no credential. */
export function aloneOf(value: unknown): string {
  return typeof value === 'string' ? value.replace(/[^\P{Cc}\n\t]+/gu, ' ') : cellOf(value)
}

/** A document, in which who parses it reads what was said, and a terminal nothing that it would obey. */
export function jsonOf(value: object): string {
  return JSON.stringify(value, null, 2).replace(/[^\P{C}\n]/gu, escaped)
}

function escaped(character: string): string {
  const units = Array.from({ length: character.length }, (_, at) => character.charCodeAt(at))
  return units.map(unit => `\\u${unit.toString(16).padStart(4, '0')}`).join('')
}
