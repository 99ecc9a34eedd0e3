import { getHeapSnapshot, setFlagsFromString } from 'node:v8'

// V8 cuts texts in snapshots off after a kilobyte; a secret may stand behind that
setFlagsFromString('--heap-snapshot-string-limit=10000000')

/** What of the heap some objects keep alive, as a snapshot of V8 shows it after it collected garbage. */
export type Kept = {
  /** every text, whole; of a text that is a slice of a longer one, the longer one; of one that was joined, its parts and the whole */
  readonly texts: readonly string[]
  /** what a snapshot does not show the inside of: functions, whose variables may be anything, and bytes */
  readonly opaque: readonly string[]
}

/** Where the walk through the snapshot begins. */
class KeptForTheSnapshot {
  readonly objects: readonly unknown[]
  constructor(objects: readonly unknown[]) {
    this.objects = objects
  }
}

export async function keptBy(objects: readonly unknown[]): Promise<Kept> {
  const begin = new KeptForTheSnapshot(objects)
  const chunks: Buffer[] = []
  for await (const chunk of getHeapSnapshot()) chunks.push(chunk as Buffer)
  const heap = heapOf(JSON.parse(Buffer.concat(chunks).toString('utf8')) as Snapshot)
  const root = heap.find('object', begin.constructor.name)
  const [texts, opaque] = [new Set<string>(), new Set<string>()]
  for (const node of reachable(heap, root)) {
    const text = textOf(heap, node)
    if (text !== undefined) texts.add(text)
    else if (OPAQUE.test(`${node.type} ${node.name}`)) opaque.add(`${node.type} ${node.name}`)
  }
  return { texts: [...texts], opaque: [...opaque] }
}

const OPAQUE = /^closure |^object (?:ArrayBuffer|SharedArrayBuffer)$/

type Snapshot = {
  readonly snapshot: {
    readonly meta: {
      readonly node_fields: readonly string[]
      readonly node_types: readonly [readonly string[]]
      readonly edge_types: readonly [readonly string[]]
    }
  }
  readonly nodes: readonly number[]
  readonly edges: readonly number[]
  readonly strings: readonly string[]
}
type Node = { readonly at: number; readonly type: string; readonly name: string }
type Edge = { readonly type: string; readonly name: string; readonly to: number }

type Heap = ReturnType<typeof heapOf>

/** An edge is its type, its name or index, and where it leads: three numbers. */
const EDGE = 3

/** A snapshot, read: its nodes by where they stand in it, and what they lead to. */
function heapOf({ snapshot: { meta }, nodes, edges, strings }: Snapshot) {
  const width = meta.node_fields.length
  const counts = meta.node_fields.indexOf('edge_count')
  const first: number[] = []
  for (let at = 0, edge = 0; at < nodes.length; at += width) {
    first.push(edge)
    edge += (nodes[at + counts] ?? 0) * EDGE
  }
  const nodeAt = (at: number): Node => ({
    at,
    type: meta.node_types[0][nodes[at] ?? -1] ?? '',
    name: strings[nodes[at + 1] ?? -1] ?? '',
  })
  const edgesOf = ({ at }: Node): readonly Edge[] =>
    Array.from({ length: nodes[at + counts] ?? 0 }, (_, index) => {
      const edge = (first[at / width] ?? 0) + index * EDGE
      const type = meta.edge_types[0][edges[edge] ?? -1] ?? ''
      const numbered = type === 'element' || type === 'hidden'
      return { type, name: numbered ? '' : (strings[edges[edge + 1] ?? -1] ?? ''), to: edges[edge + 2] ?? 0 }
    })
  const find = (type: string, name: string): Node => {
    for (let at = 0; at < nodes.length; at += width) {
      const node = nodeAt(at)
      if (node.type === type && node.name === name) return node
    }
    throw new Error(`the snapshot holds no ${name}`)
  }
  return { nodeAt, edgesOf, find }
}

function textOf(heap: Heap, node: Node): string | undefined {
  if (node.type === 'string') return node.name
  return PARTS[node.type]?.map(part => childText(heap, node, part)).join('')
}

function childText(heap: Heap, node: Node, name: string): string {
  const edge = heap.edgesOf(node).find(one => one.name === name)
  return (edge && textOf(heap, heap.nodeAt(edge.to))) ?? ''
}

function reachable({ edgesOf, nodeAt }: Heap, root: Node): readonly Node[] {
  const [seen, found, left] = [new Set([root.at]), [root], [root]]
  for (let node = left.pop(); node; node = left.pop()) {
    for (const { type, name, to } of edgesOf(node)) {
      if (type === 'weak' || SHARED.has(name) || seen.has(to) || node.type === 'closure') continue
      seen.add(to)
      const next = nodeAt(to)
      found.push(next)
      left.push(next)
    }
  }
  return found
}

/** What texts that were joined or cut are made of. */
const PARTS: Readonly<Record<string, readonly string[]>> = {
  'concatenated string': ['first', 'second'],
  'sliced string': ['parent'],
}

/** What all objects of a kind share, and through which everything reaches everything. */
const SHARED = new Set(['__proto__', 'map', 'constructor'])
