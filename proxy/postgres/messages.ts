/** Messages of PostgreSQL's frontend/backend protocol 3.0, as far as it goes until a session is ready.
 *  @see PostgreSQL documentation, 55.7 Message Formats */

const PROTOCOL = 196_608
const SSL_REQUEST = 80_877_103
const GSS_REQUEST = 80_877_104
const CANCEL_REQUEST = 80_877_102
/** The server itself takes no longer ones; ours may hold a sealed token. */
export const MAX_STARTUP = 65_536

/** What a connection begins with. */
export type First =
  | { readonly kind: 'ssl' | 'gss' }
  | { readonly kind: 'cancel'; readonly processId: number; readonly secretKey: number }
  | Startup

export type Startup = {
  readonly kind: 'startup'
  readonly parameters: ReadonlyMap<string, string>
  /** of version 3 */
  readonly minor: number
}

/** Reads a first message, its length included. Undefined when it is none. */
export function readFirst(bytes: Buffer): First | undefined {
  if (bytes.length < 8 || bytes.readInt32BE(0) !== bytes.length) return undefined
  const code = bytes.readInt32BE(4)
  if (code === SSL_REQUEST && bytes.length === 8) return { kind: 'ssl' }
  if (code === GSS_REQUEST && bytes.length === 8) return { kind: 'gss' }
  if (code === CANCEL_REQUEST && bytes.length === 16)
    return { kind: 'cancel', processId: bytes.readInt32BE(8), secretKey: bytes.readInt32BE(12) }
  const minor = code - PROTOCOL
  const parameters = minor >= 0 && minor < 65_536 ? parametersIn(bytes.subarray(8)) : undefined
  return parameters && { kind: 'startup', parameters, minor }
}

/** What a client hears that asks for more than 3.0, or for options of the protocol: 3.0 it is, and which options are none. Undefined where it asks for neither.
 *  @see PostgreSQL documentation, 55.7: NegotiateProtocolVersion */
export function negotiate({ minor, parameters }: Startup): Buffer | undefined {
  const unknown = [...parameters.keys()].filter(name => name.startsWith('_pq_.'))
  if (minor === 0 && unknown.length === 0) return undefined
  return message('v', Buffer.concat([int32(PROTOCOL, unknown.length), texts(...unknown)]))
}

/** Pairs of texts, each with a zero behind it, and a zero at the end; none of them twice. */
function parametersIn(bytes: Buffer): ReadonlyMap<string, string> | undefined {
  if (bytes.length === 0 || bytes.at(-1) !== 0) return undefined
  const texts = bytes.subarray(0, -1).toString('utf8').split('\0')
  if (texts.pop() !== '' || texts.length % 2 !== 0) return undefined
  const parameters = new Map<string, string>()
  for (let at = 0; at < texts.length; at += 2) {
    const [name = '', value = ''] = texts.slice(at, at + 2)
    if (name === '' || parameters.has(name)) return undefined
    parameters.set(name, value)
  }
  return parameters
}

/** The text of a password message (`p`), its type and length included. */
export function readPassword(bytes: Buffer): string | undefined {
  const whole = bytes.length >= 6 && bytes.toString('latin1', 0, 1) === 'p' && bytes.readInt32BE(1) === bytes.length - 1
  return whole && bytes.at(-1) === 0 ? bytes.toString('utf8', 5, bytes.length - 1) : undefined
}

function message(type: string, body: Buffer): Buffer {
  const head = Buffer.alloc(5)
  head.write(type, 'latin1')
  head.writeInt32BE(body.length + 4, 1)
  return Buffer.concat([head, body])
}

const int32 = (...values: readonly number[]): Buffer => {
  const bytes = Buffer.alloc(4 * values.length)
  for (const [at, value] of values.entries()) bytes.writeInt32BE(value, 4 * at)
  return bytes
}

const texts = (...values: readonly string[]): Buffer => Buffer.from(values.map(value => `${value}\0`).join(''))

export const askPassword = (): Buffer => message('R', int32(3))
export const authenticated = (): Buffer => message('R', int32(0))
export const parameterStatus = (name: string, value: string): Buffer => message('S', texts(name, value))
export const backendKey = (processId: number, secretKey: number): Buffer => message('K', int32(processId, secretKey))
export const ready = (): Buffer => message('Z', Buffer.from('I'))

/** @param sqlState such as 28000, invalid_authorization_specification */
export function fatal(sqlState: string, text: string, detail?: string): Buffer {
  const details = detail === undefined ? [] : [`D${detail}`]
  return message('E', Buffer.concat([texts('SFATAL', 'VFATAL', `C${sqlState}`, `M${text}`, ...details), Buffer.alloc(1)]))
}

export function cancelRequest(processId: number, secretKey: number): Buffer {
  return Buffer.concat([int32(16, CANCEL_REQUEST), int32(processId, secretKey)])
}
