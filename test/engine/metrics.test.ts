import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { Registry } from 'prom-client'
import { describe, expect, onTestFinished, test } from 'vitest'
import { codes } from '../../engine/errors.ts'
import { outcomeOf } from '../../engine/meters.ts'
import { openMetrics, rows } from '../../engine/metrics.ts'
import { refusals } from '../../engine/refusals.ts'
import { openVault } from '../../engine/vault/client.ts'
import { opened, record } from './audit_disk.ts'

function metrics() {
  const made = openMetrics({ version: '1.2.3' })
  onTestFinished(made.close)
  return made
}

/** The values of one metric, by their labels as Prometheus writes them. */
async function valuesOf(text: Promise<string>, name: string): Promise<Record<string, number>> {
  const lines = (await text).split('\n').filter(line => line.startsWith(`assay_${name}`))
  return Object.fromEntries(
    lines.map(line => [line.slice(`assay_${name}`.length, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]),
  )
}

describe('the registry', () => {
  test('has every row, each with its help and its prefix', async () => {
    const text = await metrics().text()
    const named = [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, kind]) => `${name} ${kind}`)
    expect(named.sort()).toEqual(
      Object.values(rows)
        .map(({ name, kind }) => `assay_${name} ${kind}`)
        .sort(),
    )
    for (const { name, help } of Object.values(rows)) expect(text).toContain(`# HELP assay_${name} ${help}\n`)
  })

  test('names what is running', async () => {
    expect(await valuesOf(metrics().text(), 'build_info')).toEqual({ [`{version="1.2.3",node="${process.version}"}`]: 1 })
  })

  test('is of one service only', async () => {
    const [one, other] = [metrics(), metrics()]
    one.issues.inc({ issuer: 'jwt' })
    expect(await valuesOf(one.text(), 'issues_total')).toEqual({ '{issuer="jwt"}': 1 })
    expect(await valuesOf(other.text(), 'issues_total')).toEqual({})
  })

  test('may be given', async () => {
    const registry = new Registry()
    const made = openMetrics({ version: '1', registry })
    onTestFinished(made.close)
    made.issues.inc({ issuer: 'jwt' })
    expect(await valuesOf(registry.metrics(), 'issues_total')).toEqual({ '{issuer="jwt"}': 1 })
    expect(made.contentType).toBe(registry.contentType)
  })
})

describe('labels', () => {
  test('say only what is in their table, so that nobody who asks makes a new series', async () => {
    const made = metrics()
    for (let number = 0; number < 1000; number++) {
      const text = `canary-${number}"}\n`
      made.requests.inc({ mount_type: text, operation: text, outcome: text })
      made.refusals.inc({ code: text })
      made.issues.inc({ issuer: text })
      made.challengesRedeemed.inc({ outcome: text })
      made.auditProblems.inc({ kind: text })
      made.upstream(text, 200 + number, 0.1)
    }
    const text = await made.text()
    expect(text).not.toContain('canary')
    expect(await valuesOf(made.text(), 'refusals_total')).toEqual({ '{code="other"}': 1000 })
    expect(await valuesOf(made.text(), 'requests_total')).toEqual({
      '{mount_type="other",operation="other",outcome="other"}': 1000,
    })
    expect(text.split('\n').length).toBeLessThan(300)
  })

  test('know every code of a refusal and of an error', async () => {
    const made = metrics()
    for (const code of [...Object.keys(refusals), ...Object.keys(codes)]) made.refusals.inc({ code })
    expect(await valuesOf(made.text(), 'refusals_total')).not.toHaveProperty('{code="other"}')
  })
})

describe('what is counted', () => {
  test('requests, refusals and what was passed through', async () => {
    const made = metrics()
    made.requests.inc({ mount_type: 'broker', operation: 'update', outcome: 'ok' })
    made.requests.inc({ mount_type: 'broker', operation: 'update', outcome: 'ok' }, 2)
    made.passed.inc({ outcome: outcomeOf(404) })
    expect(await valuesOf(made.text(), 'requests_total')).toEqual({ '{mount_type="broker",operation="update",outcome="ok"}': 3 })
    expect(await valuesOf(made.text(), 'passed_requests_total')).toEqual({ '{outcome="refused"}': 1 })
  })

  test('calls to Vault by how they ended, with their time', async () => {
    const made = metrics()
    for (const status of [200, 204, 403, 503, 0]) made.upstream('GET', status, 0.003)
    const outcomes = { '{outcome="ok"}': 2, '{outcome="refused"}': 1, '{outcome="failed"}': 1, '{outcome="unreachable"}': 1 }
    expect(await valuesOf(made.text(), 'upstream_calls_total')).toEqual(outcomes)
    expect(await valuesOf(made.text(), 'upstream_call_seconds')).toMatchObject({
      '_count{outcome="ok"}': 2,
      '_sum{outcome="ok"}': 0.006,
      '_bucket{le="0.0025",outcome="ok"}': 0,
      '_bucket{le="0.005",outcome="ok"}': 2,
    })
  })

  test('how far the clock is ahead of Vault’s, by what it said last', async () => {
    const made = openMetrics({ version: '1', now: Date.now })
    onTestFinished(made.close)
    expect(await valuesOf(made.text(), 'clock_ahead_seconds')).toEqual({ '': Number.NaN })
    const dates = [new Date(Date.now() - 7_200_000), new Date(Date.now() - 3_600_000)]
    const server = createServer((_, outgoing) => {
      const date = dates.shift()
      outgoing.setHeader('Date', date?.toUTCString() ?? '').end('{"data":{}}')
    })
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as AddressInfo
    const vault = openVault({ address: `http://127.0.0.1:${port}`, deadlineMs: 60_000, observe: made.upstream })
    onTestFinished(async () => {
      await vault.close()
      server.close()
    })
    const ahead = async () => {
      await vault.read('sys/mounts')
      return Math.round(((await valuesOf(made.text(), 'clock_ahead_seconds'))[''] ?? 0) / 60)
    }
    expect([await ahead(), await ahead()]).toEqual([120, 60])
  })

  test('the audit log: each record, and each group', async () => {
    const made = metrics()
    const { audit } = await opened(made.audit)
    await Promise.all([1, 2, 3].map(number => audit.append(record(`t${number}`))))
    await audit.append(record('t4'))
    expect(await valuesOf(made.text(), 'audit_append_seconds')).toMatchObject({ _count: 4 })
    expect(await valuesOf(made.text(), 'audit_sync_seconds')).toMatchObject({ _count: 2 })
    expect(await valuesOf(made.text(), 'audit_sync_records')).toMatchObject({
      _count: 2,
      _sum: 4,
      '_bucket{le="1"}': 1,
      '_bucket{le="4"}': 2,
    })
  })

  test('what is asked for when it is read', async () => {
    const made = metrics()
    let held = 3
    made.challengesHeld.follow({}, () => held)
    expect(await valuesOf(made.text(), 'challenges_held')).toEqual({ '': 3 })
    held = 5
    expect(await valuesOf(made.text(), 'challenges_held')).toEqual({ '': 5 })
  })

  test('the lag of the event loop since the last scrape', async () => {
    const made = metrics()
    const lag = () => valuesOf(made.text(), 'event_loop_lag_seconds')
    // the monitor measures from one of its ticks to the next, every 10 ms: one must come before, and one after
    await delay(50)
    const end = performance.now() + 200
    while (performance.now() < end);
    await delay(50)
    const seen = await lag()
    expect(seen['{quantile="1"}']).toBeGreaterThan(0.15)
    expect(seen['{quantile="1"}']).toBeGreaterThanOrEqual(seen['{quantile="0.5"}'] as number)
    expect((await lag())['{quantile="1"}']).toBeLessThan(seen['{quantile="1"}'] as number)
  })
})
