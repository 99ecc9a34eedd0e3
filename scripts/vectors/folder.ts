import { existsSync, globSync, readFileSync, statSync } from 'node:fs'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { attackQuote } from './attack_quotes.ts'
import { attestVector } from './attest_vectors.ts'
import { type Case, expectationOf, type Fields, fileIn, idOf, isFields, Unusable } from './case.ts'
import { authority, certificatesIn, chain, ekCertificate, type Makers } from './certificates.ts'
import { creation } from './creations.ts'
import { credential } from './credentials.ts'
import { attackLog, eventLog, looksLikeEventLog } from './event_logs.ts'
import { filesBelow, reasonOf, startOf } from './files.ts'
import { imaList, looksLikeImaList } from './ima_lists.ts'
import { weakKey } from './weak_keys.ts'

export type Found = {
  readonly cases: readonly Case[]
  /** files that are of no kind that is known here, and why: in sentences */
  readonly unknown: readonly string[]
}

/**
 * The cases in a folder of vectors, or in one of its sub-folders: what `index.json` lists, sets in `cases.json` by what is in them,
 * and what is left by its content; where nothing else is, the CAs of makers. The index may also lie beside a sub-folder.
 * @param at when certificates are judged that have no time of their own
 * @throws Unusable when there is no such folder, or nothing in it that can be judged
 */
export function casesIn(folder: string, at: Date): Found {
  if (!existsSync(folder)) throw new Unusable(`there is no folder ${folder}`)
  if (!statSync(folder).isDirectory()) throw new Unusable(`${folder} is a file: give the folder that it is in`)
  const root = resolve(folder)
  const unknown: string[] = []
  const files = filesBelow(root, (path, reason) => unknown.push(`${relative(root, path) || '.'} cannot be read: ${reason}`))
  const search: Search = { root, files, listed: new Set(files), taken: new Set(), unknown, makers: makersNear(root, files, at) }
  const evidence = [...indexed(search), ...sets(search), ...single(search)]
  const cases = evidence.length > 0 ? evidence : authorities(search)
  if (cases.length === 0) throw new Unusable(search.unknown[0] ?? `there are no vectors in ${folder}`)
  return { cases, unknown: search.unknown }
}

type Search = {
  readonly root: string
  readonly files: readonly string[]
  /** the same, to look one up */
  readonly listed: ReadonlySet<string>
  /** files that belong to a case */
  readonly taken: Set<string>
  readonly unknown: string[]
  readonly makers: Makers
}

// what an index lists

function indexed(search: Search): Case[] {
  const indices = search.files.filter(file => basename(file) === 'index.json')
  const beside = join(dirname(search.root), 'index.json')
  const all = indices.length === 0 && existsSync(beside) ? [beside] : indices
  return all.flatMap(index => casesOfIndex(index, search))
}

function casesOfIndex(index: string, search: Search): Case[] {
  search.taken.add(index)
  const listed = readJson(index, search)
  const folder = dirname(index)
  const entries = (list: unknown) => here(list, index, search)
  if (!isFields(listed)) return []
  return [
    ...entries(listed.quotes_and_certifies).map(entry => attestOf(folder, entry, search)),
    ...entries(listed.event_logs).map(entry => eventLog(folder, entry, String(entry.file))),
    ...entries(listed.ima_logs).map(entry => imaList(folder, entry, String(entry.file))),
    ...entries(listed.ek_certs).map(entry => ekCertificate(folder, entry, search.makers)),
  ]
}

/** The entries whose files are there. An index in the folder that was asked for should list no others; one beside it does. */
function here(list: unknown, index: string, { listed, taken, unknown, root }: Search): Fields[] {
  const entries = Array.isArray(list) ? list.filter(isFields) : []
  return entries.filter(({ file }) => {
    const path = join(dirname(index), String(file))
    if (listed.has(path)) taken.add(path)
    else if (listed.has(index)) unknown.push(`${relative(root, index)} lists ${String(file)}, which is not there`)
    return listed.has(path)
  })
}

/** The vector says what is in it, the index what is expected. */
function attestOf(folder: string, entry: Fields, search: Search): Case {
  const vector = readJson(join(folder, String(entry.file)), search)
  return attestVector({ ...(isFields(vector) ? vector : {}), ...entry }, String(entry.file))
}

// sets of cases in one file

function sets(search: Search): Case[] {
  return search.files
    .filter(file => file.endsWith('.json') && !search.taken.has(file))
    .flatMap(file => {
      const read = readJson(file, search)
      const list = isFields(read) ? read.cases : read
      const entries: readonly unknown[] = Array.isArray(list) ? list : []
      const records = entries.filter(isFields)
      if (records.length > 0 || read === undefined) search.taken.add(file)
      return records.length === 0
        ? []
        : entries.map((entry, at) => caseOf(entry, records, { file, place: `${basename(file)}#${at}`, search }))
    })
}

type Place = { readonly file: string; readonly place: string; readonly search: Search }

/** Kinds of cases by what no other kind has. */
function caseOf(record: unknown, set: readonly Fields[], { file, place, search }: Place): Case {
  if (!isFields(record)) return unusable({}, place, 'the case is not an object')
  const folder = dirname(file)
  for (const name of [record.file, record.files, record.chain, record.trustAnchor].flat())
    if (typeof name === 'string') search.taken.add(join(folder, name))
  if (record.creation_data_hex !== undefined) return creation(record, place)
  if (record.policy !== undefined || record.stage !== undefined) return attackQuote(record, place, set)
  if (record.attest_hex !== undefined) return attestVector(record, place)
  if (record.chain !== undefined) return chain(folder, record, place)
  if (record.modulus_hex !== undefined || record.e !== undefined) return weakKey(record, place, set)
  if (record.secret_hex !== undefined) return credential(record, place)
  if (record.file === undefined && record.files === undefined)
    return unusable(record, place, 'a case of no kind that is known here')
  if (String(record.file).endsWith('.der')) return ekCertificate(folder, record, search.makers)
  if (looksLikeImaList(startOrNothing(join(folder, String(record.file))))) return imaList(folder, record, place)
  return attackLog(folder, record, place)
}

function unusable(record: Fields, place: string, reason: string): Case {
  const judge = () => {
    throw new Unusable(reason)
  }
  return { id: idOf(record, place), expected: expectationOf(record), judge }
}

// what is left, by its content

function single(search: Search): Case[] {
  return search.files
    .filter(file => !search.taken.has(file))
    .flatMap(file => {
      const found = singleCase(file, search)
      if (!found && !isCompanion(file))
        search.unknown.push(`${relative(search.root, file)} is no vector of a kind that is known here`)
      return found ?? []
    })
}

/** What lies beside vectors and is none: licences, readable pages, and bundles of trust anchors with their lists. */
function isCompanion(file: string): boolean {
  return /^(?:LICEN[CS]E|COPYING|NOTICE|README)|\.(?:md|ya?ml|pem|crt|cer)$/i.test(basename(file))
}

/** Enough to see of which kind a file is. */
const START = 4096

function singleCase(file: string, search: Search): Case | undefined {
  const name = relative(search.root, file)
  if (file.endsWith('.json')) {
    const vector = readJson(file, search)
    return isFields(vector) && isCase(vector) ? caseOf(vector, [vector], { file, place: name, search }) : undefined
  }
  if (file.endsWith('.der')) return ekCertificate(search.root, { file: name }, search.makers)
  const start = startOrNothing(file)
  if (looksLikeImaList(start)) return imaList(search.root, { id: name, file: name }, name)
  return looksLikeEventLog(basename(file), start) ? eventLog(search.root, { file: name }, name) : undefined
}

/** A case by itself names its bytes, or what is expected of something that is not known here. */
function isCase({ attest_hex: attest, modulus_hex: modulus, secret_hex: secret, chain: path, expected }: Fields): boolean {
  return [attest, modulus, secret, path, expected].some(member => member !== undefined)
}

/** What cannot be read is told so when it is judged. */
function startOrNothing(file: string): Buffer {
  try {
    return startOf(file, START)
  } catch {
    return Buffer.alloc(0)
  }
}

/** Every certificate in a bundle of intermediates, below the roots. */
function authorities({ root, files, makers }: Search): Case[] {
  return files.filter(isIntermediate).flatMap(file => {
    const certificates = bundleIn(file)
    return certificates.map((der, at) => authority(`${relative(root, file)}#${at}`, der, makers))
  })
}

const isBundle = (file: string) => file.endsWith('.pem') && /root|anchor|\bca\b|intermediate/i.test(basename(file))
const isIntermediate = (file: string) => isBundle(file) && /intermediate/i.test(basename(file))

/** The bundles of makers in the folder, or in the one that it lies in: a certificate that is judged is no bundle, whatever its form. */
function makersNear(root: string, files: readonly string[], at: Date): Makers {
  const beside = globSync('tpm-ca/**/*.pem', { cwd: dirname(root) }).map(file => join(dirname(root), file))
  const bundles = [...new Set([...files, ...beside])].filter(isBundle)
  const read = (some: readonly string[]) => some.flatMap(bundleIn)
  return { roots: read(bundles.filter(file => !isIntermediate(file))), intermediates: read(bundles.filter(isIntermediate)), at }
}

function bundleIn(file: string): Buffer[] {
  try {
    return certificatesIn(fileIn(dirname(file), basename(file)).toString('latin1'))
  } catch (error) {
    if (error instanceof Unusable) return []
    throw error
  }
}

/** The longest text that can be read as JSON at once. */
const MOST_JSON = 2 ** 28

function readJson(file: string, { unknown, root }: Search): unknown {
  try {
    if (statSync(file).size > MOST_JSON) throw new Unusable(`it has more than ${MOST_JSON} bytes`)
    return JSON.parse(readFileSync(file, 'utf8').replace(/^\ufeff/, ''))
  } catch (error) {
    unknown.push(`${relative(root, file)} cannot be read as JSON: ${reasonOf(error)}`)
    return undefined
  }
}
