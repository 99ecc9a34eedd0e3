import { readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { freePort, run, start, takePort, until } from './process.ts'

const bash = (script: string) => start('bash', ['-c', script])

describe('start', () => {
  test('finds a line written before or after it is asked for', async () => {
    await using child = await bash('echo one; read -r < <(sleep 0.05); echo two 2 >&2; exec sleep infinity')
    expect((await child.line(/^two (\d)/))[1]).toBe('2')
    expect((await child.line(/^one$/))[0]).toBe('one')
  })
  test('a line that is not whole yet is not given', async () => {
    await using child = await bash('printf "port 12"; sleep 0.05; echo 34; exec sleep infinity')
    expect((await child.line(/^port (\d+)/))[1]).toBe('1234')
  })
  test('a child that ends instead is told with its words', async () => {
    await using child = await bash('echo no such port; exit 3')
    await expect(child.line(/ready/)).rejects.toThrow(/ended with 3:\nno such port/)
    await expect(child.ready('to be up', async () => false)).rejects.toThrow(/to be up.*ended with 3/)
  })
  test('a deadline that passes is told', async () => {
    await using child = await bash('exec sleep infinity')
    await expect(child.line(/ready/, 50)).rejects.toThrow('waited 50 ms for bash to write /ready/')
  })
  test('a program that is not there ends with 127', async () => {
    const child = await start('no-such-program', [])
    expect(await child.exited).toEqual({ code: 127, signal: null })
  })
  test('stop ends what does not listen, too, and may be called again', async () => {
    const child = await bash('trap "" TERM; echo up; while true; do read -rt 1 <> <(:); done')
    await child.line(/up/)
    expect(await child.stop('SIGTERM', 100)).toEqual({ code: null, signal: 'SIGKILL' })
    expect(await child.stop()).toEqual({ code: null, signal: 'SIGKILL' })
    expect(isAlive(child.pid)).toBe(false)
  })
  test('keeps the end of a long output', async () => {
    const child = await bash('for i in {1..60000}; do echo line $i; done')
    await child.exited
    expect(child.output().length).toBe(64 * 1024)
    expect(child.output()).toMatch(/line 60000\n$/)
  })
  test('a child does not outlive the process that started it', async () => {
    const module = join(import.meta.dirname, 'process.ts')
    // once it has spoken it is past the program that binds it to its parent
    const begin = `const child = await start('sh', ['-c', 'echo up; exec sleep infinity']); await child.line(/up/)`
    const script = `import { start } from '${module}'; ${begin}; console.error('child', child.pid); process.kill(process.pid, 'SIGKILL')`
    const { stderr } = await run(process.execPath, ['--input-type=module', '--eval', script])
    const pid = Number(/child (\d+)/.exec(stderr)?.[1])
    expect(pid).toBeGreaterThan(1)
    await until('the orphan to end', async () => !isAlive(pid))
  })
})

describe('run', () => {
  test('gives input, and both outputs apart', async () => {
    expect(await run('bash', ['-c', 'cat; echo oops >&2; exit 4'], { input: 'given' })).toEqual({
      code: 4,
      signal: null,
      stdout: 'given',
      stderr: 'oops\n',
    })
  })
  test('kills what does not end in time', async () => {
    await expect(run('bash', ['-c', 'echo working; exec sleep infinity'], { withinMs: 50 })).rejects.toThrow(
      /did not end in time/,
    )
  })
  test('input that nobody reads is no error', async () => {
    expect((await run('true', [], { input: 'x'.repeat(2 ** 20) })).code).toBe(0)
  })
})

test('a free port is one that can be listened on, below those of clients', async () => {
  const ports = await Promise.all(Array.from({ length: 20 }, () => freePort()))
  expect(Math.max(...ports)).toBeLessThan(32_768)
  const server = createServer()
  await new Promise<void>(resolve => server.listen(ports[0], '127.0.0.1', resolve))
  await new Promise(resolve => server.close(resolve))
})

test('a port that was given to a process is given to no other one before that has ended', async () => {
  const module = join(import.meta.dirname, 'process.ts')
  const script = `import { freePort } from '${module}'; console.log(await freePort()); setInterval(() => {}, 1000)`
  await using child = await start(process.execPath, ['--input-type=module', '--eval', script])
  const [line] = await child.line(/^\d+$/)
  expect(await takePort(Number(line))).toBe(false)
  await child.stop('SIGKILL')
  await until('it to be free again', () => takePort(Number(line)))
  expect(await takePort(Number(line))).toBe(false)
})

/** A zombie that its new parent has not yet collected is not alive. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}
