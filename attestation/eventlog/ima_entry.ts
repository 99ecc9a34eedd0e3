import { hash } from 'node:crypto'
import { type Hash, hashes } from '../tpm2/constants.ts'
import { accept, type Rejection, reject, type Verdict } from '../verdict.ts'
import { fields, type ImaTemplate, type ImaWords, templateData } from './ima_template.ts'

/** A file that the Integrity Measurement Architecture of Linux measured before it was used, and how the list says so. */
export type ImaEntry = {
  readonly template: ImaTemplate
  /** with its algorithm, as the list writes it: `sha256:<hex>` */
  readonly digest: string
  /** as the kernel called the file; `boot_aggregate` in the first entry */
  readonly path: string
  /** digest and path with a space between them, as lists of files name a file */
  readonly file: string
  /** what `ima-sig` and `ima-buf` have beside: a signature, or what was measured; empty when there is none */
  readonly extra: Buffer
  /** the fields in the form that the template hash is of */
  readonly data: Buffer
  /** the file was changed while it was read or run, so that no digest says what it was */
  readonly violation: boolean
}

export type ImaEntryRules = {
  /** what the list may hold; `ima-ng` and `ima-sig` when left out */
  readonly templates?: readonly ImaTemplate[]
}

/** The PCR that Linux measures into. */
export const IMA_PCR = 10

/** A list, or a line, as it came, and as a string of one character a byte: what is hashed is taken from the one, what is kept from the other. */
export type ImaText = { readonly bytes: Uint8Array; readonly text: string }

/**
 * Reads a line of the ASCII list, `PCR template-hash template digest path [extra]`, and makes sure that the template hash is of the
 * fields: nothing else says whether digest and path are true (Linux, Integrity Measurement Architecture: template management).
 * @param line without its newline; one byte to a character
 * @returns BAD_ENCODING, UNSUPPORTED_ALG, EVENT_SEMANTICS or EVENT_DATA_DIGEST when refused
 */
export function readImaEntry(line: string, rules: ImaEntryRules = {}): Verdict<ImaEntry> {
  const bytes = Buffer.from(line, 'latin1')
  const read = readImaLine({ bytes, text: bytes.toString('latin1') }, 0, bytes.length, rules)
  return read.ok ? accept({ ...read.value, data: Buffer.from(read.value.data) }) : read
}

/** The same for a line of a list, from where it begins to its newline. `data` of the entry is there until the next line is read. */
export function readImaLine(
  { bytes, text }: ImaText,
  at: number,
  end: number,
  { templates = ['ima-ng', 'ima-sig'] }: ImaEntryRules,
): Verdict<ImaEntry> {
  const words = wordsOf(text, at, end)
  const [pcr = '', templateHash = '', name = '', digest = '', path = '', extra = ''] = words
  if (pcr !== OWN_PCR) return wrongPcr(pcr)
  const template = templates.find(one => one === name)
  if (template === undefined) return reject('UNSUPPORTED_ALG', 'an IMA template that is not accepted')
  // the space before a signature that is not there gets lost on the way
  if (words.length !== 3 + fields[template] && !(template === 'ima-sig' && words.length === 5))
    return reject('BAD_ENCODING', `an ${template} entry of ${words.length} words`)
  const start = at + pcr.length + templateHash.length + name.length + 3
  const said = { template, digest, path, file: text.slice(start, start + digest.length + 1 + path.length), extra }
  return wrongWords(said) ?? authenticated(templateHash, said, bytes, start)
}

function wordsOf(text: string, at: number, end: number): readonly string[] {
  const words: string[] = []
  let start = at
  for (let space = text.indexOf(' ', at); space >= 0 && space < end; space = text.indexOf(' ', start)) {
    words.push(text.slice(start, space))
    start = space + 1
  }
  words.push(text.slice(start, end))
  return words
}

const OWN_PCR = String(IMA_PCR)

function wrongPcr(pcr: string): Rejection {
  return /^[0-9]{1,2}$/.test(pcr)
    ? reject('EVENT_SEMANTICS', `an IMA entry of PCR ${pcr}`)
    : reject('BAD_ENCODING', 'a line of the IMA list has no PCR')
}

/** How many hexadecimal digits a digest has, by what the kernel calls the algorithm. */
const digits = new Map(Object.entries(hashes).map(([name, { size }]) => [name, 2 * size]))

/** In lower case. */
function isHex(text: string): boolean {
  return Buffer.from(text, 'hex').length * 2 === text.length && text === text.toLowerCase()
}

function wrongWords({ digest, path, extra }: Words): Rejection | undefined {
  const colon = digest.indexOf(':')
  const algorithm = digest.slice(0, colon)
  const wanted = digits.get(algorithm)
  if (wanted === undefined) return reject('UNSUPPORTED_ALG', 'the digest of a file is of an unknown algorithm')
  if (digest.length - colon - 1 !== wanted) return reject('BAD_ENCODING', `the digest of a file is not one of ${algorithm}`)
  if (!isPath(path)) return reject('BAD_ENCODING', 'the path of a file is not one that Linux writes')
  return extra === '' || (isHex(extra) && extra.length % 2 === 0)
    ? undefined
    : reject('BAD_ENCODING', 'the last word of an IMA entry is not hexadecimal')
}

/** Resolved, and without control characters, which nothing escapes here. */
function isPath(path: string): boolean {
  return /^[ -~\x80-\xff]+$/.test(path) && !(path.includes('..') && /(?:^|\/)\.\.(?:\/|$)/.test(path))
}

type Words = ImaWords & Pick<ImaEntry, 'file'>

/** Lists are written with template hashes of SHA-1, newer kernels have one per bank beside. */
const byDigits = new Map((Object.keys(hashes) as Hash[]).map(name => [2 * hashes[name].size, name]))

/** @param at where the digest is, in these bytes */
function authenticated(templateHash: string, words: Words, bytes: Uint8Array, at: number): Verdict<ImaEntry> {
  const algorithm = byDigits.get(templateHash.length)
  if (algorithm === undefined) return reject('BAD_ENCODING', 'a template hash is malformed')
  const data = templateData(words, bytes, at)
  if (data === undefined) return reject('BAD_ENCODING', 'the digest of a file is not hexadecimal')
  const violation = templateHash.startsWith('0') && /^0+$/.test(templateHash)
  if (!violation && hash(algorithm, data) !== templateHash)
    return isHex(templateHash)
      ? reject('EVENT_DATA_DIGEST', 'the template hash of an IMA entry is not one of its fields')
      : reject('BAD_ENCODING', 'a template hash is malformed')
  const { template, digest, path } = words
  const extra = words.extra === '' ? NOTHING : Buffer.from(words.extra, 'hex')
  if (template === 'ima-buf' && hash(digest.slice(0, digest.indexOf(':')), extra) !== digest.slice(digest.indexOf(':') + 1))
    return reject('EVENT_DATA_DIGEST', 'the digest of an ima-buf entry is not one of its buffer')
  const plain = ASCII.test(path)
  return accept({
    template,
    digest,
    path: plain ? path : utf8(path),
    file: plain ? words.file : utf8(words.file),
    extra,
    data,
    violation,
  })
}

const NOTHING = Buffer.alloc(0)
const ASCII = /^[ -~]*$/

function utf8(text: string): string {
  return Buffer.from(text, 'latin1').toString()
}
