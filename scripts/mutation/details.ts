/** What of Babel's syntax tree is looked at here. */
type Node = { readonly type: string; readonly callee?: Node; readonly name?: string; readonly property?: Node }
type Place = {
  readonly node: Node
  readonly key: string | number | null
  readonly listKey?: string
  readonly parent: Node | null
}

/** Leaves the words of a refusal alone: they are for the audit log and its readers, no program depends on them. */
const details = {
  shouldIgnore({ key, listKey, parent }: Place): string | undefined {
    const isSecond = listKey === 'arguments' && key === 1 && parent?.type === 'CallExpression'
    const called = parent?.callee?.property?.name ?? parent?.callee?.name
    return isSecond && (called === 'reject' || called === 'fail') ? 'the words of a refusal' : undefined
  },
}

export const strykerPlugins = [{ kind: 'Ignore', name: 'details', value: details }]
