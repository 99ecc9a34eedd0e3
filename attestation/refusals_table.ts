import { refusals } from './refusals.ts'

type Rows = Readonly<Record<string, { readonly family: string; readonly means: string; readonly next: string }>>

/** A table of refusals in Markdown, of this floor unless said otherwise, as a README has it between its markers. */
export function refusalsTable(table: Rows = refusals): string {
  const rows = Object.entries(table).map(([code, { family, means, next }]) => `| \`${code}\` | ${family} | ${means} | ${next} |`)
  return ['| code | about | what was wrong | what to do |', '|---|---|---|---|', ...rows, ''].join('\n')
}
