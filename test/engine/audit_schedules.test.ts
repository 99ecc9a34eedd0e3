import { existsSync } from 'node:fs'
import { readFile, rename } from 'node:fs/promises'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Audit, verifyAudit } from '../../engine/audit/index.ts'
import { until } from '../harness/process.ts'
import { faultyDisk, filesOf, type Operation, opened, record } from './audit_disk.ts'

const healthy = (audit: Audit) => until('the log to recover', async () => audit.healthy())

test('whatever fails in whatever order: what was durable is in a chain that verifies, once, and nothing else but what hung', async () => {
  const failing = fc.constantFrom<Operation>(
    'open',
    'write',
    'sync',
    'size',
    'state',
    'truncate',
    'isAt',
    'rename',
    'moveAside',
    'remove',
    'syncNames',
    'close',
  )
  const faults = fc.array(fc.record({ after: fc.nat(8), failing, short: fc.nat(400) }), { minLength: 1, maxLength: 8 })
  const survives = async (schedule: readonly { after: number; failing: Operation; short: number }[]) => {
    const disk = faultyDisk()
    const { audit, file } = await opened({ disk, retryMs: 0, lazyMs: 1 })
    const left = [...schedule]
    let passed = 0
    disk.fault = (operation, bytes) => {
      const next = left[0]
      if (!next || next.failing !== operation || passed++ < next.after) return undefined
      left.shift()
      passed = 0
      if (operation === 'write' && next.short < bytes.length) return next.short
      throw new Error(`EIO: ${operation}`)
    }
    const durable: string[] = []
    const lazy: string[] = []
    for (let number = 0; number < 40; number++) {
      const group = [0, 1, 2].map(async one => {
        const txn = `t${number}.${one}`
        await audit.append(record(txn)).then(
          () => durable.push(txn),
          () => healthy(audit),
        )
      })
      lazy.push(`o${number}`)
      audit.appendLazy(record(`o${number}`))
      if (number % 10 === 5)
        await rename(file, `${file}.rotated-${number}`)
          .then(
            () => audit.reopen(),
            () => undefined,
          )
          .catch(() => undefined)
      await Promise.all(group)
    }
    disk.fault = () => undefined
    await healthy(audit)
    await audit.close()
    const txns = (await keptInOrder(file)).filter(txn => txn !== 'event')
    expect([...txns].sort()).toEqual([...durable, ...lazy].sort())
    expect(txns.filter(txn => txn.startsWith('o'))).toEqual(lazy)
  }
  await fc.assert(fc.asyncProperty(faults, survives), { numRuns: 60 })
})

/** The files ordered by the index of their first record: rotation and sealing have each their own names here. */
async function keptInOrder(file: string): Promise<string[]> {
  const files = (await filesOf(file)).filter(name => existsSync(name))
  const texts = (await Promise.all(files.map(name => readFile(name, 'utf8')))).filter(text => text !== '')
  const records = (text: string) =>
    text
      .trimEnd()
      .split('\n')
      .map(line => JSON.parse(line) as { index: number; txn?: string })
  const ordered = texts.sort((one, other) => (records(one)[0]?.index ?? 0) - (records(other)[0]?.index ?? 0))
  const chunks = async function* () {
    for (const text of ordered) yield Buffer.from(text)
  }
  expect(await verifyAudit(chunks())).toMatchObject({ ok: true, first: 0 })
  return ordered.flatMap(text => records(text).map(line => line.txn ?? 'event'))
}
