import { parentPort } from 'node:worker_threads'
import { LRUCache } from 'lru-cache'
import { type FileList, type PcrTable, readFileList } from '#attestation'
import { type Files, judgeLogs, type LogJob } from './log_job.ts'

// The thread in which logs are judged, one after the other. It holds nothing but lists of files that it has read.

const lists = new LRUCache<string, { readonly text: string; readonly files: FileList }>({ max: 64 })

function listOf({ key, text }: Files): FileList {
  const known = lists.get(key)
  if (known?.text === text) return known.files
  const read = readFileList(text)
  if (!read.ok) throw new Error(`the list of files ${key} was not checked when it was written`)
  lists.set(key, { text, files: read.files })
  return read.files
}

/** What crosses threads comes as plain bytes. */
function revived(job: LogJob): LogJob {
  const banks = [...job.quoted.pcrs].map(
    ([bank, values]) => [bank, new Map([...values].map(([pcr, value]) => [pcr, Buffer.from(value)]))] as const,
  )
  return { ...job, quoted: { ...job.quoted, pcrs: new Map(banks) satisfies PcrTable } }
}

parentPort?.on('message', ({ id, job }: { id: number; job: LogJob }) => {
  try {
    parentPort?.postMessage({ id, shown: judgeLogs(revived(job), listOf) })
  } catch (error) {
    parentPort?.postMessage({ id, failed: error instanceof Error ? (error.stack ?? error.message) : String(error) })
  }
})
