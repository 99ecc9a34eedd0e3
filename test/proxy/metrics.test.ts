import { describe, expect, onTestFinished, test } from 'vitest'
import { openLookout } from '../../proxy/lookout.ts'
import { openMetrics, rows } from '../../proxy/metrics.ts'
import { refusals } from '../../proxy/refusals.ts'
import { bearer, exchangeRaw, openProxyWorld, type ProxyWorld } from './world.ts'

/** The samples of one metric, by their labels as Prometheus writes them. */
async function samples({ metrics }: Pick<ProxyWorld, 'metrics'>, name: string): Promise<Record<string, number>> {
  const lines = (await metrics.text()).split('\n').filter(line => line.startsWith(`assay_${name}`))
  const cut = (line: string) => line.lastIndexOf(' ')
  return Object.fromEntries(lines.map(line => [line.slice(`assay_${name}`.length, cut(line)), Number(line.slice(cut(line)))]))
}

describe('what is counted', () => {
  test('swaps by service, what they opened, and how long answers took', async () => {
    await using world = await openProxyWorld()
    world.upstream.answer = (incoming, outgoing) => void outgoing.writeHead(incoming.url === '/no' ? 404 : 200).end()
    const headers = bearer(await world.seal())
    for (const path of ['/', '/', '/no']) await world.ask({ path: `${world.base}${path}`, headers })
    expect(await samples(world, 'proxy_swaps_total')).toEqual({ '{service="upstream"}': 3 })
    expect(await samples(world, 'proxy_tokens_opened_total')).toEqual({ '{outcome="ok"}': 1 })
    expect(await samples(world, 'proxy_upstream_seconds_count')).toEqual({
      '{service="upstream",outcome="ok"}': 2,
      '{service="upstream",outcome="refused"}': 1,
    })
  })

  test('refusals by code, and none under what was sent', async () => {
    await using world = await openProxyWorld()
    await world.ask({ path: '/_/canary.example/' })
    await world.ask({ headers: { Authorization: 'Bearer canary' } })
    expect(await samples(world, 'proxy_refusals_total')).toEqual({ '{code="DESTINATION"}': 1, '{code="TOKEN_FORM"}': 1 })
    for (const code of Object.keys(refusals)) world.metrics.refusals.inc({ code })
    const text = await world.metrics.text()
    expect(text).not.toContain('canary')
    expect(text).not.toContain('code="other"')
  })

  test('connections while they are open', async () => {
    await using world = await openProxyWorld()
    expect(await samples(world, 'proxy_connections')).toEqual({ '': 0 })
    const socket = await world.connect()
    await exchangeRaw(socket, 'GET / HTTP/1.1\r\nHost: a\r\n\r\n', text => text.includes(']}'))
    expect(await samples(world, 'proxy_connections')).toEqual({ '': 1 })
    socket.destroy()
    await expect.poll(() => samples(world, 'proxy_connections')).toEqual({ '': 0 })
  })

  test('has every row, each with its help and its prefix', async () => {
    const metrics = openMetrics({ version: '1' })
    onTestFinished(metrics.close)
    const text = await metrics.text()
    for (const { name, help } of Object.values(rows)) expect(text).toContain(`# HELP assay_${name} ${help}\n`)
  })
})

describe('where operators look', () => {
  const opened = async (checks: Record<string, boolean>) => {
    const metrics = openMetrics({ version: '1' })
    onTestFinished(metrics.close)
    const lookout = await openLookout({ listen: { host: '127.0.0.1', port: 0 }, metrics, checks: () => checks })
    onTestFinished(lookout.close)
    return { metrics, url: lookout.url }
  }
  const get = async (url: string, init?: RequestInit) => {
    const { status, headers, ...reply } = await fetch(url, init).then(async one => ({
      status: one.status,
      headers: one.headers,
      text: await one.text(),
    }))
    return { status, type: headers.get('content-type'), text: reply.text }
  }

  test('are metrics, and whether it is alive and ready', async () => {
    const checks = { audit: true, session: true }
    const { metrics, url } = await opened(checks)
    expect(await get(`${url}/metrics`)).toMatchObject({ status: 200, type: metrics.contentType })
    expect(await get(`${url}/healthz`)).toMatchObject({ status: 200, text: '{"live":true}' })
    expect(await get(`${url}/readyz`)).toMatchObject({
      status: 200,
      text: '{"ready":true,"checks":{"audit":true,"session":true}}',
    })
    checks.audit = false
    expect(await get(`${url}/readyz`)).toMatchObject({
      status: 503,
      text: '{"ready":false,"checks":{"audit":false,"session":true}}',
    })
    expect(await get(`${url}/healthz`)).toMatchObject({ status: 200 })
  })

  test('is nothing else, and nothing of it is to be had where agents are', async () => {
    const { url } = await opened({})
    for (const path of ['/', '/metrics/', '/_/api.example.com/']) expect((await get(`${url}${path}`)).status).toBe(404)
    expect((await get(`${url}/metrics`, { method: 'POST' })).status).toBe(404)
    await using world = await openProxyWorld()
    for (const path of ['/metrics', '/healthz', '/readyz']) expect((await world.ask({ path })).code).toBe('DESTINATION_UNCLEAR')
  })

  test('a port that is taken is named', async () => {
    const { metrics, url } = await opened({})
    const listen = { host: '127.0.0.1', port: Number(new URL(url).port) }
    await expect(openLookout({ listen, metrics, checks: () => ({}) })).rejects.toThrow(/metrics: cannot listen on 127.0.0.1 \d+/)
  })
})

describe('the record of a swap', () => {
  test('is on disk before a request goes out, where that is wanted', async () => {
    await using world = await openProxyWorld({ config: { audit: { file: 'audit.jsonl', durable: true } } })
    let before = -1
    world.upstream.answer = (_, outgoing) => {
      void world.written().then(records => {
        before = records.filter(one => one['operation'] === 'swap').length
        outgoing.end('fine')
      })
    }
    expect((await world.ask({ headers: bearer(await world.seal()) })).status).toBe(200)
    expect(before).toBe(1)
  })

  test('follows within a tenth of a second else, and no request waits for it', async () => {
    await using world = await openProxyWorld()
    expect((await world.ask({ headers: bearer(await world.seal()) })).status).toBe(200)
    await expect.poll(async () => (await world.written()).filter(one => one['operation'] === 'swap').length).toBe(1)
  })

  test.each([true, false])('of a request that does not go out because the log is closed is none; durable: %s', async durable => {
    await using world = await openProxyWorld({ config: { audit: { file: 'audit.jsonl', durable } } })
    const headers = bearer(await world.seal())
    await world.closeAudit()
    expect((await world.ask({ headers })).code).toBe('UNAVAILABLE')
    expect(world.upstream.seen).toEqual([])
  })
})
