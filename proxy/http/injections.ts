import { accept, refuse } from '../refusals.ts'
import type { Fields, Injection } from './injection.ts'
import { aws } from './sigv4.ts'

const DONE = accept(undefined)

/** Fills the fields of the credential into a template; undefined when one is missing, or could end the place that it stands in. */
function fill(template: string, fields: Fields): string | undefined {
  let missing = false
  const text = template.replace(/\{([a-z_]+)\}/g, (_, name: string) => {
    const field = Object.hasOwn(fields, name) ? fields[name] : undefined
    missing ||= field === undefined
    return field?.reveal() ?? ''
  })
  return missing || /\p{Cc}/u.test(text) ? undefined : text
}

const lacking = (template: string) => refuse('CREDENTIAL_SHAPE', `the credential does not fill ${template}`)

function header({ name, value }: { name: string; value: string }): Injection {
  return {
    slots: [name.toLowerCase()],
    apply: (outgoing, { fields }) => {
      const text = fill(value, fields)
      if (text === undefined || !/^[\x20-\x7e\x80-\xff]*$/.test(text)) return lacking(value)
      outgoing.headers.push(name, text)
      return DONE
    },
  }
}

function query({ name, value }: { name: string; value: string }): Injection {
  return {
    slots: [],
    apply: (outgoing, { fields }) => {
      const text = fill(value, fields)
      if (text === undefined) return lacking(value)
      const rest = without(outgoing.query, name)
      outgoing.query = `${rest === '' ? '?' : `${rest}&`}${name}=${encodeURIComponent(text)}`
      return DONE
    },
  }
}

/** The query without a parameter, in whatever spelling it was there; the others stay as they are. */
export function without(text: string, name: string): string {
  if (text === '') return ''
  const kept = text
    .slice(1)
    .split('&')
    .filter(one => one !== '' && [...new URLSearchParams(one).keys()][0] !== name)
  return kept.length > 0 ? `?${kept.join('&')}` : ''
}

function basic({ user, password }: { user: string; password: string }): Injection {
  const encoded = (fields: Fields) => {
    const [name, word] = [user === '' ? '' : fill(user, fields), fill(password, fields)]
    return name === undefined || name.includes(':') || word === undefined
      ? undefined
      : Buffer.from(`${name}:${word}`).toString('base64')
  }
  return {
    slots: ['authorization'],
    apply: (outgoing, { fields }) => {
      const text = encoded(fields)
      if (text === undefined) return lacking(password)
      outgoing.headers.push('Authorization', `Basic ${text}`)
      return DONE
    },
    spelled: fields => [encoded(fields) ?? ''],
  }
}

/** How a value is spelled in a body of one type, and what stands in a field of such a body. */
type BodyType = {
  readonly type: RegExp
  readonly spell: (text: string) => string
  readonly read: (body: string, field: string) => readonly unknown[]
}

const bodyTypes: readonly BodyType[] = [
  {
    type: /^application\/(?:[a-z0-9.+-]+\+)?json\s*(?:;|$)/i,
    spell: text => JSON.stringify(text).slice(1, -1),
    read: (body, field) => [memberOf(body, field.split('/'))],
  },
  {
    type: /^application\/x-www-form-urlencoded\s*(?:;|$)/i,
    spell: encodeURIComponent,
    // some servers part fields there too
    read: (body, field) => (body.includes(';') ? [] : new URLSearchParams(body).getAll(field)),
  },
]

/** Charsets in which what is ASCII reads as ASCII: in UTF-7, which Express takes, a member can end where here it does not. */
const CHARSET = /;\s*charset="?(?:utf-?8|us-ascii|iso-8859-1)"?\s*(?=;|$)/gi

/** The type of a body that everybody reads alike. */
function typeOf(contentType: string): BodyType | undefined {
  const isPlain = !/charset/i.test(contentType.replace(CHARSET, ''))
  return isPlain ? bodyTypes.find(({ type }) => type.test(contentType)) : undefined
}

function memberOf(body: string, names: readonly string[]): unknown {
  try {
    return names.reduce(
      (found, name) => (isObject(found) && Object.hasOwn(found, name) ? found[name] : undefined),
      JSON.parse(body),
    )
  } catch {
    return undefined
  }
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> => typeof value === 'object' && value !== null

type DeclaredBody = { readonly placeholder: string; readonly value: string; readonly field?: string | undefined }

function body({ placeholder, value, field }: DeclaredBody): Injection {
  return {
    slots: ['content-length'],
    apply: async (outgoing, { head, fields, body: held }) => {
      const kind = typeOf(head.values.get('content-type') ?? '')
      if (!kind || head.values.has('content-encoding')) return refuse('BODY', 'neither JSON nor a form, or in another charset')
      const text = fill(value, fields)
      if (text === undefined) return lacking(value)
      const read = await held()
      if (!read.ok) return read
      const filled = replaceOnce(read.value, Buffer.from(placeholder), Buffer.from(kind.spell(text)))
      if (!filled || !isUtf8(filled)) return refuse('BODY', 'the placeholder is not there once, or it is no UTF-8')
      // looked for where it went: a placeholder that is spelled otherwise could stand in the field, and this one elsewhere
      const there = field === undefined || kind.read(filled.toString('utf8'), field).some(one => includes(one, text))
      if (!there) return refuse('BODY', 'the placeholder is not in its field')
      outgoing.body = filled
      outgoing.headers.push('Content-Length', String(filled.length))
      return DONE
    },
  }
}

const isUtf8 = (bytes: Buffer) => Buffer.from(bytes.toString('utf8')).equals(bytes)

const includes = (found: unknown, text: string) => typeof found === 'string' && found.includes(text)

function replaceOnce(bytes: Buffer, wanted: Buffer, by: Buffer): Buffer | undefined {
  const at = bytes.indexOf(wanted)
  if (at < 0 || bytes.includes(wanted, at + 1)) return undefined
  return Buffer.concat([bytes.subarray(0, at), by, bytes.subarray(at + wanted.length)])
}

/** Every place, by the name that a configuration gives. */
export const injections = { header, query, basic, body, aws } as const
