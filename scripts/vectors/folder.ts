import { existsSync, globSync, readFileSync, statSync } from 'node:fs'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { attackQuote } from './attack_quotes.ts'
import { attestVector } from './attest_vectors.ts'
import { type Case, expectationOf, type Fields, idOf, isFields, Unusable } from './case.ts'
import { authority, certificatesIn, chain, ekCertificate, type Makers } from './certificates.ts'
import { creation } from './creations.ts'
import { credential } from './credentials.ts'
import { attackLog, eventLog, looksLikeEventLog } from './event_logs.ts'
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
  const files = globSync('**/*', { cwd: root, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name))
    .toSorted()
  const search: Search = { root, files, taken: new Set(), unknown: [], makers: makersNear(root, files, at) }
  const evidence = [...indexed(search), ...sets(search), ...single(search)]
  const cases = evidence.length > 0 ? evidence : authorities(search)
  if (cases.length === 0) throw new Unusable(search.unknown[0] ?? `there are no vectors in ${folder}`)
  return { cases, unknown: search.unknown }
}

type Search = {
  readonly root: string
  readonly files: readonly string[]
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
  const entries = (list: unknown) => here(list, folder, search)
  if (!isFields(listed)) return []
  return [
    ...entries(listed.quotes_and_certifies).map(entry => attestOf(folder, entry, search)),
    ...entries(listed.event_logs).map(entry => eventLog(folder, entry, String(entry.file))),
    ...entries(listed.ima_logs).map(entry => imaList(folder, entry, String(entry.file))),
    ...entries(listed.ek_certs).map(entry => ekCertificate(folder, entry, search.makers)),
  ]
}

/** The entries whose files are there and in the folder that was asked for. */
function here(list: unknown, folder: string, { files, taken }: Search): Fields[] {
  const entries = Array.isArray(list) ? list.filter(isFields) : []
  return entries.filter(({ file }) => {
    const path = join(folder, String(file))
    if (files.includes(path)) taken.add(path)
    return files.includes(path)
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
      const records = Array.isArray(list) ? list.filter(isFields) : []
      if (records.length > 0 || read === undefined) search.taken.add(file)
      return records.map((record, at) => caseOf(record, records, { file, place: `${basename(file)}#${at}`, taken: search.taken }))
    })
}

type Place = { readonly file: string; readonly place: string; readonly taken: Set<string> }

/** Kinds of cases by what no other kind has. */
function caseOf(record: Fields, set: readonly Fields[], { file, place, taken }: Place): Case {
  const folder = dirname(file)
  for (const name of [record.file, record.files, record.chain, record.trustAnchor].flat())
    if (typeof name === 'string') taken.add(join(folder, name))
  if (record.creation_data_hex !== undefined) return creation(record, place)
  if (record.policy !== undefined || record.stage !== undefined) return attackQuote(record, place, set)
  if (record.attest_hex !== undefined) return attestVector(record, place)
  if (record.chain !== undefined) return chain(folder, record, place)
  if (record.modulus_hex !== undefined || record.e !== undefined) return weakKey(record, place, set)
  if (record.secret_hex !== undefined) return credential(record, place)
  if (record.file !== undefined || record.files !== undefined) return attackLog(folder, record, place)
  const judge = () => {
    throw new Unusable('a case of no kind that is known here')
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

function singleCase(file: string, search: Search): Case | undefined {
  const name = relative(search.root, file)
  if (file.endsWith('.json')) {
    const vector = readJson(file, search)
    return isFields(vector) && vector.attest_hex !== undefined ? attestVector(vector, name) : undefined
  }
  if (file.endsWith('.der')) return ekCertificate(search.root, { file: name }, search.makers)
  const bytes = readFileSync(file)
  if (looksLikeImaList(bytes)) return imaList(search.root, { id: name, file: name }, name)
  return looksLikeEventLog(basename(file), bytes) ? eventLog(search.root, { file: name }, name) : undefined
}

/** Every certificate in a bundle of intermediates, below the roots. */
function authorities({ root, files, makers }: Search): Case[] {
  return files.filter(isIntermediate).flatMap(file => {
    const certificates = certificatesIn(readFileSync(file, 'utf8'))
    return certificates.map((der, at) => authority(`${relative(root, file)}#${at}`, der, makers))
  })
}

const isIntermediate = (file: string) => file.endsWith('.pem') && /intermediate/i.test(basename(file))

/** The bundles of makers in the folder, or in the one that it lies in. */
function makersNear(root: string, files: readonly string[], at: Date): Makers {
  const beside = globSync('tpm-ca/**/*.pem', { cwd: dirname(root) }).map(file => join(dirname(root), file))
  const bundles = [...new Set([...files.filter(file => file.endsWith('.pem')), ...beside])]
  const read = (some: readonly string[]) => some.flatMap(file => certificatesIn(readFileSync(file, 'utf8')))
  return { roots: read(bundles.filter(file => !isIntermediate(file))), intermediates: read(bundles.filter(isIntermediate)), at }
}

function readJson(file: string, { unknown, root }: Search): unknown {
  try {
    return JSON.parse(readFileSync(file, 'utf8'))
  } catch (error) {
    unknown.push(`${relative(root, file)} cannot be read as JSON: ${error instanceof Error ? error.message : 'no reason given'}`)
    return undefined
  }
}
