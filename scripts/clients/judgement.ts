export type Outcome = 'passed' | 'failed' | 'skipped'

/** By the name of the test, how it ended: of a report as pytest writes it. */
export function outcomesOf(report: string): ReadonlyMap<string, Outcome> {
  const cases = report.matchAll(/<testcase classname="([^"]+)" name="([^"]+)"[^>]*?(?:\/>|>([\s\S]*?)<\/testcase>)/g)
  return new Map(
    Array.from(cases, ([, place = '', name = '', inside = '']) => [
      `${place}.${name}`.replace('tests.integration_tests.', ''),
      outcomeOf(inside),
    ]),
  )
}

function outcomeOf(inside: string): Outcome {
  if (/<(?:failure|error)\b/.test(inside)) return 'failed'
  return inside.includes('<skipped') ? 'skipped' : 'passed'
}

type Reports = { readonly straight: ReadonlyMap<string, Outcome>; readonly through: ReadonlyMap<string, Outcome> }
/** What may fail through the front door, with the reason, and how many have to pass straight: a run that tests little says little. */
export type Known = { readonly differs: Readonly<Record<string, string>>; readonly floor: number }
export type Judgement = { readonly ok: boolean; readonly lines: readonly string[] }

/** What passed straight has to pass through the front door, but for what is listed; what is listed and passes is no longer true. */
export function judge({ straight, through }: Reports, { differs, floor }: Known): Judgement {
  const passing = [...straight].filter(([, outcome]) => outcome === 'passed').map(([name]) => name)
  const differing = passing.filter(name => through.get(name) !== 'passed')
  const reasonOf = (name: string) => (Object.hasOwn(differs, name) ? differs[name] : undefined)
  const outdated = Object.keys(differs).filter(name => through.get(name) === 'passed')
  const few = passing.length < floor
  return {
    ok: differing.every(reasonOf) && outdated.length === 0 && !few,
    lines: [
      `${straight.size} tests: ${passing.length} pass straight, ${passing.length - differing.length} of them through the front door`,
      ...differing.map(name => `  differs  ${name}: ${reasonOf(name) ?? 'NOT KNOWN'}`),
      ...outdated.map(name => `  listed, but passes: ${name}`),
      ...(few ? [`  wanted ${floor} that pass straight: what runs them is at fault, or their list has changed`] : []),
    ],
  }
}
