import { BrokerError } from '#engine'
import { isWhole, pairsOf } from '../query.ts'
import { BODY_BYTES } from './body.ts'
import { parseLargeJson } from './large_json.ts'

export type Parameters = Record<string, unknown>

/** What the body of a request says, on our mounts. @throws BrokerError bad_request */
export function parametersOf(type: string | undefined, body: Buffer): Parameters {
  return body.length > BODY_BYTES
    ? object(json(() => parseLargeJson(body)))
    : read(type, body, text => JSON.parse(text) as unknown)
}

/** What the body of a request on one of Vault's own paths says to Vault, which may read it after us: there a number is the text that was sent, `1e2` as
 *  well. Undefined where it is not certain that Vault reads the same, or would take too long to say. */
export function parametersAtVault(type: string | undefined, body: Buffer): Parameters | undefined {
  const isUtf8 = Buffer.from(body.toString('utf8')).equals(body)
  if (!isUtf8 || BLANK.test(body.toString('latin1', 0, LOOKED_AT))) return undefined
  try {
    return read(type, body, numbersAsText)
  } catch (error) {
    if (error instanceof BrokerError) return undefined
    throw error
  }
}

/** So much Vault looks at to tell JSON from a form: what begins later is a form to it, whatever it looks like. */
const LOOKED_AT = 512
const BLANK = new RegExp(`^[ \\t\\n\\r]{${LOOKED_AT}}`)

/** JSON, whatever the client calls it; a form only when it says so and the body does not look like JSON. */
function read(type = '', body: Buffer, parse: (text: string) => unknown): Parameters {
  const sent = body.toString('utf8')
  if (sent.trim() === '') return {}
  const isForm = FORM.test(type) && !/^[ \t\n\r]*[{[]/.test(sent)
  if (!isForm) return object(json(() => parse(sent)))
  if (!isWhole(sent)) throw new BrokerError('bad_request', 'error parsing form data')
  return inForm(pairsOf(sent))
}

const FORM = /^application\/x-www-form-urlencoded/i

/** A name that comes more than once has all its values in one, as Vault puts them together: once, as for each time that it comes would be as much as
 *  the body again, from somebody of whom nothing is known yet. */
function inForm(sent: URLSearchParams): Parameters {
  const named = Map.groupBy(sent, ([name]) => name)
  return Object.fromEntries(named.entries().map(([name, all]) => [name, all.map(([, value]) => value).join(',')]))
}

/** A name that comes more than once in a query has a list. */
export function parametersIn(sent: URLSearchParams): Parameters {
  const named = Map.groupBy(sent, ([name]) => name)
  return Object.fromEntries(
    named.entries().map(([name, all]) => [name, all.length > 1 ? all.map(([, value]) => value) : all[0]?.[1]]),
  )
}

function json(parse: () => unknown): unknown {
  try {
    return parse()
  } catch (error) {
    if (error instanceof BrokerError) throw error
    throw new BrokerError('bad_request', 'the body is no valid JSON', { cause: error })
  }
}

function object(value: unknown): Parameters {
  // `vault write -f` sends null for nothing
  if (value === null) return {}
  if (typeof value !== 'object' || Array.isArray(value)) throw new BrokerError('bad_request', 'the body is no JSON object')
  return value as Parameters
}

/** To be told how each number was spelled takes 30 times as long: anybody could keep everybody waiting with a long list of them. */
const SPELLED = 4096

/** Numbers as Go's json.Number has them. @throws SyntaxError for numbers in what is too long to ask how they were spelled */
function numbersAsText(text: string): unknown {
  if (text.length <= SPELLED)
    return JSON.parse(text, (_, value: unknown, context?: { readonly source?: string }) =>
      typeof value === 'number' ? context?.source : value,
    )
  const value: unknown = JSON.parse(text)
  if (holdsNumber(value)) throw new SyntaxError('numbers in a long text')
  return value
}

function holdsNumber(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return typeof value === 'number'
  return Object.values(value).some(holdsNumber)
}
