/** One command: how it ended, what it found to be done, its warnings and errors, and what it knew of each resource afterwards. */
export type Step = {
  readonly step: string
  readonly code: number | null
  readonly changes: readonly string[]
  readonly said: readonly string[]
  readonly state: Readonly<Record<string, string>>
}
export type Finding = { readonly ok: boolean; readonly lines: readonly string[] }

type Expected = {
  /** how many resources there have to be: a run in which little works says little */
  readonly resources?: number
  /** takes out of a text what may differ */
  readonly alike?: (text: string) => string
}

/** Two runs of one configuration that have to be the same, step by step. */
export function same(
  what: string,
  [straight, through]: readonly [readonly Step[], readonly Step[]],
  { resources = 0, alike = text => text }: Expected = {},
): Finding {
  const differing = straight.flatMap((step, at) => differences(step, through[at], alike))
  const worked = straight.filter(({ code }) => code === 0).length
  const most = Math.max(0, ...straight.map(({ state }) => Object.keys(state).length))
  const head = `${what}: ${straight.length} steps, ${worked} of them without an error, up to ${most} resources`
  const few = most < resources ? [`  wanted ${resources} resources straight`] : []
  return { ok: differing.length + few.length === 0 && straight.length > 0, lines: [head, ...differing, ...few] }
}

function differences(straight: Step, through: Step | undefined, alike: (text: string) => string): string[] {
  const [one, other] = [partsOf(straight, alike), through ? partsOf(through, alike) : []]
  const only = (these: readonly string[], those: readonly string[]) => these.filter(part => !those.includes(part))
  return [
    ...only(one, other).map(part => `  ${straight.step}, only straight: ${part}`),
    ...only(other, one).map(part => `  ${straight.step}, only through the front door: ${part}`),
  ]
}

function partsOf({ code, changes, said, state }: Step, alike: (text: string) => string): string[] {
  const known = Object.entries(state).map(([address, values]) => `${address} = ${values}`)
  return [`ended with ${code}`, ...changes, ...said, ...known].map(alike)
}

const PLANNED = 'planned_change'

/** A run without an error in which nothing is left to be done after each change. */
export function calm(what: string, steps: readonly Step[]): Finding {
  const restless = steps.flatMap(({ step, code, changes, said }) => {
    const left = /^plan (?:again|after)/.test(step) ? changes.filter(change => change.startsWith(PLANNED)) : []
    return [...(code === 0 ? [] : [`ended with ${code}`]), ...said, ...left].map(line => `  ${step}: ${line}`)
  })
  const head = `${what}: ${steps.length} steps${restless.length === 0 ? '' : ', not all of them as they should be'}`
  return { ok: restless.length === 0 && steps.length > 0, lines: [head, ...restless] }
}

export function wanted(what: string, found: unknown, expected: unknown): Finding {
  const [was, should] = [JSON.stringify(found), JSON.stringify(expected)]
  return was === should ? { ok: true, lines: [what] } : { ok: false, lines: [`${what}: no: ${was}, wanted ${should}`] }
}
