import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { readdir, readFile } from 'node:fs/promises'
import { createServer, type ListenOptions, type Server } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { PATIENCE_MS } from './patience.ts'
import { lastBytes } from './ring.ts'

export type Exit = { readonly code: number | null; readonly signal: NodeJS.Signals | null }

export type Options = {
  /** the whole environment of the child; this process's own when left out */
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
  /** written to standard input, which is then closed; without it the child reads from /dev/null */
  readonly input?: string
}

/** A child that runs until it is stopped. Disposing of it stops it. */
export type Running = AsyncDisposable & {
  readonly pid: number
  /** The last 64 KiB that it wrote, both streams. */
  readonly output: () => string
  /** The first line that matches, written before or after the call. Throws when the child ends first or `withinMs` pass. */
  readonly line: (pattern: RegExp, withinMs?: number) => Promise<RegExpExecArray>
  /** Waits until `holds` does. Throws when the child ends first or `withinMs` pass. */
  readonly ready: (what: string, holds: () => Promise<boolean>, withinMs?: number) => Promise<void>
  readonly exited: Promise<Exit>
  /** Sends the signal by pid and waits for the end; what is still there after `withinMs` is killed. */
  readonly stop: (signal?: NodeJS.Signals, withinMs?: number) => Promise<Exit>
}

/** Starts a program that ends at the latest with this process, however this process ends. A program that is not there ends with 127. */
export async function start(command: string, args: readonly string[], options: Options = {}): Promise<Running> {
  const child = await spawned(command, args, options)
  const kept = keep(child)
  const exited = exitOf(child)
  let ended: Exit | undefined
  void exited.then(exit => (ended = exit))
  const running: Running = {
    pid: child.pid as number,
    output: kept.text,
    line: (pattern, withinMs = PATIENCE_MS) =>
      until(`${command} to write ${pattern}`, async () => kept.find(pattern), withinMs, gone),
    ready: async (what, holds, withinMs = PATIENCE_MS) => void (await until(`${command}: ${what}`, holds, withinMs, gone)),
    exited,
    stop: (signal = 'SIGTERM', withinMs = PATIENCE_MS) => end(child, exited, signal, withinMs),
    [Symbol.asyncDispose]: async () => void (await running.stop()),
  }
  return running

  function gone(): string | undefined {
    return ended && `it ended with ${ended.code ?? ended.signal}:\n${kept.text()}`
  }
}

export type Ran = Exit & { readonly stdout: string; readonly stderr: string }

/** Runs a program to its end. Throws, after killing it, when `withinMs` pass. A program that is not there ends with 127. */
export async function run(
  command: string,
  args: readonly string[],
  options: Options & { withinMs?: number | undefined } = {},
): Promise<Ran> {
  const child = await spawned(command, args, options)
  const [stdout, stderr] = [lastBytes(16 * 2 ** 20), lastBytes(16 * 2 ** 20)]
  child.stdout?.on('data', stdout.add)
  child.stderr?.on('data', stderr.add)
  const exited = exitOf(child)
  const deadline = AbortSignal.timeout(options.withinMs ?? PATIENCE_MS)
  deadline.addEventListener('abort', () => child.kill('SIGKILL'))
  const exit = await exited
  if (deadline.aborted && exit.signal === 'SIGKILL')
    throw new Error(`${command} did not end in time:\n${stdout.text()}${stderr.text()}`)
  return { ...exit, stdout: stdout.text(), stderr: stderr.text() }
}

/** Asks `value` again and again until it is neither false nor undefined. Throws what `gone` says, or that `withinMs` passed. */
export async function until<T>(
  what: string,
  value: () => Promise<T | false | undefined>,
  withinMs = PATIENCE_MS,
  gone: () => string | undefined = () => undefined,
): Promise<T> {
  const deadline = performance.now() + withinMs
  for (;;) {
    const found = await value()
    if (found !== false && found !== undefined) return found
    const ended = gone()
    if (ended !== undefined) throw new Error(`waited for ${what}, but ${ended}`)
    if (performance.now() > deadline) throw new Error(`waited ${withinMs} ms for ${what}`)
    await delay(10)
  }
}

/** Stops a process in its tracks, until it gets SIGCONT: ends when every thread of it stands still, as one may answer while the signal is under way. */
export async function pause(pid: number): Promise<void> {
  process.kill(pid, 'SIGSTOP')
  await until('every thread to stand still', async () => {
    const threads = await readdir(`/proc/${pid}/task`)
    // one that has ended meanwhile is not there to be read
    const states = await Promise.all(threads.map(thread => readFile(`/proc/${pid}/task/${thread}/stat`, 'utf8').catch(() => '')))
    return states.every(state => state.slice(state.lastIndexOf(')')).startsWith(') T'))
  })
}

/** A TCP port that nothing listens on, and that is given to nobody else before this process has ended. Taken below the range from which the kernel gives ports
 *  to clients, so that none of them takes it first. */
export async function freePort(address = '127.0.0.1'): Promise<number> {
  for (;;) {
    const port = randomInt(15_000, 32_000)
    if (await takePort(port, address)) return port
  }
}

/** A port whose successor is free as well. */
export async function freePair(): Promise<number> {
  for (;;) {
    const first = await freePort()
    if (await takePort(first + 1)) return first
  }
}

/** False when something listens on the port, or when it was given to somebody. What is given a port listens on it a while later only: until then, a name
 *  that one process at a time can have (an abstract unix socket) tells others that it is taken. */
export async function takePort(port: number, host = '127.0.0.1'): Promise<boolean> {
  const name = await listening({ path: `\0assay-port-${port}` })
  const server = name && (await listening({ port, host, exclusive: true }))
  if (name && !server) name.close()
  if (!server) return false
  name.unref()
  await new Promise(resolve => server.close(resolve))
  return true
}

function listening(place: ListenOptions): Promise<Server | undefined> {
  return new Promise(resolve => {
    const server = createServer()
    server.once('error', () => resolve(undefined))
    server.listen(place, () => resolve(server))
  })
}

function spawned(command: string, args: readonly string[], { env, cwd, input }: Options): Promise<ChildProcess> {
  const stdio: StdioOptions = [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe']
  const child = spawn('/usr/bin/setpriv', ['--pdeathsig', 'KILL', '--', command, ...args], { env, cwd, stdio })
  // a child that reads nothing may close its end first: what it answers tells, not EPIPE
  child.stdin?.on('error', () => {}).end(input)
  return new Promise((resolve, reject) => {
    child.once('spawn', () => resolve(child))
    child.once('error', cause =>
      reject(new Error(`could not start ${command}: /usr/bin/setpriv, or the folder to start it in, is missing`, { cause })),
    )
  })
}

/** Resolves when the child has ended and its output is read; a grandchild that keeps the pipe open is not waited for. */
async function exitOf(child: ChildProcess): Promise<Exit> {
  const closed = once(child, 'close')
  const [code, signal] = (await once(child, 'exit')) as [Exit['code'], Exit['signal']]
  await Promise.race([closed, someTurns()])
  return { code, signal }
}

/** Half a second, in turns of the event loop in each of which there is reading: when this process itself had to wait, the time alone says nothing. */
async function someTurns(): Promise<void> {
  for (let left = 10; left > 0; left--) await delay(50, undefined, { ref: false })
}

function keep(child: ChildProcess): { text: () => string; find: (pattern: RegExp) => RegExpExecArray | undefined } {
  const ring = lastBytes(64 * 1024)
  child.stdout?.on('data', ring.add)
  child.stderr?.on('data', ring.add)
  return {
    text: ring.text,
    find: pattern =>
      ring
        .text()
        .split('\n')
        .slice(0, -1)
        .map(line => pattern.exec(line))
        .find(match => match !== null) ?? undefined,
  }
}

async function end(child: ChildProcess, exited: Promise<Exit>, signal: NodeJS.Signals, withinMs: number): Promise<Exit> {
  child.kill(signal)
  const late = setTimeout(() => child.kill('SIGKILL'), withinMs)
  return exited.finally(() => clearTimeout(late))
}
