import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import type { Tried } from './attacks.ts'

/** The tests that a row names stand where it says. */
export function expectTried(tried: readonly Tried[]): void {
  expect(tried.length).toBeGreaterThan(0)
  for (const one of tried) {
    const [file, ...words] = 'absent' in one ? one.shown : one
    const text = readFileSync(join(import.meta.dirname, file), 'utf8')
    expect(words.length).toBeGreaterThan(0)
    for (const word of words) expect(text).toContain(word)
  }
}
