import type { World } from './world.ts'

const LONGEST = 1000

/** One line for a person. A terminal obeys control characters, and some of what is said here others wrote. */
export function sayTo({ err }: Pick<World, 'err'>): (message: string) => void {
  return message => err(`assay agent: ${message.replace(/[^\P{C}]+/gu, ' ').slice(0, LONGEST)}\n`)
}
