import { hash } from 'node:crypto'
import { type Hash, hashes } from '../tpm2/constants.ts'
import { accept, type Rejection, reject, type Verdict } from '../verdict.ts'

/** A file that the Integrity Measurement Architecture of Linux measured before it was used, and how the list says so. */
export type ImaEntry = {
  readonly template: ImaTemplate
  /** with its algorithm, as the list writes it: `sha256:<hex>` */
  readonly digest: string
  /** as the kernel called the file; `boot_aggregate` in the first entry */
  readonly path: string
  /** what `ima-sig` and `ima-buf` have beside: a signature, or what was measured; empty when there is none */
  readonly extra: Buffer
  /** the fields in the form that the template hash is of */
  readonly data: Buffer
  /** the file was changed while it was read or run, so that no digest says what it was */
  readonly violation: boolean
}

/** Templates by name, and how many fields they have. */
const fields = { 'ima-ng': 2, 'ima-sig': 3, 'ima-buf': 3 } as const
export type ImaTemplate = keyof typeof fields

export type ImaEntryRules = {
  /** what the list may hold; `ima-ng` and `ima-sig` when left out */
  readonly templates?: readonly ImaTemplate[]
}

/** The PCR that Linux measures into. */
export const IMA_PCR = 10

/**
 * Reads a line of the ASCII list, `PCR template-hash template digest path [extra]`, and makes sure that the template hash is of the
 * fields: nothing else says whether digest and path are true (Linux, Integrity Measurement Architecture: template management).
 * @param line without its newline; one byte to a character
 * @returns BAD_ENCODING, UNSUPPORTED_ALG, EVENT_SEMANTICS or EVENT_DATA_DIGEST when refused
 */
export function readImaEntry(line: string, { templates = ['ima-ng', 'ima-sig'] }: ImaEntryRules = {}): Verdict<ImaEntry> {
  const [pcr = '', templateHash = '', template = '', digest = '', path = '', ...rest] = line.split(' ')
  if (!/^ ?[0-9]{1,2}$/.test(pcr)) return reject('BAD_ENCODING', 'a line of the IMA list has no PCR')
  if (Number(pcr) !== IMA_PCR) return reject('EVENT_SEMANTICS', `an IMA entry of PCR ${pcr}`)
  if (!isTemplate(template) || !templates.includes(template))
    return reject('UNSUPPORTED_ALG', 'an IMA template that is not accepted')
  // the space before a signature that is not there gets lost on the way
  const words = template === 'ima-sig' && rest.length === 0 ? [''] : rest
  if (words.length !== fields[template] - 2) return reject('BAD_ENCODING', `an ${template} entry of ${rest.length + 5} words`)
  const [extra = ''] = words
  const fault = wrongWords(digest, path, extra)
  return fault ?? authenticated(templateHash, { template, digest, path, extra })
}

function isTemplate(name: string): name is ImaTemplate {
  return Object.hasOwn(fields, name)
}

/** How many hexadecimal digits a digest has, by what the kernel calls the algorithm. */
const digits = new Map(Object.entries(hashes).map(([name, { size }]) => [name, 2 * size]))

/** In lower case. */
function isHex(text: string): boolean {
  return Buffer.from(text, 'hex').length * 2 === text.length && text === text.toLowerCase()
}

function wrongWords(digest: string, path: string, extra: string): Rejection | undefined {
  const colon = digest.indexOf(':')
  const [algorithm, value] = [digest.slice(0, colon), digest.slice(colon + 1)]
  const wanted = digits.get(algorithm)
  if (wanted === undefined) return reject('UNSUPPORTED_ALG', 'the digest of a file is of an unknown algorithm')
  if (value.length !== wanted || value !== value.toLowerCase())
    return reject('BAD_ENCODING', `the digest of a file is not one of ${algorithm}`)
  if (!isPath(path)) return reject('BAD_ENCODING', 'the path of a file is not one that Linux writes')
  return extra === '' || (isHex(extra) && extra.length % 2 === 0)
    ? undefined
    : reject('BAD_ENCODING', 'the last word of an IMA entry is not hexadecimal')
}

/** Resolved, and without control characters, which nothing escapes here. */
function isPath(path: string): boolean {
  return /^[ -~\x80-\xff]+$/.test(path) && !(path.includes('..') && /(?:^|\/)\.\.(?:\/|$)/.test(path))
}

/** As they stand in the line. */
type Words = Pick<ImaEntry, 'template' | 'digest' | 'path'> & { readonly extra: string }

/** Lists are written with template hashes of SHA-1, newer kernels have one per bank beside. */
const byDigits = new Map((Object.keys(hashes) as Hash[]).map(name => [2 * hashes[name].size, name]))

function authenticated(templateHash: string, words: Words): Verdict<ImaEntry> {
  const algorithm = byDigits.get(templateHash.length)
  if (algorithm === undefined) return reject('BAD_ENCODING', 'a template hash is malformed')
  const data = templateData(words)
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
  return accept({
    template,
    digest,
    path: ASCII.test(path) ? path : Buffer.from(path, 'latin1').toString(),
    extra,
    data,
    violation,
  })
}

const NOTHING = Buffer.alloc(0)
const ASCII = /^[ -~]*$/

/** Every field with its length before it: `d-ng`, `n-ng`, and then `sig` or `buf`; undefined when the digest is not hexadecimal. */
function templateData({ template, digest, path, extra }: Words): Buffer | undefined {
  const value = digest.indexOf(':') + 1
  const dNg = value + 1 + (digest.length - value) / 2
  const more = fields[template] === 3 ? 4 + extra.length / 2 : 0
  const data = Buffer.allocUnsafe(4 + dNg + 4 + path.length + 1 + more) // of a pool; every byte is written
  data.writeUInt32LE(dNg, 0)
  data.write(digest.slice(0, value), 4, 'latin1')
  data[4 + value] = 0
  // decoding stops at what is no digit, which is faster to see than to look at each of them
  if (data.write(digest.slice(value), 4 + value + 1, 'hex') !== (digest.length - value) / 2) return undefined
  data.writeUInt32LE(path.length + 1, 4 + dNg)
  data.write(path, 4 + dNg + 4, 'latin1')
  data[4 + dNg + 4 + path.length] = 0
  if (more > 0) data.write(extra, data.writeUInt32LE(extra.length / 2, data.length - more), 'hex')
  return data
}
