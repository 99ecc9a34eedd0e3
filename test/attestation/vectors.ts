import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll } from 'vitest'

const folder = join(import.meta.dirname, '../../../shared/vectors')

/** Whether the vectors stand beside the project; without them their tests are skipped, aloud. */
export const present = existsSync(folder)
if (!present) console.error(`no vectors at ${folder}: the tests over them are skipped`)

export function readBytes(file: string): Buffer {
  return readFileSync(join(folder, file))
}

/** The parsed file, or `empty` when there are no vectors at all. */
export function readJson<T>(file: string, empty: T): T {
  return present ? (JSON.parse(readFileSync(join(folder, file), 'utf8')) as T) : empty
}

/** Says after the tests of a file how many vectors ran. */
export function counted(what: string): () => void {
  let ran = 0
  afterAll(() => console.error(`${what}: ${ran} vectors ran`))
  return () => {
    ran += 1
  }
}

export const unhex = (text: string): Buffer => Buffer.from(text, 'hex')
