import { setTimeout as sleep } from 'node:timers/promises'
import type { Channel, Kind } from './channel.ts'
import { commandCodes, HEADER_SIZE } from './codes.ts'
import { fault } from './errors.ts'
import { rc } from './response_codes.ts'
import * as kinds from './transports/index.ts'
import { inTurn } from './turn.ts'

/** One connection to a TPM 2.0. */
export interface Transport extends AsyncDisposable {
  /**
   * Sends a whole command and resolves with the whole response, whatever its response code. Commands wait for their turn.
   * @throws TpmError of DEADLINE, CLOSED or MALFORMED; after any of them the connection is of no more use
   */
  transmit(command: Uint8Array): Promise<Buffer>
  close(): Promise<void>
}

export type TransportOptions = {
  /** for each command, its retries included; commands that make keys get six times as much. Default 10 000 */
  readonly deadlineMs?: number
  /** pauses between the tries of a command that the TPM wants again; a test passes its own */
  readonly pause?: (ms: number) => Promise<unknown>
}

const DEADLINE_MS = 10_000
/** Commands that the TPM may ask for again without having begun them (Part 3, 5.2 Command Header Validation and following). */
const AGAIN: readonly number[] = [rc.RETRY, rc.YIELDED, rc.TESTING]
const PAUSES_MS = [20, 40, 80, 160, 320, 640, 1280, 2560]
/** A discrete TPM looks for RSA primes for tens of seconds. */
const SLOW: readonly number[] = [commandCodes.CreatePrimary, commandCodes.Create]
const SLOW_FACTOR = 6

/** Every way to reach a TPM, by the scheme that begins its address. */
export const transports: ReadonlyMap<string, Kind> = new Map(Object.values(kinds).map(kind => [kind.scheme, kind]))

/**
 * Opens a TPM: `unix:/path`, `tcp:host:port`, `device:/dev/tpmrm0` or `tcti:<any TCTI string of tpm2-tss>`.
 * @throws TpmError of SPEC or UNREACHABLE, DEADLINE when it does not open in time
 */
export async function openTransport(spec: string, options: TransportOptions = {}): Promise<Transport> {
  const colon = spec.indexOf(':')
  const kind = transports.get(spec.slice(0, Math.max(colon, 0)))
  if (kind === undefined || colon + 1 === spec.length) throw fault('SPEC', `wanted a TPM as ${forms()}, got '${spec}'`)
  const deadlineMs = options.deadlineMs ?? DEADLINE_MS
  const giveUp = new AbortController()
  const opening = kind.open(spec.slice(colon + 1), giveUp.signal)
  try {
    return guard(await within(opening, deadlineMs, `${spec} did not open`), spec, deadlineMs, options.pause ?? sleep)
  } catch (error) {
    giveUp.abort()
    opening.then(channel => channel.close()).catch(() => {}) // opened after all, when nobody waits for it any more
    throw error
  }
}

/** What `--tpm` takes, for messages and help. */
function forms(): string {
  return [...transports.values()].map(kind => kind.form).join(', ')
}

function guard(channel: Channel, spec: string, deadlineMs: number, pause: (ms: number) => Promise<unknown>): Transport {
  const turn = inTurn()
  let broken: unknown
  const once = async (command: Uint8Array): Promise<Buffer> => {
    if (broken !== undefined) throw fault('CLOSED', `the connection to ${spec} is closed`, broken)
    try {
      const limit = SLOW.includes(codeOf(command)) ? deadlineMs * SLOW_FACTOR : deadlineMs
      return await within(withRetries(channel, command, pause), limit, `${spec} did not answer`)
    } catch (error) {
      broken = error // a late answer would be taken for that of the next command
      abandon(channel)
      throw error
    }
  }
  const close = async () => {
    const first = broken === undefined
    broken ??= 'closed'
    if (first) await channel.close()
  }
  return { transmit: command => turn(() => once(command)), close, [Symbol.asyncDispose]: close }
}

async function withRetries(channel: Channel, command: Uint8Array, pause: (ms: number) => Promise<unknown>): Promise<Buffer> {
  for (const ms of PAUSES_MS) {
    const response = checked(await channel.exchange(command))
    if (!AGAIN.includes(codeOf(response))) return response
    await pause(ms)
  }
  return checked(await channel.exchange(command))
}

function checked(response: Buffer): Buffer {
  if (response.length < HEADER_SIZE)
    throw fault('MALFORMED', `the TPM answered with ${response.length} bytes, a response has ${HEADER_SIZE}`)
  const said = response.readUInt32BE(2)
  if (said !== response.length)
    throw fault('MALFORMED', `the TPM answered with ${response.length} bytes that say they are ${said}`)
  return response
}

/** TPM_CC of a command, TPM_RC of a response: both stand behind the tag and the size. */
function codeOf(message: Uint8Array): number {
  return message.length < HEADER_SIZE ? 0 : Buffer.from(message.buffer, message.byteOffset, HEADER_SIZE).readUInt32BE(6)
}

async function within<T>(work: Promise<T>, ms: number, what: string): Promise<T> {
  const late = Promise.withResolvers<never>()
  const message = `${what} within ${ms} ms; is another program using the TPM, or is it stuck?`
  const timer = setTimeout(() => late.reject(fault('DEADLINE', message)), ms)
  try {
    return await Promise.race([work, late.promise])
  } finally {
    clearTimeout(timer)
  }
}

function abandon(channel: Channel): void {
  channel.close().catch(() => {}) // it is broken already, and why is being thrown
}
