import {
  appraiseReferences,
  type FileList,
  type ImaReference,
  type Logs,
  type Quoted,
  type Reference,
  type Shown,
} from '#attestation'

/** A list of files by the key under which it is kept, and as text. */
export type Files = { readonly key: string; readonly text: string }

/** A set of reference values whose lists of files are not read yet: that takes a while. */
export type Wanted = Omit<Reference, 'ima'> & {
  readonly ima?: Omit<ImaReference, 'lists'> & { readonly files?: readonly Files[] }
}

/** What is judged apart from the rest of the service. */
export type LogJob = {
  readonly logs: Logs
  readonly quoted: Quoted
  readonly references: readonly Wanted[]
  /** whether to list all files of IMA */
  readonly listing: boolean
}

/** Judges it to the end. @param read reads lists of files into one, or knows it from before */
export function judgeLogs({ logs, quoted, references, listing }: LogJob, read: ReadFiles): Shown {
  const rounds = appraiseReferences(
    logs,
    quoted,
    references.map(wanted => referenceOf(wanted, read)),
    { listing },
  )
  let round = rounds.next()
  while (!round.done) round = rounds.next()
  return round.value
}

export type ReadFiles = (files: readonly Files[]) => FileList

function referenceOf({ ima, ...wanted }: Wanted, read: ReadFiles): Reference {
  if (ima === undefined) return wanted
  const { files, ...rules } = ima
  return { ...wanted, ima: { ...rules, ...(files && { lists: [read(files)] }) } }
}
