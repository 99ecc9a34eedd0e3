import { expect, test } from 'vitest'
import { type Http, Unanswered } from '../../engine/http.ts'
import { ask } from '../../engine/stores/replies.ts'

// What a store's answer is taken for, by its status alone: each holds what would be good with another one.

const call = { method: 'GET', url: 'https://store.example/', signal: AbortSignal.timeout(600_000) } as const
const asked = (send: () => Promise<{ status: number; headers: object; body: Buffer }>) => ask({ send } as unknown as Http, call)
const answer = (status: number) => async () => ({ status, headers: {}, body: Buffer.from('{"value":"x"}') })

test.each<readonly [string, readonly number[]]>([
  ['denied', [401, 403]],
  ['absent', [404]],
  ['down', [429, 500, 502, 503, 504]],
  ['malformed', [201, 202, 204, 206, 301, 302, 307, 400, 409, 410]],
])('%s: %j', async (kind, statuses) => {
  for (const status of statuses) await expect(asked(answer(status))).rejects.toMatchObject({ kind })
})

test('an answer is one of status 200', async () => {
  expect(await asked(answer(200))).toMatchObject({ json: { value: 'x' } })
})

test('none is a store that is down, and a mistake of ours is none of the store', async () => {
  const failing = (error: Error) => asked(() => Promise.reject(error))
  await expect(failing(new Unanswered('cannot be reached'))).rejects.toMatchObject({ kind: 'down' })
  await expect(failing(new TypeError('ours'))).rejects.toThrow(TypeError)
})
