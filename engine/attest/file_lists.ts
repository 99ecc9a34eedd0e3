import { readFileList } from '#attestation'
import { openCollection } from '../collection.ts'
import { BrokerError } from '../errors.ts'
import { required, text } from '../fields.ts'
import { openLargeStore } from '../vault/large.ts'
import type { Store } from '../vault/store.ts'

/** Characters that fit into a request. */
export const LIST_LIMIT = 1_000_000

const fileListFields = {
  files: required(
    text('Digests of files and their paths, a line each, as sha256sum prints them; a digest alone counts at any path.', {
      max: LIST_LIMIT,
    }),
  ),
  description: text('What the list is of.', { fallback: '' }),
}

/** Lists of files that machines may use, as sets of reference values name them. */
export function openFileLists(store: Store) {
  return openCollection(openLargeStore(store), 'ima', fileListFields, {
    check: ({ files }) => {
      const read = readFileList(files)
      if (!read.ok)
        throw new BrokerError('bad_request', `files: line ${read.line} is not a digest of SHA-256 or better, a space and a path`)
      if (read.files.size === 0) throw new BrokerError('bad_request', 'files: wanted at least one')
    },
  })
}
