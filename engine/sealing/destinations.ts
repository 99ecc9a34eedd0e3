import { type Field, list } from '../fields.ts'

/** A comma that no method stands before. */
const BETWEEN_RULES = /(?<!(?:^|,)\s*[A-Z]+),/

/** Rules of where sealed tokens may go, as a list or in one text: there the commas between methods part nothing. */
export function destinationsIn(description: string): Field<readonly string[]> {
  const field = list(description)
  return { ...field, read: raw => field.read(typeof raw === 'string' ? raw.split(BETWEEN_RULES) : raw) }
}
