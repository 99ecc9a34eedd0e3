import { readFileSync } from 'node:fs'
import { parseSync } from 'oxc-parser'

/** What a source file asks of others: each with the line it is on. */
export type Source = { readonly imports: readonly Import[]; readonly reaches: readonly Reach[] }
/** `specifier` is undefined when it is computed; `names` are those taken from a module by name. */
export type Import = { readonly specifier: string | undefined; readonly names: readonly string[]; readonly line: number }
/** A global, or one member of it: `fetch`, `Date.now`, `new Date()`. */
export type Reach = { readonly name: string; readonly line: number }

/** Reads all imports of a TypeScript file (static, dynamic, types, re-exports, require) and the globals it uses. Throws when it does not parse. */
export function readSource(path: string): Source {
  const text = readFileSync(path, 'utf8')
  const { program, errors } = parseSync(path, text)
  const [error] = errors
  if (error) throw new Error(`${path}: ${error.message}`)
  const seen = { imports: [] as Import[], required: [] as Import[], reaches: [] as Reach[], own: new Set<string>() }
  visit(program as unknown as Node, (node, parent, key) => {
    const line = () => text.slice(0, node.start).split('\n').length
    for (const asked of importOf(node)) seen.imports.push({ ...asked, line: line() })
    for (const asked of requireOf(node)) seen.required.push({ ...asked, line: line() })
    for (const name of reachOf(node, parent, key)) seen.reaches.push({ name, line: line() })
    for (const name of declaredIn(node)) seen.own.add(name)
  })
  // a module has `require` only from createRequire
  const canRequire = seen.imports.some(({ specifier }) => specifier === 'node:module')
  return {
    imports: canRequire ? [...seen.imports, ...seen.required] : seen.imports,
    reaches: seen.reaches.filter(({ name }) => !seen.own.has(name)),
  }
}

// ESTree with TypeScript's nodes, as far as it is looked into
type Node = {
  readonly type: string
  readonly start: number
  readonly name?: string
  readonly value?: unknown
  readonly computed?: boolean
  readonly source?: Node | null
  readonly callee?: Node
  readonly object?: Node
  readonly property?: Node
  readonly imported?: Node
  readonly local?: Node
  readonly id?: Node | null
  readonly params?: readonly Node[]
  readonly specifiers?: readonly Node[]
  readonly arguments?: readonly Node[]
}

function visit(node: Node, see: (node: Node, parent?: Node, key?: string) => void, parent?: Node, key?: string): void {
  see(node, parent, key)
  for (const [key, value] of Object.entries(node))
    for (const child of [value].flat()) if (isNode(child)) visit(child, see, node, key)
}

function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && 'type' in value && typeof value.type === 'string'
}

const importing = new Set([
  'ImportDeclaration',
  'ExportNamedDeclaration',
  'ExportAllDeclaration',
  'ImportExpression',
  'TSImportType',
])

function importOf(node: Node): Omit<Import, 'line'>[] {
  if (!importing.has(node.type) || !node.source) return []
  const names = (node.specifiers ?? []).flatMap(specifier => (specifier.imported ?? specifier.local)?.name ?? [])
  return [{ specifier: literal(node.source), names }]
}

function requireOf(node: Node): Omit<Import, 'line'>[] {
  const isCall = node.type === 'CallExpression' && node.callee?.name === 'require'
  return isCall ? [{ specifier: literal(node.arguments?.[0]), names: [] }] : []
}

function literal(node: Node | undefined): string | undefined {
  return typeof node?.value === 'string' ? node.value : undefined
}

function reachOf(node: Node, parent: Node | undefined, key: string | undefined): string[] {
  if (node.type === 'NewExpression') return node.callee?.name === 'Date' && node.arguments?.length === 0 ? ['new Date()'] : []
  if (node.type === 'MemberExpression') return memberOf(node)
  if (node.type !== 'Identifier' || node.name === undefined) return []
  const isLabel = (key === 'property' || key === 'key') && !parent?.computed
  return isLabel ? [] : [node.name]
}

function memberOf({ object, property, computed }: Node): string[] {
  const member = computed ? literal(property) : property?.name
  return object?.type === 'Identifier' && member !== undefined ? [`${object.name}.${member}`] : []
}

/** Names that the file gives to things of its own; a global of the same name is not meant then. */
function declaredIn({ type, id, params, local }: Node): string[] {
  const declared = type.startsWith('Import') ? [local] : [id, ...(params ?? [])]
  return declared.flatMap(node => node?.name ?? [])
}
