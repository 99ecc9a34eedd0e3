import { createHash } from 'node:crypto'
import { parse, type Reader, Writer } from '#attestation'
import type { Answer, Authorization } from './authorization.ts'
import { type CommandName, commandCodes, HEADER_SIZE, sessionAttribute, tag } from './codes.ts'
import { fault, refused } from './errors.ts'
import type { Transport } from './transport.ts'
import { inTurn } from './turn.ts'

/** A handle and what stands for it in the hash of the command: the Name of a key or NV index, the handle itself for everything else. */
export type Entity = { readonly handle: number; readonly name: Uint8Array }

/** One command. Authorisations come in the order of the handles that need one; those after them protect parameters only. */
export type Command<T> = {
  readonly name: CommandName
  readonly handles?: readonly Entity[]
  readonly authorizations?: readonly Authorization[]
  readonly parameters?: Uint8Array
  /** whether the response begins with a handle */
  readonly givesHandle?: boolean
  /** Reads the response parameters to their end. @param handle 0 when the response has none */
  readonly read: (reader: Reader, handle: number) => T
}

/** A TPM that commands are sent to, one at a time. */
export type Tpm = AsyncDisposable & {
  /** @throws TpmError when the TPM refuses, does not answer, or answers something else than a response to this command */
  run<T>(command: Command<T>): Promise<T>
  close(): Promise<void>
}

const RESPONSE_LIMIT = 65_536

/** A TPM at the far end of a transport; closing it closes the transport. */
export function tpmOver(transport: Transport): Tpm {
  const turn = inTurn()
  return {
    // a session's nonces change with each command, so the next one is built after this one's answer was taken
    run: command => turn(() => runOne(transport, command)),
    close: () => transport.close(),
    [Symbol.asyncDispose]: () => transport.close(),
  }
}

/** Most handles are their own name (Part 1, "Names"): PCRs, sessions and permanent handles. */
export function entity(handle: number): Entity {
  return { handle, name: u32(handle) }
}

async function runOne<T>(transport: Transport, command: Command<T>): Promise<T> {
  const authorizations = command.authorizations ?? []
  const response = await transport.transmit(build(command, authorizations))
  const code = response.readUInt32BE(6)
  if (code !== 0) throw refused(command.name, code)
  const { handle, parameters } = open(command, authorizations, response)
  const read = parse(parameters, RESPONSE_LIMIT, reader => command.read(reader, handle))
  if (!read.ok) throw malformed(command.name, read.detail)
  return read.value
}

function build(command: Command<unknown>, authorizations: readonly Authorization[]): Buffer {
  const handles = command.handles ?? []
  const nonces = authorizations.map(authorization => authorization.nonce())
  const parameters = authorizations
    .filter(({ attributes }) => attributes & sessionAttribute.decrypt)
    .reduce<Buffer>((clear, authorization) => authorization.encrypt(clear), Buffer.from(command.parameters ?? []))
  const code = commandCodes[command.name]
  const hash = sha256(u32(code), ...handles.map(({ name }) => name), parameters) // cpHash
  const area = new Writer()
  authorizations.forEach((authorization, index) => {
    area.u32(authorization.handle).sized(nonces[index] ?? Buffer.alloc(0))
    area.u8(authorization.attributes).sized(authorization.prove(hash))
  })
  const body = new Writer()
  for (const { handle } of handles) body.u32(handle)
  if (authorizations.length > 0) body.u32(area.done().length).bytes(area.done())
  return framed(authorizations.length > 0 ? tag.SESSIONS : tag.NO_SESSIONS, code, body.bytes(parameters).done())
}

function framed(kind: number, code: number, body: Uint8Array): Buffer {
  return new Writer()
    .u16(kind)
    .u32(HEADER_SIZE + body.length)
    .u32(code)
    .bytes(body)
    .done()
}

type Opened = { readonly handle: number; readonly parameters: Buffer }

/** Takes a successful response apart, checks every session's answer over it, and decrypts what came encrypted. */
function open(command: Command<unknown>, authorizations: readonly Authorization[], response: Buffer): Opened {
  const wanted = authorizations.length > 0 ? tag.SESSIONS : tag.NO_SESSIONS
  if (response.readUInt16BE(0) !== wanted) throw malformed(command.name, 'the tag is not that of the command')
  const split = parse(response.subarray(HEADER_SIZE), RESPONSE_LIMIT, reader =>
    parts(reader, command.givesHandle ?? false, authorizations),
  )
  if (!split.ok) throw malformed(command.name, split.detail)
  const { handle, parameters, answers } = split.value
  const hash = sha256(u32(0), u32(commandCodes[command.name]), parameters) // rpHash
  for (const [index, authorization] of authorizations.entries())
    authorization.check(answers[index] ?? missing(command.name), hash)
  const clear = authorizations
    .filter(({ attributes }) => attributes & sessionAttribute.encrypt)
    .reduce<Buffer>((hidden, authorization) => authorization.decrypt(hidden), parameters)
  return { handle, parameters: clear }
}

function parts(reader: Reader, givesHandle: boolean, authorizations: readonly Authorization[]) {
  const handle = givesHandle ? reader.u32() : 0
  const parameters = reader.take(authorizations.length > 0 ? reader.u32() : reader.left)
  const answers = authorizations.map((): Answer => ({ nonce: reader.sized(), attributes: reader.u8(), hmac: reader.sized() }))
  return { handle, parameters, answers }
}

function malformed(command: CommandName, detail: string) {
  return fault('MALFORMED', `TPM2_${command}: the response is not one: ${detail}`)
}

function missing(command: CommandName): never {
  throw malformed(command, 'an authorisation was not answered')
}

function sha256(...parts: Uint8Array[]): Buffer {
  return createHash('sha256').update(Buffer.concat(parts)).digest()
}

const u32 = (value: number): Buffer => new Writer().u32(value).done()
