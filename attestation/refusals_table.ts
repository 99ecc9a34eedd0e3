import { type Refusal, refusals } from './refusals.ts'

/** The table of refusals in Markdown, as the README of this floor has it between its markers. */
export function refusalsTable(): string {
  const rows = (Object.keys(refusals) as Refusal[]).map(code => {
    const { family, means, next } = refusals[code]
    return `| \`${code}\` | ${family} | ${means} | ${next} |`
  })
  return ['| code | about | what was wrong | what to do |', '|---|---|---|---|', ...rows, ''].join('\n')
}
