import { hashes } from '../tpm2/constants.ts'

/** Digests with their algorithm, alone where they count at any path, else with a space and the path: `sha256:<hex> /usr/bin/env`. */
export type FileList = ReadonlySet<string>

/** A list, or the number of the first line that cannot be read. */
export type ReadList = { readonly ok: true; readonly files: FileList } | { readonly ok: false; readonly line: number }

/** SHA-1 is not among them: what is made to collide with a listed file would count as listed. */
const algorithms = new Map(['sha256', 'sha384', 'sha512'].map(name => [2 * hashes[name as 'sha256'].size, name]))
const LINE = /^(?:(sha256|sha384|sha512):)?([0-9a-f]+)(?: [ *]?(.+))?$/

/**
 * Reads what `sha256sum` prints, or lines of the form `sha256:<hex> <path>`: a digest, and after it a path, without which it counts
 * at any path. Empty lines and lines that begin with `#` say nothing.
 */
export function readFileList(text: string): ReadList {
  const files = new Set<string>()
  let line = 0
  for (const content of text.split('\n')) {
    line += 1
    const said = content.endsWith('\r') ? content.slice(0, -1) : content
    if (said === '' || said.startsWith('#')) continue
    const entry = entryOf(said)
    if (entry === undefined) return { ok: false, line }
    files.add(entry)
  }
  return { ok: true, files }
}

function entryOf(line: string): string | undefined {
  const [, named, digest = '', path] = LINE.exec(line) ?? []
  const algorithm = algorithms.get(digest.length)
  if (algorithm === undefined || (named !== undefined && named !== algorithm)) return undefined
  return path === undefined ? `${algorithm}:${digest}` : `${algorithm}:${digest} ${asMeasured(path)}`
}

/** Linux puts an underscore for each space of a path, so that its list can be taken apart. */
function asMeasured(path: string): string {
  return path.replaceAll(' ', '_')
}
