import { printable } from './printable.ts'
import type { World } from './world.ts'

const LONGEST = 1000

/** One line for a person; some of what is said here others wrote. */
export function sayTo({ err }: Pick<World, 'err'>): (message: string) => void {
  return message => err(`assay agent: ${printable(message).slice(0, LONGEST)}\n`)
}
