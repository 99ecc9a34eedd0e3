import type { World } from './world.ts'

/** One line for a person. */
export function sayTo({ err }: Pick<World, 'err'>): (message: string) => void {
  return message => err(`assay agent: ${message}\n`)
}
