import { writeFile } from 'node:fs/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { logsFrom } from '../../agent/logs.ts'
import { folder } from './tools.ts'

let files: Awaited<ReturnType<typeof folder>>
beforeAll(async () => {
  files = await folder()
  await writeFile(files.at('boot'), 'events')
  await writeFile(files.at('large'), Buffer.alloc(2 ** 20 + 1))
})
afterAll(() => files?.[Symbol.asyncDispose]())

test('a log is read from the file that is named', async () => {
  expect((await logsFrom({ tcg: files.at('boot') })('tcg')).toString()).toBe('events')
})

test('one that has no size before it is read', async () => {
  expect((await logsFrom({ ima: '/proc/self/status' })('ima')).toString()).toMatch(/^Name:/)
})

test('one that cannot be read says what to do', async () => {
  const missing = logsFrom({ ima: files.at('nothing') })('ima')
  await expect(missing).rejects.toMatchObject({
    exit: 'file',
    message: expect.stringMatching(
      /^the service wants the list of IMA, but .+ could not be read \(ENOENT\): name another file with --ima-log/,
    ) as string,
  })
})

test('one that is larger than the service takes is not sent, however long it goes on', async () => {
  await expect(logsFrom({ tcg: files.at('large') })('tcg')).rejects.toMatchObject({
    exit: 'file',
    message: expect.stringContaining('1048576') as string,
  })
  await expect(logsFrom({ tcg: '/dev/zero' })('tcg')).rejects.toMatchObject({ exit: 'file' })
})
