import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { openTestExchange, type TestExchange } from '../../fakes/exchange.ts'
import { type Answer, type Provider, startProvider } from '../../fakes/provider.ts'
import { type Authority, newAuthority } from '../../mounts/hosts/certificates.ts'
import { CANARY, providers } from './providers.ts'

// Every way in which a provider can fail or lie, at every issuer that asks one: nothing is handed out, and nobody is told a secret.
let authority: Authority
beforeAll(async () => {
  authority = await newAuthority('Providers')
})

describe.each(providers)('$type $which', row => {
  let provider: Provider
  let side: Provider
  let test_: TestExchange
  beforeEach(async () => {
    provider = await startProvider(row.tls && (await authority.issue('provider')))
    side = await startProvider()
    if (row.side) side.answer = () => row.side ?? 'hang'
    test_ = opened(20_000)
  })
  afterEach(async () => {
    await test_[Symbol.asyncDispose]()
    await provider[Symbol.asyncDispose]()
    await side[Symbol.asyncDispose]()
  })
  const opened = (deadlineMs: number) =>
    openTestExchange({ ...row, settings: row.settings(provider.url, side.url, authority.ca), deadlineMs })
  const answer = (last: Answer) => {
    provider.answer = asked => row.beside?.(asked) ?? last
  }
  /** The outcome; whatever was told or logged holds no secret. */
  const outcome = async () => {
    let told = ''
    const code = await test_.issue(row.asked).then(
      verdict => {
        if (verdict.ok) return 'OK'
        told = verdict.detail
        return verdict.code
      },
      (error: Error & { code: string }) => {
        told = `${error.message} ${String(error.cause)}`
        return error.code
      },
    )
    expect(told + test_.logged.join('')).not.toContain(CANARY)
    if (code !== 'OK') expect(told).toContain('acme')
    return code
  }

  test('what is whole and no wider than asked is handed out', async () => {
    answer(row.good)
    expect(await outcome()).toBe('OK')
  })

  test.each(row.cases)('%s', async (_, last, code) => {
    answer(last)
    expect(await outcome()).toBe(code)
  })

  const outages: readonly Answer[] = [
    'hang',
    'reset',
    { status: 500 },
    { status: 502 },
    { status: 503 },
    { status: 429, headers: { 'retry-after': '60' } },
  ]
  test.each(outages.map(one => [one] as const))('%j is an outage', async last => {
    if (last === 'hang') {
      await test_[Symbol.asyncDispose]()
      test_ = opened(300)
    }
    answer(last)
    expect(await outcome()).toBe('unavailable')
  })

  test('a provider that asks to be left alone is left alone', async () => {
    answer({ status: 429, headers: { 'retry-after': '60' } })
    expect(await outcome()).toBe('unavailable')
    const before = provider.asked.length
    answer(row.good)
    expect(await outcome()).toBe('unavailable')
    expect(provider.asked.length).toBe(before)
  })

  test('a provider that is too busy for a moment is asked again', async () => {
    let times = 0
    provider.answer = asked =>
      row.beside?.(asked) ?? (times++ === 0 ? { status: 429, headers: { 'retry-after': '0' } } : row.good)
    expect(await outcome()).toBe('OK')
  })

  test('after five failures it is left alone', async () => {
    answer({ status: 500 })
    for (let failures = 0; failures < 5; failures++) expect(await outcome()).toBe('unavailable')
    const before = provider.asked.length
    expect(await outcome()).toBe('unavailable')
    expect(provider.asked.length).toBe(before)
  })

  test('a provider that is not there', async () => {
    await provider[Symbol.asyncDispose]()
    expect(await outcome()).toBe('unavailable')
  })
})
