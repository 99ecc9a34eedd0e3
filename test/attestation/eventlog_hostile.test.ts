import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { appraiseEventLogs, parseEventLog, readImaEntry, refusals, replayEventLog } from '#attestation'
import { readEfiVariable, readSignatureLists } from '../../attestation/eventlog/efi_variable.ts'
import { outcome, unwrap } from './attester.ts'
import { boot, encodeHead, encodeLog, policy } from './eventlog_maker.ts'
import { entry } from './ima_maker.ts'

const codes = ['OK', ...Object.keys(refusals)]
const log = encodeLog(boot)
const quoted = unwrap(replayEventLog(unwrap(parseEventLog(log)), 'sha256'))
const judge = (bytes: Uint8Array) => outcome(appraiseEventLogs([bytes], quoted, { bank: 'sha256', replay: [...quoted.keys()] }))

/** Where one event ends and the next begins. */
const borders = boot.map((_, events) => encodeLog(boot.slice(0, events)).length)

describe('an event log', () => {
  test('is TRUNCATED wherever it is cut, or lacks an event', () => {
    for (let length = 1; length < log.length; length += 1)
      expect([length, judge(log.subarray(0, length))]).toEqual([length, borders.includes(length) ? 'LOG_MISMATCH' : 'TRUNCATED'])
  })

  test('shows no more when any bit of it is another one', () => {
    const good = unwrap(appraiseEventLogs([log], quoted, { bank: 'sha256', replay: [...quoted.keys()] }))
    for (let bit = 0; bit < log.length * 8; bit += 7) {
      const changed = Buffer.from(log)
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      const verdict = appraiseEventLogs([changed], quoted, { bank: 'sha256', replay: [...quoted.keys()] })
      // a bit that nothing covers may be changed: then what is known is the same, or less, or one thing more is called an image
      if (verdict.ok) {
        const { images = [], drivers = [], ...rest } = verdict.value
        expect({ ...good, ...rest }).toEqual(good)
        expect([images, drivers]).toEqual([
          expect.arrayContaining([...(good.images ?? [])]),
          expect.arrayContaining([...(good.drivers ?? [])]),
        ])
      } else expect(codes).toContain(verdict.code)
    }
  })

  test('gives a verdict whatever was changed, repeated or left out', () => {
    const change = fc.record({
      at: fc.nat(log.length - 1),
      drop: fc.nat(40),
      put: fc.oneof(fc.uint8Array({ maxLength: 8 }), fc.constantFrom(...[0, 1, 0xff].map(byte => Buffer.alloc(4, byte)))),
    })
    const changed = fc
      .array(change, { minLength: 1, maxLength: 4 })
      .map(changes =>
        changes.reduce((bytes, { at, drop, put }) => Buffer.concat([bytes.subarray(0, at), put, bytes.subarray(at + drop)]), log),
      )
    fc.assert(
      fc.property(changed, bytes => codes.includes(judge(bytes))),
      { numRuns: 2000 },
    )
  })

  test('gives a verdict on any bytes, behind a header or not', () => {
    const any = fc.tuple(fc.constantFrom(Buffer.alloc(0), encodeHead({})), fc.uint8Array({ maxLength: 400 }))
    fc.assert(
      fc.property(
        any.map(parts => Buffer.concat(parts)),
        bytes => codes.includes(judge(bytes)),
      ),
      { numRuns: 2000 },
    )
  })
})

describe('what is in an event', () => {
  const samples = policy.map(({ data }) => data)
  const readers = [readEfiVariable, readSignatureLists]

  test('a variable is refused wherever it is cut', () => {
    for (const sample of samples)
      for (let length = 0; length < sample.length; length += 1)
        expect(outcome(readEfiVariable(sample.subarray(0, length)))).toBe('BAD_ENCODING')
  })

  test('gives a verdict on any bytes', () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc.tuple(fc.constantFrom(...samples), fc.nat(400), fc.nat(255)).map(([sample, at, byte]) => {
        const changed = Buffer.from(sample)
        changed[at % changed.length] = byte
        return changed
      }),
    )
    fc.assert(
      fc.property(bytes, fc.constantFrom(...readers), (one, read) => codes.includes(outcome(read(one)))),
      { numRuns: 2000 },
    )
  })
})

describe('a line of IMA', () => {
  const lines = [
    entry('/usr/bin/bash'),
    entry('/usr/bin/bash', { template: 'ima-sig', extra: Buffer.from('03020403', 'hex') }),
    entry('/usr/bin/bash', { template: 'ima-sig', extra: Buffer.alloc(0), algorithm: 'sha256' }),
  ]

  test('is refused wherever it is cut, but for the space at its end, which may be lost', () => {
    for (const line of lines)
      for (let length = 0; length < line.trimEnd().length; length += 1)
        expect(outcome(readImaEntry(line.slice(0, length)))).not.toBe('OK')
  })

  test('is refused when any character is another one', () => {
    for (const line of lines)
      for (let at = 0; at < line.length; at += 1)
        for (const other of [' ', '0', 'f', 'g', ':', '\0', '\n', '\xff']) {
          if (line[at] === other) continue
          expect([at, other, outcome(readImaEntry(line.slice(0, at) + other + line.slice(at + 1)))]).not.toEqual([
            at,
            other,
            'OK',
          ])
        }
  })

  test('gives a verdict whatever is in it', () => {
    const word = fc.oneof(
      fc.constantFrom(...lines.flatMap(line => line.split(' '))),
      fc.string({ unit: 'binary', maxLength: 12 }),
    )
    const line = fc.array(word, { maxLength: 8 }).map(words => words.join(' '))
    fc.assert(
      fc.property(line, text => codes.includes(outcome(readImaEntry(text)))),
      { numRuns: 5000 },
    )
  })
})
