/** What is looked at of a document of the package `yaml`. */
type YamlDocument = { readonly contents: unknown; readonly getIn: (path: readonly unknown[], keepScalar: true) => unknown }
type Node = { readonly range?: readonly number[] | null | undefined }
type MapNode = { readonly items: readonly { readonly key: unknown }[] }
type Path = readonly PropertyKey[]

/** Where in the text a member stands; of a missing one, what it is missing from. */
export function offsetOf(document: YamlDocument, path: Path): number {
  for (let length = path.length; length >= 0; length--) {
    const offset = startOf(document, path.slice(0, length))
    if (offset !== undefined) return offset
  }
  return 0
}

function startOf(document: YamlDocument, path: Path): number | undefined {
  const above = path.length <= 1 ? document.contents : document.getIn(path.slice(0, -1), true)
  if (path.length > 0 && isMap(above)) {
    const pair = above.items.find(({ key }) => String((key as { value?: unknown } | null)?.value) === String(path.at(-1)))
    return (pair?.key as Node | undefined)?.range?.[0]
  }
  const node = path.length === 0 ? above : document.getIn(path, true)
  return (node as Node | undefined)?.range?.[0]
}

/** Items of a map are pairs, those of a list are not. */
function isMap(node: unknown): node is MapNode {
  const items = (node as { items?: unknown } | null | undefined)?.items
  return Array.isArray(items) && items.every(item => typeof item === 'object' && item !== null && 'key' in item)
}
