import { createHash } from 'node:crypto'
import { type Hash, hashes } from '#attestation'
import { extend } from '../../attestation/pcr_values.ts'

// Writes lists of IMA as Linux does, and the PCR that it extends beside.

export type Word = {
  readonly template?: string
  /** of the content of the file */
  readonly digest?: string
  readonly extra?: Buffer
  /** the algorithm of the template hash in the list */
  readonly algorithm?: Hash
  readonly templateHash?: string
}

/** A line without its newline. */
export function entry(path: string, word: Word = {}): string {
  const { template = 'ima-ng', digest = digestOf(path), algorithm = 'sha1', extra } = word
  const templateHash = word.templateHash ?? hashOf(algorithm, fieldsOf(path, word))
  return ['10', templateHash, template, digest, path, ...(extra ? [extra.toString('hex')] : [])].join(' ')
}

export const digestOf = (content: string | Buffer, algorithm: Hash = 'sha256') =>
  `${algorithm}:${createHash(algorithm).update(content).digest('hex')}`

/** The fields of the template, each with its length. */
export function fieldsOf(path: string, { digest = digestOf(path), extra }: Word = {}): Buffer {
  const [algorithm = '', value = ''] = digest.split(':')
  const fields = [Buffer.concat([Buffer.from(`${algorithm}:\0`), Buffer.from(value, 'hex')]), Buffer.from(`${path}\0`)]
  return Buffer.concat([...fields, ...(extra ? [extra] : [])].flatMap(field => [length(field), field]))
}

function length(field: Buffer): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(field.length)
  return bytes
}

function hashOf(algorithm: Hash, data: Buffer): string {
  return createHash(algorithm).update(data).digest('hex')
}

export function encodeList(lines: readonly string[]): Buffer {
  return Buffer.from(lines.map(line => `${line}\n`).join(''))
}

/** PCR 10 after all that: `undefined` stands for a violation. */
export function pcrOf(fields: readonly (Buffer | undefined)[], bank: Hash = 'sha256', template: Hash = bank): Buffer {
  const { size } = hashes[bank]
  return fields.reduce<Buffer>((value, data) => {
    const digest = Buffer.alloc(size)
    if (data) createHash(template).update(data).digest().copy(digest)
    else digest.fill(0xff, 0, hashes[template].size)
    return extend(bank, value, digest)
  }, Buffer.alloc(size))
}

/** All rounds at once. */
export function finish<T>(rounds: Generator<undefined, T, undefined>): T {
  let round = rounds.next()
  while (!round.done) round = rounds.next()
  return round.value
}
