/** One comparison, measured in one run: `ours` and `theirs` in the unit that `what` names, higher is better unless it says otherwise. */
export type Row = {
  readonly id: string
  readonly what: string
  readonly ours: number
  readonly theirs: number
  readonly ratio: number
  /** `>= 0.5`, `<= 600`: on the ratio, or on `ours` where there is nothing to compare with */
  readonly goal: string
  readonly holds: boolean
}

type Given = { readonly id: string; readonly what: string; readonly ours: number; readonly theirs: number; readonly goal: string }

export function row({ id, what, ours, theirs, goal }: Given): Row {
  const ratio = round(ours / theirs)
  return { id, what, ours: round(ours), theirs: round(theirs), ratio, goal, holds: holds(ratio, goal) }
}

/** A limit on an absolute figure of ours, such as a time to start: the ratio is to the limit. */
export function limitRow({ id, what, ours, limit }: { id: string; what: string; ours: number; limit: number }): Row {
  return { id, what, ours: round(ours), theirs: limit, ratio: round(ours / limit), goal: '<= 1', holds: ours <= limit }
}

function holds(ratio: number, goal: string): boolean {
  const [, sense, limit] = goal.match(/^(>=|<=) ([\d.]+)$/) ?? []
  if (!sense || !limit) throw new Error(`no goal that can be judged: ${goal}`)
  return sense === '>=' ? ratio >= Number(limit) : ratio <= Number(limit)
}

const round = (value: number) => Number(value.toPrecision(4))

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((one, other) => one - other)
  const middle = Math.floor(sorted.length / 2)
  return sorted.length % 2 === 1
    ? (sorted[middle] ?? Number.NaN)
    : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2
}

/** Measures two sides in turn, A B B A, so that a machine whose speed drifts wrongs neither. Gives the medians. */
export async function inTurn<A, B>(rounds: number, a: () => Promise<A>, b: () => Promise<B>): Promise<{ a: A[]; b: B[] }> {
  const measured: { a: A[]; b: B[] } = { a: [], b: [] }
  for (let round = 0; round < rounds; round++) {
    const order = round % 2 === 0 ? (['a', 'b'] as const) : (['b', 'a'] as const)
    for (const side of order) {
      if (side === 'a') measured.a.push(await a())
      else measured.b.push(await b())
    }
  }
  return measured
}
