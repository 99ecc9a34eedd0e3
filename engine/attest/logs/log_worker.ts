import { parentPort } from 'node:worker_threads'
import { LRUCache } from 'lru-cache'
import { type FileList, type PcrTable, readFileList } from '#attestation'
import { type Files, judgeLogs, type LogJob } from './log_job.ts'

// The thread in which logs are judged, one after the other. It holds nothing but lists of files that it has read.

type Known = { readonly texts: readonly string[]; readonly files: FileList }

/** By the keys of the lists: the lists of a set as one, since looking into each of them for every file takes longer than all else. */
const known = new LRUCache<string, Known>({ max: 16 })

function filesIn(lists: readonly Files[]): FileList {
  const key = JSON.stringify(lists.map(list => list.key))
  const before = known.get(key)
  if (before && lists.every(({ text }, at) => before.texts[at] === text)) return before.files
  const files = new Set(lists.flatMap(list => [...entriesOf(list)]))
  known.set(key, { texts: lists.map(({ text }) => text), files })
  return files
}

function entriesOf({ key, text }: Files): FileList {
  const read = readFileList(text)
  if (!read.ok) throw new Error(`the list of files ${key} was not checked when it was written`)
  return read.files
}

/** What crosses threads comes as plain bytes. */
function revived(job: LogJob): LogJob {
  const banks = [...job.quoted.pcrs].map(
    ([bank, values]) => [bank, new Map([...values].map(([pcr, value]) => [pcr, Buffer.from(value)]))] as const,
  )
  return { ...job, quoted: { ...job.quoted, pcrs: new Map(banks) satisfies PcrTable } }
}

parentPort?.on('message', (job: LogJob) => {
  try {
    parentPort?.postMessage({ shown: judgeLogs(revived(job), filesIn) })
  } catch (error) {
    parentPort?.postMessage({ failed: error instanceof Error ? (error.stack ?? error.message) : String(error) })
  }
})
