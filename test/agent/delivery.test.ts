import { chmod, mkdir, readdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import { expect, test } from 'vitest'
import { privateFolder } from '../../agent/delivery.ts'
import { folder } from './tools.ts'

// Where a credential may be put: who can rename our folder can give the command another one.

test.each([
  [0o700, true],
  [0o1777, true],
  [0o777, false],
  [0o720, false],
])('of directories with mode %o, one is taken: %s', async (mode, taken) => {
  await using own = await folder()
  const [first, second] = [own.at('first'), own.at('second')]
  await mkdir(first)
  await mkdir(second)
  await chmod(first, mode)
  expect(dirname(await privateFolder([first, second]))).toBe(taken ? first : second)
  expect(await readdir(taken ? second : first)).toEqual([])
})
