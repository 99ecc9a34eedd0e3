import { chmod } from 'node:fs/promises'
import { discard, scratch } from './scratch.ts'

/** What tests write in the temporary folder goes with the run, also when one of them does not come to its end. */
export async function setup(): Promise<() => Promise<void>> {
  const folder = await scratch('assay-tests-')
  await chmod(folder, 0o711) // servers of theirs run as other users, too
  process.env['TMPDIR'] = folder
  return () => discard(folder)
}
