import { runChild } from './child.ts'
import { deliver, type Mode } from './delivery.ts'
import { keepFresh, type Lived, LONGEST_TIMER_MS, type Refresh } from './refresh.ts'
import { relaySignals } from './relay.ts'

/** What `exec` is given, the world included. */
export type ExecOptions = {
  readonly command: string
  readonly args: readonly string[]
  readonly mode: Mode
  /** Asks for a credential: what the child is to read, and its life. @param signal the child has ended, and wants none any more */
  readonly issue: (signal?: AbortSignal) => Promise<Lived>
  /** of the child; without what the credential replaces */
  readonly env: Readonly<Record<string, string | undefined>>
  /** where a private folder may be made, the best first */
  readonly directories: readonly string[]
  readonly terminal: boolean
  readonly signals: NodeJS.EventEmitter
  /** one line for a person */
  readonly say: (message: string) => void
  /** runs beside the command: shows the broker that the work goes on */
  readonly alive?: (signal: AbortSignal) => Promise<void>
  /** opens what stands beside the command */
  readonly around?: (() => Promise<Around>) | undefined
}

/** What stands beside a command until it ends, and the variables by which it is found. */
export type Around = AsyncDisposable & { readonly env: Readonly<Record<string, string>> }

/** Runs a command with a credential that is replaced before it expires, where the mode can. @returns its exit code */
export async function exec(options: ExecOptions): Promise<number> {
  const issuedAt = performance.now()
  const first = await options.issue()
  using relay = relaySignals(options.signals, options.terminal) // from here on there is something to clean up
  await using delivery = await deliver(options.mode, first.content, options.directories)
  await using around = await options.around?.()
  const ended = new AbortController()
  const env = { ...options.env, ...around?.env, ...delivery.env }
  const child = runChild(options.command, options.args, { env, descriptors: delivery.descriptors, relay })
  const { replace } = delivery
  const fresh =
    replace === null ? warnOfEnd(first.lifeMs, options, ended.signal) : refreshed(first, issuedAt, replace, options, ended)
  const alive = options.alive?.(ended.signal)
  try {
    return await child
  } finally {
    ended.abort()
    await fresh
    await alive
  }
}

/** Ends without error: the command goes on with or without a fresh credential. */
function refreshed(
  first: Lived,
  issuedAt: number,
  replace: Refresh['replace'],
  options: ExecOptions,
  ended: AbortController,
): Promise<void> {
  const failed = (error: unknown, expired: boolean) => {
    const next = expired ? 'it has expired and was taken away' : 'the old one is still good'
    options.say(`could not replace the credential, ${next}: ${sentenceOf(error)}`)
  }
  const refresh = { issue: () => options.issue(ended.signal), replace, failed, signal: ended.signal }
  return keepFresh(first, issuedAt, refresh).catch(error =>
    options.say(`no longer replacing the credential: ${sentenceOf(error)}`),
  )
}

async function warnOfEnd(lifeMs: number, options: ExecOptions, signal: AbortSignal): Promise<void> {
  const message = 'the credential has expired, and a variable cannot be replaced; long work reads ASSAY_CREDENTIAL_FILE instead'
  if (lifeMs > LONGEST_TIMER_MS) return
  const timer = setTimeout(() => options.say(message), lifeMs)
  signal.addEventListener('abort', () => clearTimeout(timer), { once: true })
}

function sentenceOf(error: unknown): string {
  return error instanceof Error ? error.message : 'unknown'
}
