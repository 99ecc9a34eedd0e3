import { EventEmitter } from 'node:events'
import { writeFileSync } from 'node:fs'
import { mkdir, readdir, readFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Mode } from '../../agent/delivery.ts'
import { type ExecOptions, exec } from '../../agent/exec.ts'
import { until } from '../harness/process.ts'
import { folder } from './tools.ts'

let files: Awaited<ReturnType<typeof folder>>
beforeAll(async () => {
  files = await folder()
  await mkdir(files.at('private'))
})
afterAll(() => files?.[Symbol.asyncDispose]())

const fd: Mode = { kind: 'fd', fd: 3 }

/** Runs a shell script that writes to `$OUT`; its credentials are numbered. */
async function shell(script: string, more: Partial<ExecOptions> & { lifeMs?: number } = {}) {
  const out = files.at(`out-${Math.random()}`)
  const said: string[] = []
  let asked = 0
  const code = await exec({
    command: 'bash',
    args: ['--norc', '-c', script],
    mode: fd,
    issue: async () => ({ content: `secret-${++asked}`, lifeMs: more.lifeMs ?? 900_000 }),
    env: { PATH: process.env['PATH'], OUT: out },
    directories: [files.at('private')],
    terminal: false,
    signals: new EventEmitter(),
    say: message => void said.push(message),
    ...more,
  })
  return { code, said, asked, out: await readFile(out, 'utf8').catch(() => '') }
}
const left = () => readdir(files.at('private'))

describe('by descriptor', () => {
  test('the command reads it from the descriptor and from the file, and finds it nowhere else', async () => {
    const script = `
      credential=$(cat $ASSAY_CREDENTIAL_FILE)
      echo "$(cat <&3) $(cat /dev/fd/3) $credential $ASSAY_CREDENTIAL_FD" > $OUT
      grep -q "$credential" /proc/$$/environ /proc/$$/cmdline /proc/$PPID/cmdline && exit 9
      true`
    expect(await shell(script)).toMatchObject({ code: 0, out: 'secret-1 secret-1 secret-1 3\n', said: [] })
  })

  test('the number of the descriptor can be chosen', async () => {
    expect((await shell('cat <&5 > $OUT; echo " $ASSAY_CREDENTIAL_FD" >> $OUT', { mode: { kind: 'fd', fd: 5 } })).out).toBe(
      'secret-1 5\n',
    )
  })

  test('file and folder are private, and gone afterwards', async () => {
    const { out } = await shell('stat -c %a $ASSAY_CREDENTIAL_FILE $(dirname $ASSAY_CREDENTIAL_FILE) > $OUT')
    expect(out).toBe('600\n700\n')
    expect(await left()).toEqual([])
  })

  test('the first folder that can be written to is taken', async () => {
    expect((await shell('true', { directories: [files.at('absent'), files.at('private')] })).code).toBe(0)
    await expect(shell('true', { directories: [files.at('absent')] })).rejects.toMatchObject({ exit: 'file' })
  })

  test('long work finds a fresh one in the file, replaced in one step; the descriptor keeps the first', async () => {
    const script =
      'for i in $(seq 1000); do test -s $ASSAY_CREDENTIAL_FILE || exit 9; grep -qx "secret-[12]" $ASSAY_CREDENTIAL_FILE || break; sleep 0.01; done; cat $ASSAY_CREDENTIAL_FILE <(cat <&3) > $OUT'
    const { code, out, said } = await shell(script, { lifeMs: 300 })
    expect([code, said]).toEqual([0, []])
    expect(out).toMatch(/^secret-([3-9]|\d{2,})secret-1$/)
  })

  test('one that expired is taken away, people hear why, and the next one is put in its place', async () => {
    let asked = 0
    const issue = async () => {
      asked++
      if (asked === 2 || asked === 3) throw new Error('the service is away')
      return { content: `secret-${asked}`, lifeMs: 3000 }
    }
    const waiting =
      'for i in $(seq 1000); do test -e $ASSAY_CREDENTIAL_FILE || break; sleep 0.01; done; test -e $ASSAY_CREDENTIAL_FILE || echo gone > $OUT'
    const { out, said } = await shell(waiting, { issue })
    expect(out).toBe('gone\n')
    expect(said).toEqual([
      'could not replace the credential, the old one is still good: the service is away',
      'could not replace the credential, it has expired and was taken away: the service is away',
    ])
  })
})

test('who waits for the next credential hears that the command has ended', async () => {
  let asked = 0
  const said: string[] = []
  const issue = async (signal?: AbortSignal) => {
    if (asked++ === 0) return { content: 'secret-1', lifeMs: 30 }
    writeFileSync(files.at('asked'), '')
    await new Promise((_, reject) => signal?.addEventListener('abort', () => reject(new Error('nobody waits'))))
    throw new Error('it goes on')
  }
  const script = `for i in $(seq 1000); do test -e ${files.at('asked')} && exit 4; sleep 0.01; done`
  expect((await shell(script, { issue, say: message => void said.push(message) })).code).toBe(4)
  expect(said).toEqual([])
})

describe('by variable', () => {
  const mode: Mode = { kind: 'env', name: 'API_TOKEN' }

  test('it is in that variable, and in no file', async () => {
    const { out } = await shell('echo "$API_TOKEN/$ASSAY_CREDENTIAL_FILE/$ASSAY_CREDENTIAL_FD" > $OUT', { mode })
    expect(out).toBe('secret-1//\n')
    expect(await left()).toEqual([])
  })

  test('nobody hears at once of the end of one that lives for years', async () => {
    expect((await shell('true', { mode, lifeMs: 1e12 })).said).toEqual([])
  })

  test('it is not replaced, and people hear when it ends', async () => {
    const said: string[] = []
    const heard = files.at('heard')
    const say = (message: string) => {
      said.push(message)
      writeFileSync(heard, '')
    }
    const { asked } = await shell(`for i in $(seq 1000); do test -e ${heard} && break; sleep 0.01; done`, {
      mode,
      lifeMs: 50,
      say,
    })
    expect([asked, said]).toEqual([1, [expect.stringContaining('has expired')]])
  })
})

describe('the command', () => {
  test.each([0, 1, 42, 255])('ends with %i, and so do we', async code => {
    expect((await shell(`exit ${code}`)).code).toBe(code)
  })

  test('that a signal ends gives 128 and its number', async () => {
    expect((await shell('kill -TERM $$')).code).toBe(143)
    expect((await shell('kill -KILL $$')).code).toBe(137)
  })

  test('that cannot be started is told apart, and leaves nothing', async () => {
    await expect(shell('', { command: '/no/such/command' })).rejects.toMatchObject({
      exit: 'child',
      message: expect.stringContaining('ENOENT'),
    })
    await expect(shell('', { command: files.at('private') })).rejects.toMatchObject({
      exit: 'child',
      message: expect.stringContaining('EACCES'),
    })
    expect(await left()).toEqual([])
  })

  test('is not started without a credential', async () => {
    const issue = async () => Promise.reject(new Error('no'))
    expect((await shell('touch $OUT', { issue }).catch((error: Error) => error.message)) as unknown).toBe('no')
  })

  test.each(['SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGINT', 'SIGQUIT'] as const)('gets %s handed on', async signal => {
    const signals = new EventEmitter()
    const out = files.at(`signal-${signal}`)
    const script = `sleep 60 & trap "kill $!; echo ${signal} > ${out}; exit 3" ${signal}; touch ${out}.ready; wait`
    const running = shell(script, { signals })
    await until('the command to be ready', async () => (await readdir(files.at('.'))).includes(`signal-${signal}.ready`))
    signals.emit(signal, signal)
    expect((await running).code).toBe(3)
    expect((await readFile(out, 'utf8')).trim()).toBe(signal)
    expect(signals.eventNames()).toEqual([])
  })

  test("on a terminal gets the keyboard's signals from it, not from us", async () => {
    const signals = new EventEmitter()
    const out = files.at('terminal')
    const running = shell(
      `sleep 60 & trap "echo int >> ${out}" INT; trap "kill $!; echo term >> ${out}; exit 0" TERM; touch ${out}.ready; wait`,
      { signals, terminal: true },
    )
    await until('the command to be ready', async () => (await readdir(files.at('.'))).includes('terminal.ready'))
    signals.emit('SIGINT', 'SIGINT')
    signals.emit('SIGTERM', 'SIGTERM')
    expect((await running).code).toBe(0)
    expect(await readFile(out, 'utf8')).toBe('term\n')
  })
})
