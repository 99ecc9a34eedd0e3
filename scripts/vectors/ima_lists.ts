import { createHash } from 'node:crypto'
import { basename } from 'node:path'
import { appraiseImaList, type Bank, banks, hashes, type ImaRules, type PcrTable, readImaEntry } from '#attestation'
import { type Case, expectationOf, type Fields, fileIn, idOf, outcome } from './case.ts'
import { valuesIn } from './pcr_values.ts'

const IMA_PCR = 10
/** All that can be read: what is to be done with buffers, a policy says. */
const templates = ['ima-ng', 'ima-sig', 'ima-buf'] as const

/** A list of IMA, with the value that was quoted or without. */
export function imaList(folder: string, record: Fields, place: string): Case {
  const id = idOf(record, typeof record.file === 'string' ? basename(record.file) : place)
  const expected = expectationOf(record)
  return { id, expected, judge: () => judge(fileIn(folder, record.file), record) }
}

function judge(list: Buffer, record: Fields): string {
  const pcrs = record.pcrs ?? record.expected_pcrs
  if (pcrs === undefined || pcrs === null)
    return appraise(list, new Map([['sha256', new Map([[IMA_PCR, valueAfter(list)]])]]), record)
  const quoted = valuesIn(pcrs)
  return quoted.ok ? appraise(list, quoted.value, record) : quoted.code
}

function appraise(list: Buffer, table: PcrTable, record: Fields): string {
  const bank: Bank = banks.find(one => table.get(one)?.has(IMA_PCR)) ?? 'sha256'
  const measured = record.extends === 'padded-sha1' ? 'padded-sha1' : 'bank'
  const rules: ImaRules = { bank, extends: measured, bootAggregate: 'unchecked', templates }
  const rounds = appraiseImaList(list, table, rules)
  let round = rounds.next()
  while (!round.done) round = rounds.next()
  return outcome(round.value)
}

/** What PCR 10 would be after all lines that can be read: then nothing is left of the list but what is wrong with it. */
function valueAfter(list: Buffer): Buffer {
  let value: Buffer = Buffer.alloc(hashes.sha256.size)
  for (const line of list.toString('latin1').replace(/\n$/, '').split('\n')) {
    const entry = readImaEntry(line, { templates })
    if (!entry.ok) return Buffer.alloc(hashes.sha256.size, 1)
    const digest = createHash('sha256').update(entry.value.data).digest()
    value = createHash('sha256').update(value).update(digest).digest()
  }
  return value
}

/** Whether bytes of unknown origin are a list, by its first line. */
export function looksLikeImaList(bytes: Buffer): boolean {
  return /^ ?\d{1,2} [0-9a-f]{40,128} ima[a-z0-9-]* /.test(bytes.toString('latin1', 0, 256))
}
