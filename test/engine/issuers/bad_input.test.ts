import { gzipSync } from 'node:zlib'
import { afterEach, beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { openTestExchange, type TestExchange } from '../../fakes/exchange.ts'
import { type Answer, type Provider, startProvider } from '../../fakes/provider.ts'
import { PATIENCE_MS } from '../../harness/patience.ts'
import { type Authority, newAuthority } from '../../mounts/hosts/certificates.ts'
import { CANARY, type Case, providers } from './providers.ts'

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
    test_ = opened(PATIENCE_MS)
  })
  afterEach(async () => {
    await test_[Symbol.asyncDispose]()
    await provider[Symbol.asyncDispose]()
    await side[Symbol.asyncDispose]()
  })
  const opened = (deadlineMs: number, url = provider.url) =>
    openTestExchange({ ...row, settings: row.settings(url, side.url, authority.ca), deadlineMs })
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

  /** What no provider was asked for: a compressed answer, which would unfold to a thousand times as much, and a success that is nothing's own. */
  const odd = (good: Answer): readonly Case[] => {
    if (typeof good === 'string') return []
    const compressed = { ...good.headers, 'content-encoding': 'gzip' }
    const text = good.text === undefined ? `{"__proto__":${JSON.stringify(good.body)}}` : '<__proto__></__proto__>'
    return [
      ['a bomb', { status: good.status, headers: compressed, text: gzipSync(Buffer.alloc(2 ** 22)) }, 'EXCHANGE_UNUSABLE'],
      ['a success of the prototype', { status: good.status, text }, 'EXCHANGE_UNUSABLE'],
    ]
  }
  test.each([...row.cases, ...odd(row.good)])('%s', async (_, last, code) => {
    answer(last)
    expect(await outcome()).toBe(code)
    const lives = typeof last === 'object' && last.status < 300 && /upstream"/.test(JSON.stringify(last.body ?? ''))
    if (row.revocation && lives) expect(provider.asked.filter(row.revocation)).toHaveLength(1)
  })

  const outages: readonly Answer[] = [
    'hang',
    'drip',
    'reset',
    { status: 200, text: ' '.repeat(2 ** 21) },
    { status: 500 },
    { status: 502 },
    { status: 503 },
    { status: 429, headers: { 'retry-after': '60' } },
  ]
  test.each(outages.map(one => [JSON.stringify(one).slice(0, 60), one] as const))('%s is an outage', async (_, last) => {
    if (last === 'hang' || last === 'drip') {
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
    // for a pause that does not end here
    vi.useFakeTimers({ toFake: ['Date'] })
    onTestFinished(() => void vi.useRealTimers())
    answer({ status: 500 })
    for (let failures = 0; failures < 5; failures++) expect(await outcome()).toBe('unavailable')
    const before = provider.asked.length
    expect(await outcome()).toBe('unavailable')
    expect(provider.asked.length).toBe(before)
  })

  test('a provider that is not there', async () => {
    await test_[Symbol.asyncDispose]()
    // nobody listens on the first port, and nobody is given it
    test_ = opened(PATIENCE_MS, provider.url.replace(/:\d+$/, ':1'))
    expect(await outcome()).toBe('unavailable')
  })
})
