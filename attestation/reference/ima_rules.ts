import type { ImaClaims, ImaFile, ImaRules } from '../eventlog/ima_list.ts'
import { type Rejection, reject } from '../verdict.ts'
import type { FileList } from './file_list.ts'
import { matches } from './patterns.ts'

/** What the files have to be that a machine used. */
export type ImaReference = ImaRules & {
  /** a file has to be in one of them; any file will do when left out */
  readonly lists?: readonly FileList[]
  /** paths that are not looked at; `*` at the end stands for any rest */
  readonly ignored?: readonly string[]
  /** paths of which the result tells the digests */
  readonly reported?: readonly string[]
}

/** What a list of IMA says, in short. */
export type ImaSummary = {
  readonly bank: string
  /** how many entries the quoted value is made of */
  readonly entries: number
  readonly violations: number
  /** PCR 10 after them, hexadecimal */
  readonly value: string
  /** of paths that are reported, at most 64, in the order in which they were used */
  readonly files: readonly ImaDigest[]
  /** that no list has: how many, and the first 16 */
  readonly unlisted: { readonly count: number; readonly files: readonly ImaDigest[] }
}
export type ImaDigest = { readonly path: string; readonly digest: string }

const REPORTED = 64
const UNLISTED = 16

export function summaryOf(claims: ImaClaims, { lists, ignored = [], reported = [] }: ImaReference): ImaSummary {
  const { bank, violations, value } = claims
  const files = filesOf(claims)
  const strange = lists ? files.filter(file => !isListed(file, lists) && !isAny(ignored, file.path)) : []
  const told = files.filter(({ path }) => isAny(reported, path))
  return {
    bank,
    entries: claims.files.length + violations,
    violations,
    value: value.toString('hex'),
    files: told.slice(0, REPORTED).map(digestOf),
    unlisted: { count: strange.length, files: strange.slice(0, UNLISTED).map(digestOf) },
  }
}

/**
 * Judges the files that a machine used.
 * @returns the fault, IMA_FILE
 */
export function faultOfFiles({ unlisted }: Pick<ImaSummary, 'unlisted'>): Rejection | undefined {
  const [first] = unlisted.files
  return first && reject('IMA_FILE', `${unlisted.count} files are in no list, the first is ${first.path} with ${first.digest}`)
}

/** All files of a list, as `readFileList` reads them: each once, in the order of their paths. */
export function listingOf(claims: ImaClaims): string {
  const lines = new Map(filesOf(claims).map(({ file, path }) => [file, path]))
  const sorted = [...lines].toSorted(([, one], [, other]) => (one < other ? -1 : Number(one > other)))
  return sorted.map(([line]) => `${line}\n`).join('')
}

function isListed({ file, digest }: ImaFile, lists: readonly FileList[]): boolean {
  return lists.some(list => list.has(file) || list.has(digest))
}

function isAny(patterns: readonly string[], path: string): boolean {
  return patterns.some(pattern => matches(pattern, path))
}

/** Without the boot aggregate, which is no file and was judged as what it is: no other entry than the first may call itself so. */
function filesOf({ files }: ImaClaims): readonly ImaFile[] {
  return files[0]?.path === 'boot_aggregate' ? files.slice(1) : files
}

function digestOf({ path, digest }: ImaFile): ImaDigest {
  return { path, digest }
}
