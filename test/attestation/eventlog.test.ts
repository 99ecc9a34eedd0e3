import { describe, expect, test } from 'vitest'
import {
  appraiseEventLogs,
  type BootClaims,
  type Hash,
  hashes,
  type LogRules,
  parseEventLog,
  replayEventLog,
  type Verdict,
} from '#attestation'
import { eventType } from '../../attestation/eventlog/event_types.ts'
import { outcome, unwrap } from './attester.ts'
import {
  action,
  authority,
  BANKS,
  boot,
  COMMAND_LINE,
  command,
  digestOf,
  driverConfig,
  encodeEvent,
  encodeHead,
  encodeLog,
  file,
  type Head,
  image,
  locality,
  type Made,
  SECURITY,
  SHA256,
  separator,
  signatureList,
  u32,
  variable,
} from './eventlog_maker.ts'

const ALL = Array.from({ length: 24 }, (_, pcr) => pcr)

/** The values that a TPM would have quoted after those events, in that bank. */
function valuesOf(events: readonly Made[], bank: Hash = 'sha256'): ReadonlyMap<number, Buffer> {
  return unwrap(replayEventLog(unwrap(parseEventLog(encodeLog(events, {}, [bank]))), bank))
}

const quoted = valuesOf(boot)
const log = encodeLog(boot)

function appraise(logs: readonly Uint8Array[], changes: Partial<LogRules> = {}, values = quoted): Verdict<BootClaims> {
  return appraiseEventLogs(logs, values, { bank: 'sha256', replay: ALL, ...changes })
}

const judge = (bytes: Uint8Array, changes: Partial<LogRules> = {}) => outcome(appraise([bytes], changes))
/** What a machine that measured these says of itself. */
const honest = (events: readonly Made[]) => appraise([encodeLog(events)], {}, valuesOf(events))

const at = (name: string) =>
  boot.findIndex(({ type, data }) => type === eventType.EFI_VARIABLE_DRIVER_CONFIG && data.includes(Buffer.from(name, 'utf16le')))
const secureBootAt = at('SecureBoot')
/** The same events with another one in that place. */
const withEvent = (place: number, event: Made) => boot.with(place, event)
const eventAt = (place: number) => boot[place] ?? separator(0)
/** As it was measured, with its data or type told otherwise. */
const retold = (place: number, changes: Partial<Made>) =>
  withEvent(place, { measured: eventAt(place).data, ...eventAt(place), ...changes })
const inserted = (place: number, ...events: Made[]) => boot.toSpliced(place, 0, ...events)
const NONE = Buffer.alloc(0)
const event2 = (pcr: number, type: number, count: number, rest: Buffer) => Buffer.concat([u32(pcr), u32(type), u32(count), rest])
const lost = (place: number, banks: readonly Hash[]): Made => ({
  ...eventAt(place),
  digests: banks.map(bank => [hashes[bank].id, digestOf(eventAt(place).data, bank)] as const),
})
const [sha1, sha256, sha384] = BANKS
const twice = (place: number) => withEvent(place, lost(place, [sha1, sha256, sha256, sha384]))
const both = (place: number, other: number) => boot.with(place, eventAt(other)).with(other, eventAt(place))

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

describe('the secure boot policy', () => {
  const end = boot.findIndex(({ type, pcr }) => type === eventType.SEPARATOR && pcr === 7)
  const off = boot.with(secureBootAt, driverConfig('SecureBoot', Buffer.of(0)))
  const on = driverConfig('SecureBoot', Buffer.of(1))

  test.each<readonly [string, string, readonly Made[]]>([
    ['a variable after the separator', 'EVENT_SEMANTICS', [...off, on]],
    ['a second separator', 'EVENT_SEMANTICS', [...boot, separator(7)]],
    [
      'a second separator that is called an authority',
      'EVENT_SEMANTICS',
      [...boot, { ...separator(7), type: eventType.EFI_VARIABLE_AUTHORITY }],
    ],
    ['no separator', 'EVENT_SEMANTICS', boot.toSpliced(end, 1)],
    ['a separator of ones', 'OK', boot.with(end, separator(7, u32(0xffffffff)))],
    ['a separator that tells of an error', 'EVENT_SEMANTICS', boot.with(end, separator(7, u32(1)))],
    ['the variable twice', 'EVENT_SEMANTICS', off.toSpliced(secureBootAt, 0, on)],
    [
      'a variable of the same name of another maker',
      'OK',
      boot.toSpliced(secureBootAt, 0, driverConfig('SecureBoot', Buffer.of(9), SECURITY)),
    ],
    ['a database of another maker, which is none', 'OK', boot.toSpliced(secureBootAt, 0, driverConfig('db', Buffer.of(9)))],
    ['an action with a character that is not printed', 'EVENT_SEMANTICS', boot.toSpliced(secureBootAt, 0, action(7, 'x\x7f'))],
    ['an image in PCR 7', 'EVENT_SEMANTICS', [...boot, image(7, 'x')]],
    ['debugging', 'OK', boot.toSpliced(secureBootAt, 0, action(7, 'UEFI Debug Mode'))],
    ['an action that is no text', 'EVENT_SEMANTICS', boot.toSpliced(secureBootAt, 0, action(7, 'MZ\0'))],
    ['an authority before the separator', 'OK', boot.toSpliced(end, 0, authority('db'))],
    [
      'an authority before the separator, of which something else was measured',
      'EVENT_DATA_DIGEST',
      boot.toSpliced(end, 0, { ...authority('db'), measured: NONE }),
    ],
    ['an authority after it, of which something else was measured', 'OK', [...boot, { ...authority('db'), measured: NONE }]],
    ['a state that is none', 'BAD_ENCODING', boot.with(secureBootAt, driverConfig('SecureBoot', Buffer.of(2)))],
    ['a longer state', 'BAD_ENCODING', boot.with(secureBootAt, driverConfig('SecureBoot', Buffer.of(1, 0)))],
    ['a variable that ends too early', 'BAD_ENCODING', boot.with(secureBootAt, { ...on, data: on.data.subarray(0, -1) })],
    [
      'a variable with more after it',
      'BAD_ENCODING',
      boot.with(secureBootAt, { ...on, data: Buffer.concat([on.data, NONE, Buffer.of(1)]) }),
    ],
    [
      'a name of 2^64 - 1 characters',
      'BAD_ENCODING',
      boot.with(secureBootAt, { ...on, data: Buffer.concat([on.data.subarray(0, 16), Buffer.alloc(16, 0xff)]) }),
    ],
  ])('%s: %s', (_, expected, events) => expect(outcome(honest(events))).toBe(expected))

  test('a separator that was called an authority, to say all again after it', () => {
    const again = [...off, ...boot.slice(secureBootAt, end + 1)]
    const retoldAs = (type: number) => again.with(end, { ...separator(7), type })
    for (const type of [eventType.EFI_VARIABLE_AUTHORITY, eventType.EFI_ACTION, eventType.EFI_VARIABLE_DRIVER_CONFIG])
      expect(outcome(appraise([encodeLog(retoldAs(type))], {}, valuesOf(again)))).not.toBe('OK')
  })

  test('a machine without the variable', () => {
    expect(unwrap(honest(boot.toSpliced(secureBootAt, 1)))).not.toHaveProperty('secureBoot')
    expect(unwrap(honest(boot.with(secureBootAt, driverConfig('SecureBoot', NONE)))).secureBoot).toBe(false)
  })

  test('what is in its databases, and what the firmware said', () => {
    const { secureBoot, databases, actions, authorities } = unwrap(
      honest(boot.toSpliced(end, 0, action(7, 'DMA Protection Disabled'))),
    )
    expect(secureBoot).toBe(true)
    expect(databases?.db?.entries).toHaveLength(2)
    expect(databases?.PK).toEqual({
      digest: digestOf(eventAt(at('PK')).data).toString('hex'),
      entries: [
        {
          type: 'x509',
          owner: 'a1a1a1a1-a1a1-a1a1-a1a1-a1a1a1a1a1a1',
          sha256: digestOf(Buffer.from('a certificate in DER')).toString('hex'),
        },
      ],
    })
    expect(databases?.dbx?.entries.map(({ type, sha256 }) => [type, sha256.length])).toEqual([
      ['sha256', 64],
      ['sha256', 64],
    ])
    expect(actions).toEqual(['DMA Protection Disabled'])
    expect(authorities).toEqual([digestOf(authority('db').data).toString('hex')])
  })

  test('an entry of another kind is told by its digest', () => {
    const rsa = Buffer.from('e8664a3c2a4e1e4d91b0e1c1cb0a7ed1', 'hex')
    const events = boot.with(at('db'), driverConfig('db', signatureList(rsa, [Buffer.alloc(256, 7)]), SECURITY))
    expect(unwrap(honest(events)).databases?.db?.entries[0]).toMatchObject({
      type: '3c4a66e8-4e2a-4d1e-91b0-e1c1cb0a7ed1',
      sha256: digestOf(Buffer.alloc(256, 7)).toString('hex'),
    })
  })
})

describe('lists of signatures', () => {
  const digest = Buffer.alloc(32, 1)
  test.each<readonly [string, string, Buffer]>([
    ['none', 'OK', NONE],
    ['an empty list', 'OK', signatureList(SHA256, [], { each: 48 })],
    [
      'a list with a header of its own',
      'OK',
      Buffer.concat([SHA256, u32(28 + 4 + 48), u32(4), u32(48), Buffer.alloc(4, 1), Buffer.alloc(16), digest]),
    ],
    ['signatures of no bytes', 'BAD_ENCODING', signatureList(SHA256, [digest], { each: 0 })],
    ['signatures of an owner alone', 'BAD_ENCODING', signatureList(Buffer.alloc(16), [NONE], { each: 16 })],
    ['shorter than its header', 'BAD_ENCODING', signatureList(SHA256, [digest], { list: 27 })],
    ['of size zero', 'BAD_ENCODING', signatureList(SHA256, [digest], { list: 0 })],
    ['longer than the variable', 'BAD_ENCODING', signatureList(SHA256, [digest], { list: 28 + 96 })],
    ['of 0xffffffff bytes', 'BAD_ENCODING', signatureList(SHA256, [digest], { list: 0xffffffff })],
    ['a header of 0xffffffff bytes', 'BAD_ENCODING', signatureList(SHA256, [digest], { header: 0xffffffff })],
    ['signatures of 0xffffffff bytes', 'BAD_ENCODING', signatureList(SHA256, [digest], { each: 0xffffffff })],
    ['half a signature', 'BAD_ENCODING', signatureList(SHA256, [digest, digest], { list: 28 + 72 })],
    ['a digest of another length', 'BAD_ENCODING', signatureList(SHA256, [Buffer.alloc(20)])],
    ['half a list after one', 'BAD_ENCODING', Buffer.concat([signatureList(SHA256, [digest]), Buffer.alloc(20)])],
  ])('%s: %s', (_, expected, value) => {
    expect(outcome(honest(boot.with(at('dbx'), driverConfig('dbx', value, SECURITY))))).toBe(expected)
  })
})

describe('separators', () => {
  test.each([0, 1, 2, 3, 4, 5, 6])('PCR %i has to have one', pcr => {
    const place = boot.findIndex(event => event.pcr === pcr && event.type === eventType.SEPARATOR)
    expect(outcome(honest(boot.toSpliced(place, 1)))).toBe('EVENT_SEMANTICS')
    expect(outcome(honest(boot.toSpliced(place, 0, separator(pcr))))).toBe('EVENT_SEMANTICS')
  })
  test('no other PCR has', () => expect(outcome(honest([...boot, separator(8), separator(8)]))).toBe('OK'))
})

describe('boot variables', () => {
  const order: Made = { pcr: 1, type: eventType.EFI_VARIABLE_BOOT, data: variable(SECURITY, 'BootOrder', Buffer.of(1, 0)) }
  test.each<readonly [string, string, Made]>([
    ['measured whole', 'OK', order],
    ['measured by value', 'OK', { ...order, measured: Buffer.of(1, 0) }],
    ['by the newer type', 'OK', { ...order, type: eventType.EFI_VARIABLE_BOOT2 }],
    ['something else', 'EVENT_DATA_DIGEST', { ...order, measured: Buffer.of(1) }],
    ['no variable', 'BAD_ENCODING', { ...order, data: Buffer.of(1, 0) }],
    ['no variable by the newer type', 'BAD_ENCODING', { ...order, type: eventType.EFI_VARIABLE_BOOT2, data: Buffer.of(1, 0) }],
    ['no variable of a driver', 'BAD_ENCODING', { pcr: 1, type: eventType.EFI_VARIABLE_DRIVER_CONFIG, data: Buffer.of(1, 0) }],
  ])('%s: %s', (_, expected, event) => expect(outcome(honest(inserted(1, event)))).toBe(expected))
})

describe('what was run', () => {
  const hex = (content: string) => digestOf(Buffer.from(content)).toString('hex')
  const good = unwrap(appraise([log]))

  test('images, files and the command line', () => {
    expect(good.images).toEqual([hex('shim'), hex('grub')])
    expect(good.drivers).toEqual([hex('a driver on a card')])
    expect(good.files).toEqual([hex('a kernel')])
    expect(good.commandLines).toEqual([COMMAND_LINE])
  })

  test('an image that is called an action or a partition table is refused or told', () => {
    const program = Buffer.from('MZ and what else a program has\0')
    const events = [...boot, { ...image(4, ''), measured: program }]
    for (const type of Object.values(eventType)) {
      const verdict = appraise([encodeLog([...boot, { pcr: 4, type, data: program, measured: program }])], {}, valuesOf(events))
      if (verdict.ok) expect(verdict.value.images).toContain(digestOf(program).toString('hex'))
    }
  })

  test('a command line that is called a command, and the other way about', () => {
    const place = boot.findIndex(({ data }) => data.includes('kernel_cmdline:'))
    const tell = (at: number, text: string) => ({
      ...eventAt(at),
      data: Buffer.from(text),
      measured: eventAt(at).measured ?? NONE,
    })
    const hidden = boot.with(place, tell(place, `grub_cmd: ${COMMAND_LINE}\0`))
    expect(unwrap(appraise([encodeLog(hidden)])).commandLines).toEqual([COMMAND_LINE])
    const made = boot.with(place - 2, tell(place - 2, `kernel_cmdline: linux ${COMMAND_LINE}\0`))
    expect(unwrap(appraise([encodeLog(made)])).commandLines).toEqual([COMMAND_LINE])
    const unknown = boot.with(place, tell(place, 'kernel_cmdline: /vmlinuz quiet\0'))
    expect(unwrap(appraise([encodeLog(unknown)]))).not.toHaveProperty('commandLines')
  })

  test('a text of another boot loader in UTF-16', () => {
    const wide = Buffer.from('initrd=\\initrd init=/bin/sh\0', 'utf16le')
    const event = { pcr: 8, type: 0xd, data: Buffer.concat([Buffer.from('grub_cmd: '), wide]), measured: wide }
    expect(unwrap(honest([...boot, event]))).not.toHaveProperty('commandLines')
    const tagged = { pcr: 12, type: 0x6, data: Buffer.concat([u32(0x13aed6db), u32(wide.length), wide]), measured: wide }
    expect(unwrap(honest([...boot, tagged])).commandLines).toEqual([COMMAND_LINE, 'initrd=\\initrd init=/bin/sh'])
  })

  test('a kernel may be named with its disk', () => {
    const line = '(hd0,gpt2)/vmlinuz ro'
    expect(unwrap(honest([...boot, command('kernel_cmdline:', line)])).commandLines).toEqual([COMMAND_LINE, line])
  })

  test('a terminating zero may be measured', () => {
    const event = { ...command('grub_cmd', 'x'), data: Buffer.from('grub_cmd /linux ro\0'), measured: Buffer.from('/linux ro\0') }
    expect(unwrap(honest([...boot, event])).commandLines).toEqual([COMMAND_LINE, '/linux ro'])
  })

  test('nothing is told of a PCR that is not replayed', () => {
    expect(unwrap(appraise([log], { replay: [0, 1] }))).toEqual({ bank: 'sha256', replayed: [0, 1] })
    expect(unwrap(honest([...boot, file('/initrd', 'more')])).files).toHaveLength(2)
  })
})

describe('a refusal names the type of an event', () => {
  const refused = (type: number) => {
    const verdict = honest([...boot, { ...image(7, 'x'), type }])
    return verdict.ok ? 'OK' : verdict.detail
  }
  test('by its name', () => expect(refused(eventType.EFI_GPT_EVENT)).toContain('EV_EFI_GPT_EVENT in PCR 7'))
  test('by its number, when it has none here', () => expect(refused(0x8000abcd)).toContain('event type 0x8000abcd in PCR 7'))
})
