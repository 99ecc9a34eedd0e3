import { Secret } from '../secret.ts'
import { type Next, StoreFault } from './store.ts'

const MAX_FIELDS = 64
/** Of a field of a root credential. */
export const NAME = /^[A-Za-z][A-Za-z0-9_.-]{0,63}$/

/** Reads what a foreign store holds: a JSON object of texts, numbers and objects is one field each, any other text is the field `value`.
 *  @throws StoreFault malformed; what was read is never in it */
export function fieldsOf(text: string): Readonly<Record<string, Secret>> {
  if (text === '') throw new StoreFault('malformed', 'it holds an empty text')
  return text.trimStart().startsWith('{') ? objectFields(parsed(text)) : { value: new Secret(text) }
}

export function objectFields(value: unknown): Readonly<Record<string, Secret>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new StoreFault('malformed', 'it holds no JSON object')
  const entries = Object.entries(value)
  if (entries.length === 0 || entries.length > MAX_FIELDS)
    throw new StoreFault('malformed', `wanted 1 to ${MAX_FIELDS} fields in it`)
  if (entries.some(([name]) => !NAME.test(name))) throw new StoreFault('malformed', 'it holds a field without a proper name')
  return Object.fromEntries(entries.map(([name, one]) => [name, new Secret(textOf(one))]))
}

/** As it is written to a foreign store: one field `value` alone as its text, all else as a JSON object, so that it is read as it was written. */
export function textOfFields(fields: Next['fields']): Secret {
  const names = Object.keys(fields)
  if (names.length === 1 && names[0] === 'value' && fields['value']) {
    const text = fields['value'].reveal()
    if (text !== '' && !text.trimStart().startsWith('{')) return new Secret(text)
  }
  return new Secret(JSON.stringify(Object.fromEntries(Object.entries(fields).map(([name, one]) => [name, one.reveal()]))))
}

function textOf(value: unknown): string {
  if (typeof value === 'string') return value
  if (typeof value === 'number' || typeof value === 'boolean') return String(value)
  if (typeof value === 'object' && value !== null) return JSON.stringify(value)
  throw new StoreFault('malformed', 'it holds a field without a value')
}

/** What the parser says quotes the text. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new StoreFault('malformed', 'it begins as a JSON object and is none')
  }
}
