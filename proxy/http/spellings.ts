/** How a value may stand in an answer, as the bytes of latin-1 text. */
export function spellings(value: string): readonly string[] {
  const bytes = Buffer.from(value)
  const raw = bytes.toString('latin1')
  const hex = bytes.toString('hex')
  const spaced = hex.replace(/..(?!$)/g, '$& ') // S3, of a request whose signature is wrong
  const escaped = escapes(value)
  const percent = [...bytes].map(byte => `%${byte.toString(16).padStart(2, '0')}`).join('')
  const spelled = [
    ...inJson(value),
    escaped,
    escapedUpper(escaped),
    ...inUrl(value.toWellFormed()).flatMap(text => [text, text.replace(/%../g, one => one.toLowerCase())]),
    percent,
    percent.toUpperCase(),
    ...inMarkup(value),
  ]
  return [
    raw,
    hex,
    hex.toUpperCase(),
    spaced,
    spaced.toUpperCase(),
    ...base64s(bytes),
    ...spelled.map(text => Buffer.from(text).toString('latin1')),
  ]
}

/** Every unit as `\u00e9`. */
const escapes = (text: string) =>
  Array.from({ length: text.length }, (_, at) => `\\u${text.charCodeAt(at).toString(16).padStart(4, '0')}`).join('')
const escapedUpper = (escaped: string) => escaped.replace(/\\u..../g, one => `\\u${one.slice(2).toUpperCase()}`)

/** As those who write JSON do it that escape more than they have to. */
function inJson(value: string): readonly string[] {
  const json = JSON.stringify(value).slice(1, -1)
  const beyond = json.replace(/[^\0-\x7f]/g, escapes) // Python, Ruby
  const quoted = beyond.replaceAll('\\"', '\\u0022') // .NET
  return [
    json,
    json.replaceAll('/', '\\/'),
    beyond,
    beyond.replaceAll('/', '\\/'), // PHP
    json.replace(/[<>&]/g, escapes), // Go
    json.replace(/[<>&=']/g, escapes), // Gson
    escapedUpper(quoted.replace(/[<>&'+`]/g, escapes)),
  ]
}

/** As those who write URLs and forms do it that encode more than they have to, or less. */
function inUrl(value: string): readonly string[] {
  const url = encodeURIComponent(value)
  const strict = url.replace(/[!'()*]/g, one => `%${one.charCodeAt(0).toString(16).toUpperCase()}`) // RFC 3986
  const form = strict.replaceAll('%20', '+')
  return [
    url,
    url.replaceAll('%20', '+'),
    encodeURI(value),
    strict,
    strict.replaceAll('%2F', '/'), // Python
    form,
    form.replaceAll('%2A', '*').replaceAll('~', '%7E'), // the URL standard, Java
  ]
}

/** How pages and XML escape beside `&amp;`, `&lt;` and `&gt;`. */
const MARKUP: readonly Readonly<Record<string, string>>[] = [
  {}, // between tags
  { '"': '&quot;' }, // PHP
  { '"': '&quot;', "'": '&apos;' }, // XML
  { '"': '&quot;', "'": '&#39;' }, // Ruby, Express
  { '"': '&quot;', "'": '&#039;' }, // PHP
  { '"': '&quot;', "'": '&#x27;' }, // Python
  { '"': '&#34;', "'": '&#39;' }, // Go, Jinja
  { '"': '&quot;', "'": '&#39;', '/': '&#x2F;', '`': '&#x60;', '=': '&#x3D;' }, // Mustache
  { '"': '&quot;', "'": '&#x27;', '`': '&#x60;', '=': '&#x3D;' }, // Handlebars
  { '"': '&quot;', "'": '&#x27;', '`': '&#x60;', '+': '&#x2B;' }, // .NET
]

/** As templates and libraries for XML escape it. */
function inMarkup(value: string): readonly string[] {
  const escapes = MARKUP.map(more => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', ...more }) as Readonly<Record<string, string>>)
  return escapes.map(named => value.replace(/[&<>"'/`=+]/g, one => named[one] ?? one))
}

/** As it stands in base64 of something longer: by where it begins in a group of three bytes, without the characters that its neighbours share. */
function base64s(bytes: Buffer): readonly string[] {
  return [0, 1, 2].flatMap(before => {
    const text = Buffer.concat([Buffer.alloc(before), bytes]).toString('base64')
    const shared = [0, 2, 3][before] ?? 0
    const spare = (before + bytes.length) % 3
    const inner = text.replace(/=+$/, '').slice(shared, spare === 0 ? undefined : -1)
    return [inner, inner.replaceAll('+', '-').replaceAll('/', '_')]
  })
}
