import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { type Hash, hashes } from '#attestation'
import { eventType } from '../../attestation/eventlog/event_types.ts'
import { outcome, unwrap } from './attester.ts'
import { ALL, appraise, eventAt, honest, inserted, judge, log, NONE, quoted, secureBootAt, valuesOf } from './eventlog_boot.ts'
import {
  BANKS,
  boot,
  digestOf,
  driverConfig,
  encodeEvent,
  encodeHead,
  encodeLog,
  type Head,
  image,
  locality,
  type Made,
  separator,
  u32,
} from './eventlog_maker.ts'

/** The same events with another one in that place. */
const withEvent = (place: number, event: Made) => boot.with(place, event)
/** As it was measured, with its data or type told otherwise. */
const retold = (place: number, changes: Partial<Made>) =>
  withEvent(place, { measured: eventAt(place).data, ...eventAt(place), ...changes })
const event2 = (pcr: number, type: number, count: number, rest: Buffer) => Buffer.concat([u32(pcr), u32(type), u32(count), rest])
const lost = (place: number, banks: readonly Hash[]): Made => ({
  ...eventAt(place),
  digests: banks.map(bank => [hashes[bank].id, digestOf(eventAt(place).data, bank)] as const),
})
const [sha1, sha256, sha384] = BANKS
const twice = (place: number) => withEvent(place, lost(place, [sha1, sha256, sha256, sha384]))
const both = (place: number, other: number) => boot.with(place, eventAt(other)).with(other, eventAt(place))

describe('a boot behind which systemd measured its separator', () => {
  const word = createHash('sha256').update('os-separator').digest()
  const extended = (value: Buffer, ...digests: Buffer[]) =>
    digests.reduce((last, one) => createHash('sha256').update(last).update(one).digest(), value)
  const behind = (...digests: Buffer[]) =>
    new Map([...quoted].map(([pcr, value]) => [pcr, SEPARATED.includes(pcr) ? extended(value, ...digests) : value]))
  const SEPARATED = [0, 1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 14]

  test('is explained by the log of the firmware, which does not have that', () => {
    expect(appraise([log], {}, behind(word))).toEqual(appraise([log]))
  })

  test.each([
    ['another word', [createHash('sha256').update('os-separators').digest()]],
    ['it twice', [word, word]],
    ['something behind it', [word, createHash('sha256').update('ready').digest()]],
  ])('is not explained with %s', (_, digests) => {
    expect(outcome(appraise([log], {}, behind(...digests)))).toBe('LOG_MISMATCH')
  })

  test('is not explained in PCRs that systemd leaves alone', () => {
    const value = extended(quoted.get(8) ?? NONE, word)
    expect(outcome(appraise([log], {}, new Map([...quoted, [8, value]])))).toBe('LOG_MISMATCH')
  })
})

describe('a log that was tampered with', () => {
  test.each<readonly [string, string, Uint8Array]>([
    ['as it is', 'OK', log],
    ['empty', 'LOG_MISSING', NONE],
    ['nothing but its header', 'LOG_MISMATCH', encodeHead({})],
    ['without its last event', 'LOG_MISMATCH', encodeLog(boot.slice(0, -1))],
    ['without an event', 'LOG_MISMATCH', encodeLog(boot.toSpliced(secureBootAt, 1))],
    ['with one more', 'LOG_MISMATCH', encodeLog([...boot, image(4, 'evil')])],
    ['in another order', 'LOG_MISMATCH', encodeLog(both(secureBootAt, secureBootAt + 1))],
    [
      'data that was not measured',
      'EVENT_DATA_DIGEST',
      encodeLog(retold(secureBootAt, { data: driverConfig('SecureBoot', Buffer.of(0)).data })),
    ],
    [
      'a separator that was not measured',
      'EVENT_DATA_DIGEST',
      encodeLog(
        retold(
          boot.findIndex(({ type }) => type === eventType.SEPARATOR),
          { data: u32(0xffffffff) },
        ),
      ),
    ],
    [
      'an action that was not measured',
      'EVENT_DATA_DIGEST',
      encodeLog(retold(boot.length - 1, { data: Buffer.from('Exit Boot Services Returned with Success') })),
    ],
    ['a startup locality', 'LOG_MISMATCH', encodeLog(boot.with(0, locality(0)))],
    ['no startup locality', 'LOG_MISMATCH', encodeLog(boot.slice(1))],
    ['two startup localities', 'LOG_AMBIGUOUS', encodeLog([locality(3), ...boot])],
    ['a second startup locality at the end', 'LOG_AMBIGUOUS', encodeLog([...boot, locality(3)])],
    ['a startup locality too late', 'EVENT_SEMANTICS', encodeLog([...boot.slice(1), locality(3)])],
    ['a startup locality of PCR 1', 'BAD_ENCODING', encodeLog(boot.with(0, { ...locality(3), pcr: 1 }))],
    ['a startup locality that a TPM does not have', 'BAD_ENCODING', encodeLog(boot.with(0, locality(5)))],
    [
      'a startup locality with more after it',
      'BAD_ENCODING',
      encodeLog(boot.with(0, { ...locality(3), data: Buffer.concat([locality(3).data, NONE, Buffer.of(0)]) })),
    ],
    [
      'a startup locality without its value',
      'BAD_ENCODING',
      encodeLog(boot.with(0, { ...locality(3), data: locality(3).data.subarray(0, -1) })),
    ],
    [
      'no action, but with digests',
      'BAD_ENCODING',
      encodeLog(inserted(1, { ...locality(3), data: Buffer.from('evil'), digests: [[0x000b, Buffer.alloc(32, 1)]] })),
    ],
    [
      'no action, with a digest of zeros and another one',
      'BAD_ENCODING',
      encodeLog(
        inserted(1, {
          ...locality(3),
          data: Buffer.from('evil'),
          digests: [
            [0x0004, Buffer.alloc(20)],
            [0x000b, Buffer.concat([Buffer.of(0), Buffer.alloc(31, 1)])],
          ],
        }),
      ),
    ],
    [
      'a digest of an algorithm that is not declared',
      'UNSUPPORTED_ALG',
      encodeLog(withEvent(1, { ...eventAt(1), digests: [[0x0027, Buffer.alloc(32)]] })),
    ],
    ['two digests of one bank', 'BAD_ENCODING', encodeLog(twice(secureBootAt))],
    ['no digest of the bank', 'LOG_MISMATCH', encodeLog(withEvent(secureBootAt, lost(secureBootAt, [sha1, sha384])))],
    ['no digest of another bank', 'OK', encodeLog(withEvent(secureBootAt, lost(secureBootAt, [sha1, sha256])))],
    ['an event of PCR 24', 'LIMIT', encodeLog([...boot, separator(24)])],
    ['an event of PCR 0xffffffff', 'LIMIT', Buffer.concat([log, event2(0xffffffff, eventType.NO_ACTION, 0, u32(0))])],
    ['0xffffffff digests', 'LIMIT', Buffer.concat([log, event2(0, 1, 0xffffffff, NONE)])],
    ['17 digests', 'LIMIT', Buffer.concat([log, event2(0, 1, 17, NONE)])],
    ['0xffffffff bytes of data', 'LIMIT', Buffer.concat([log, event2(0, 1, 0, u32(0xffffffff))])],
    ['256 KiB and a byte of data', 'LIMIT', Buffer.concat([log, event2(0, 1, 0, u32(262_145))])],
    ['data that is not there', 'TRUNCATED', Buffer.concat([log, event2(0, 1, 0, u32(262_144))])],
    ['10,001 events', 'LIMIT', Buffer.concat([encodeHead({}), ...Array<Buffer>(10_001).fill(event2(0, 1, 0, u32(0)))])],
    ['a million events', 'LIMIT', Buffer.alloc(16_000_000)],
    ['padding', 'TRAILING_DATA', Buffer.concat([log, Buffer.alloc(4096, 0xff)])],
    ['a byte of padding', 'TRAILING_DATA', Buffer.concat([log, Buffer.of(0xff)])],
    ['what looks like padding', 'LIMIT', Buffer.concat([log, Buffer.alloc(64, 0xff), Buffer.of(0)])],
    ['zeros', 'LOG_MISMATCH', Buffer.concat([log, Buffer.alloc(64)])],
  ])('%s: %s', (_, expected, bytes) => expect(judge(bytes)).toBe(expected))

  test('padding is accepted where it is asked for, and nothing else is', () => {
    expect(judge(Buffer.concat([log, Buffer.alloc(4096, 0xff)]), { padding: true })).toBe('OK')
    expect(judge(Buffer.concat([log, Buffer.alloc(64, 0xff), Buffer.of(0)]), { padding: true })).toBe('LIMIT')
  })
})

describe('the header of a log', () => {
  const declared = (...algorithms: (readonly [number, number])[]): Head => ({ algorithms })
  test.each<readonly [string, string, Head]>([
    ['that of TPM 1.2', 'WEAK_BANK', { signature: 'Spec ID Event00\0' }],
    ['that of EFI 1.2', 'WEAK_BANK', { signature: 'Spec ID Event02\0' }],
    ['no header but an event', 'WEAK_BANK', { type: 0x8, signature: 'firmware v1', digest: Buffer.alloc(20, 1) }],
    ['SHA-1 alone', 'WEAK_BANK', declared([0x0004, 20])],
    ['SHA-384 alone', 'WEAK_BANK', declared([0x000c, 48])],
    ['a measured header', 'BAD_ENCODING', { type: 0x8 }],
    ['a header with a digest', 'BAD_ENCODING', { digest: Buffer.alloc(20, 1) }],
    ['a wrong size of a digest', 'BAD_ENCODING', declared([0x0004, 20], [0x000b, 20])],
    ['one algorithm twice', 'BAD_ENCODING', declared([0x000b, 32], [0x000b, 32])],
    ['an unknown algorithm', 'UNSUPPORTED_ALG', declared([0x000b, 32], [0x0099, 32])],
    ['no algorithm', 'BAD_ENCODING', declared()],
    ['17 algorithms', 'LIMIT', { count: 17 }],
    ['0xffffffff algorithms', 'LIMIT', { count: 0xffffffff }],
    ['more algorithms than there are', 'BAD_ENCODING', { count: 16 }],
    ['vendor information past its end', 'BAD_ENCODING', { tail: Buffer.of(4, 1, 2, 3) }],
    ['bytes after the vendor information', 'BAD_ENCODING', { tail: Buffer.of(1, 2, 3) }],
    ['another version', 'BAD_ENCODING', { major: 1 }],
    ['PCR 24', 'LIMIT', { pcr: 24 }],
  ])('%s: %s', (_, expected, head) => {
    const banks = (head.algorithms ?? [])
      .map(([id]) => BANKS.find(bank => hashes[bank].id === id))
      .filter(bank => bank !== undefined)
    expect(judge(encodeLog(head.algorithms ? [separator(0)] : boot, head, head.algorithms ? banks : BANKS))).toBe(expected)
  })

  test('vendor information and other banks are read over', () => {
    const algorithms = [
      [0x0012, 32],
      [0x000b, 32],
      [0x0029, 64],
    ] as const
    const events = boot.map(event => {
      const zero = event.type === eventType.NO_ACTION
      const own = zero ? Buffer.alloc(32) : digestOf(event.measured ?? event.data)
      return encodeEvent({
        ...event,
        digests: [
          [0x0012, Buffer.alloc(32, zero ? 0 : 1)],
          [0x000b, own],
          [0x0029, Buffer.alloc(64)],
        ],
      })
    })
    expect(judge(Buffer.concat([encodeHead({ algorithms, tail: Buffer.of(3, 1, 2, 3) }), ...events]))).toBe('OK')
  })
})

describe('which PCRs a log has to explain', () => {
  test('a value that no event explains', () => {
    const other = new Map(quoted).set(11, Buffer.alloc(32, 1))
    expect(outcome(appraise([log], {}, other))).toBe('LOG_MISMATCH')
    expect(outcome(appraise([log], { replay: ALL.filter(pcr => pcr !== 11) }, other))).toBe('OK')
  })
  test('one that was not quoted', () => {
    expect(outcome(appraise([log], {}, new Map([...quoted].filter(([pcr]) => pcr !== 7))))).toBe('PCR_NOT_QUOTED')
  })
  test('a value of another length', () => {
    expect(outcome(appraise([log], {}, new Map(quoted).set(0, Buffer.alloc(20))))).toBe('LOG_MISMATCH')
  })
  test('PCR 17 to 22 begin as ones, all others as zeros but for the locality', () => {
    const fresh = valuesOf([locality(3)])
    for (const [pcr, value] of fresh) {
      const start = Buffer.alloc(32, pcr >= 17 && pcr <= 22 ? 0xff : 0)
      if (pcr === 0) start[31] = 3
      expect(value).toEqual(start)
    }
  })
  test('other banks', () => {
    expect(outcome(appraise([log], { bank: 'sha384' }, valuesOf(boot, 'sha384')))).toBe('OK')
    expect(outcome(appraise([log], { bank: 'sha512' }, valuesOf(boot, 'sha512')))).toBe('WEAK_BANK')
  })
  test('what a PCR that is not looked at is said to hold does no harm and no good', () => {
    const strange = [...boot, { ...driverConfig('SecureBoot', Buffer.of(1)), pcr: 6, measured: NONE }]
    const replay = ALL.filter(pcr => pcr !== 6)
    expect(unwrap(appraise([encodeLog(strange)], { replay }))).toEqual(unwrap(appraise([log], { replay })))
  })
})

describe('several logs', () => {
  const older = encodeLog([...boot, image(4, 'an older kernel')])
  test('the one of this boot counts', () => {
    expect(unwrap(appraise([older, encodeHead({}), log, older]))).toEqual(unwrap(appraise([log])))
  })
  test('none of them is of this boot', () => expect(outcome(appraise([older, older]))).toBe('LOG_MISMATCH'))
  test('what is wrong with the one of this boot is told', () => {
    const changed = encodeLog(retold(secureBootAt, { type: eventType.EFI_VARIABLE_BOOT }))
    expect(outcome(appraise([older, changed, older]))).toBe('EVENT_SEMANTICS')
  })
  test('none at all, and too many', () => {
    expect(outcome(appraise([]))).toBe('LOG_MISSING')
    expect(outcome(appraise(Array<Buffer>(16).fill(log)))).toBe('OK')
    expect(outcome(appraise(Array<Buffer>(17).fill(log)))).toBe('LIMIT')
  })
})

describe('an event under another type', () => {
  const types = [...Object.values(eventType), 0x1, 0x6, 0x8, 0xd, 0x80000003, 0x80000008, 0xffffffff]
  const good = unwrap(appraise([log]))

  test.each(boot.map((_, place) => place))('event %i: the result never gets better', place => {
    for (const type of types) {
      const verdict = appraise([encodeLog(retold(place, { type, measured: eventAt(place).measured ?? eventAt(place).data }))])
      if (!verdict.ok) continue
      const { secureBoot, images, drivers, files, commandLines } = verdict.value
      expect([undefined, good.secureBoot]).toContain(secureBoot)
      for (const digest of good.images ?? []) expect(images).toContain(digest)
      for (const digest of good.drivers ?? []) expect(drivers).toContain(digest)
      expect([files, commandLines]).toEqual([good.files, good.commandLines])
    }
  })

  test('secure boot is off, and was called something else', () => {
    const off = boot.with(secureBootAt, driverConfig('SecureBoot', Buffer.of(0)))
    expect(unwrap(honest(off)).secureBoot).toBe(false)
    for (const type of types.filter(one => one !== eventType.EFI_VARIABLE_DRIVER_CONFIG)) {
      const hidden = off.with(secureBootAt, { ...driverConfig('SecureBoot', Buffer.of(0)), type })
      const verdict = appraise([encodeLog(hidden)], {}, valuesOf(off))
      expect(verdict.ok && verdict.value.secureBoot).toBeFalsy()
    }
  })
})
