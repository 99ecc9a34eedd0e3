import { pino } from 'pino'
import { linesTo } from './log_lines.ts'
import { openScrubber, type Scrubber } from './scrubber.ts'
import { PRINTED, Secret } from './secret.ts'

export const levels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const
export type Level = (typeof levels)[number]

type Write = (what: string | object, message?: string) => void
/** Structured logs. Fields may hold errors, which give name, message and code (and their stack at debug level), and secrets, which print as `[secret]`. */
export type Log = { readonly [level in Level]: Write } & {
  /** A log whose every line has these fields too. */
  readonly child: (fields: object) => Log
  /** From now on no line holds this secret, in whatever form it comes. For the few that live long: each costs memory and time. */
  readonly hide: (secret: Secret | Secret<Uint8Array>) => void
}

export type LogOptions = {
  readonly level: Level | 'silent'
  readonly scrubber?: Scrubber
  /** where lines go, each with its newline; standard error when left out */
  readonly write?: (line: string) => void
}

const STANDARD_ERROR = 2

/** JSON lines, each scrubbed by value after it was made: no field, message or error gets around it. */
export function openLog({ level, scrubber = openScrubber(), write = linesTo(STANDARD_ERROR) }: LogOptions): Log {
  const options = {
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    serializers: { err: (error: unknown) => error },
  }
  return logOf(pino(options, { write: line => write(scrubbed(line, scrubber)) }), scrubber)
}

function logOf(logger: pino.Logger, scrubber: Scrubber): Log {
  const stacks = logger.isLevelEnabled('debug')
  const writer =
    (level: Level): Write =>
    (what, message) => {
      if (!logger.isLevelEnabled(level)) return
      if (typeof what === 'string') logger[level](what)
      else logger[level](fieldsOf(what, stacks), message)
    }
  return {
    trace: writer('trace'),
    debug: writer('debug'),
    info: writer('info'),
    warn: writer('warn'),
    error: writer('error'),
    fatal: writer('fatal'),
    child: fields => logOf(logger.child(fieldsOf(fields, stacks)), scrubber),
    hide: secret => scrubber.add(secret),
  }
}

/** A line that cannot be scrubbed, or is no JSON after it, is not written. */
function scrubbed(line: string, scrubber: Scrubber): string {
  try {
    const clean = scrubber.scrub(line)
    if (clean !== line) JSON.parse(clean)
    return clean
  } catch {
    return '{"level":"error","msg":"a line was dropped, because it could not be scrubbed"}\n'
  }
}

const DEPTH = 6
const MEMBERS = 100
const CHARACTERS = 4096

function fieldsOf(what: object, stacks: boolean): object {
  return what instanceof Error ? { error: printable(what, stacks, 0) } : (printable(what, stacks, 0) as object)
}

/** What of a value may be printed: bounded, without bytes, and of errors only what they say. */
function printable(value: unknown, stacks: boolean, depth: number): unknown {
  if (typeof value === 'string') return value.length > CHARACTERS ? `${value.slice(0, CHARACTERS)}...` : value
  if (typeof value === 'bigint') return String(value)
  if (typeof value !== 'object' || value === null) return value
  if (value instanceof Secret) return PRINTED
  if (value instanceof Error) return errorOf(value, stacks)
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return `[${value.byteLength} bytes]`
  if (depth === DEPTH) return '[deeper]'
  if (Array.isArray(value)) return value.slice(0, MEMBERS).map(item => printable(item, stacks, depth + 1))
  if ('toJSON' in value && typeof value.toJSON === 'function') return printable(value.toJSON(), stacks, depth + 1)
  const members = Object.entries(value).slice(0, MEMBERS)
  return Object.fromEntries(members.map(([name, member]) => [name, printable(member, stacks, depth + 1)]))
}

function errorOf(error: Error, stacks: boolean): object {
  const code = 'code' in error && (typeof error.code === 'string' || typeof error.code === 'number') ? error.code : undefined
  const { name, message, stack } = error
  return { name, message: printable(message, stacks, 0), code, ...(stacks ? { stack: printable(stack, stacks, 0) } : {}) }
}
