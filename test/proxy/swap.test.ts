import { expect, test } from 'vitest'
import { REAL } from '../fakes/sealing.ts'
import { bearer, openProxyWorld } from './world.ts'

test('the sealed token goes in, the real one comes out at the other end', async () => {
  await using world = await openProxyWorld()
  const token = await world.seal()
  const answered = await world.ask({ path: `${world.base}/repos/a?b=c`, headers: bearer(token) })
  expect(answered).toMatchObject({ status: 200, text: 'fine' })
  const [seen] = world.upstream.seen
  expect(seen).toMatchObject({ method: 'GET', url: '/repos/a?b=c' })
  const { rawHeaders = [] } = seen ?? {}
  expect(rawHeaders.filter(one => one.includes(REAL))).toEqual([`Bearer ${REAL}`])
  expect(rawHeaders.join()).not.toContain(token)
  expect(rawHeaders[rawHeaders.indexOf('host') + 1] ?? rawHeaders[rawHeaders.indexOf('Host') + 1]).toBe(
    `127.0.0.1:${world.upstream.port}`,
  )
})
