import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openTestBroker, type TestBroker } from '../../fakes/broker.ts'

let at: TestBroker
beforeEach(async () => {
  at = await openTestBroker()
})
afterEach(() => at[Symbol.asyncDispose]())

const ENABLE = ['POST', 'sys/auth/machines', { type: 'tpm-quote' }] as const
const DISABLE = ['DELETE', 'sys/auth/machines', {}] as const
const saidOfAuth = async () =>
  (await at.records())
    .filter(({ mount }) => mount === 'sys/')
    .map(({ type, operation, path, code }) => ({ type, operation, path, ...(code === undefined ? {} : { code }) }))
const HASHED = expect.stringMatching(/^hmac-sha256:/) as string

describe('in the audit log', () => {
  test('what is done stands by its name', async () => {
    await at.sys(...ENABLE)
    await at.sys(...DISABLE)
    expect(await saidOfAuth()).toEqual([
      { type: 'request', operation: 'update', path: HASHED },
      { type: 'outcome', operation: 'update', path: 'auth/machines' },
      { type: 'request', operation: 'delete', path: HASHED },
      { type: 'outcome', operation: 'delete', path: 'auth/machines' },
    ])
  })

  test('what Vault denies is a refusal, and whoever was denied chose no text', async () => {
    const denied = { token: 'hvs.nobody' }
    await expect(at.sys(...ENABLE, denied.token)).rejects.toMatchObject({ status: 403 })
    await at.sys(...ENABLE)
    expect(await at.sys(...DISABLE, denied.token)).toEqual({ status: 403 })
    const [asked, refused, , , ...later] = await saidOfAuth()
    expect([asked, refused]).toEqual([
      { type: 'request', operation: 'update', path: HASHED },
      { type: 'refusal', operation: 'update', path: asked?.path, code: 'permission_denied' },
    ])
    expect(later).toEqual([
      { type: 'request', operation: 'delete', path: HASHED },
      { type: 'refusal', operation: 'delete', path: later[0]?.path, code: 'permission_denied' },
    ])
  })
})

test('what went wrong is told when it cannot be undone either', async () => {
  at.vault.fault = ({ method, path }) => {
    if (path === 'auth/machines/config') return { status: 500 }
    return method === 'DELETE' ? { status: 403, body: { errors: ['permission denied'] } } : undefined
  }
  await expect(at.sys(...ENABLE)).rejects.toThrow('the vault server answered with status 500')
})

test.each(['sys/auth/machines', 'sys/mounts/auth/machines'])('%s: the mark stays, also at a path below', async path => {
  await at.sys(...ENABLE)
  for (const below of ['', '/below', '/far/below', '/tune'])
    await expect(at.sys('POST', `${path}${below}/tune`, { options: { assay: 'gone' } })).rejects.toThrow(
      'the option assay is kept by the mount itself',
    )
})

test('who may not mount or tune what would be refused is denied, and that is on record', async () => {
  await at.sys(...ENABLE)
  await at.sys('POST', 'sys/mounts/team', { type: 'broker' })
  const token = at.vault.token({ allow: () => ['deny'] })
  for (const [path, sent] of [
    ['sys/auth/machines/tune', { options: { assay: 'gone' } }],
    ['sys/mounts/team', { type: 'kv' }],
    ['sys/remount', { from: 'secret', to: 'team' }],
  ] as const) {
    await expect(at.sys('POST', path, sent, token)).rejects.toMatchObject({ code: 'permission_denied' })
    expect((await at.records()).at(-2)).toMatchObject({ type: 'refusal', path: HASHED, code: 'permission_denied' })
    await expect(at.sys('POST', path, sent)).rejects.toMatchObject({ code: 'bad_request' })
  }
})
