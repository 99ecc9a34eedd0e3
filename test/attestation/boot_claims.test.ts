import { describe, expect, test } from 'vitest'
import { eventType } from '../../attestation/eventlog/event_types.ts'
import { outcome, unwrap } from './attester.ts'
import { appraise, at, eventAt, honest, inserted, log, NONE, secureBootAt, valuesOf } from './eventlog_boot.ts'
import {
  action,
  authority,
  boot,
  COMMAND_LINE,
  command,
  digestOf,
  driverConfig,
  encodeLog,
  file,
  image,
  type Made,
  SECURITY,
  SHA256,
  separator,
  signatureList,
  u32,
  variable,
} from './eventlog_maker.ts'

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

  test.each([
    ['sets it', false, 1],
    ['sets it otherwise', false, 255],
    ['takes it back', true, 0],
  ])('shim that validates nothing is no secure boot, whatever the log calls it: who %s', (_, secure, state) => {
    const shim = Buffer.from('50ab5d6046e00043abb63dd810dd8b23', 'hex')
    const measured = variable(shim, 'MokSBState', Buffer.of(state))
    for (const data of [measured, variable(shim, 'SbatLevel', Buffer.of(state)), NONE]) {
      const made = [...boot, { pcr: 7, type: eventType.EFI_VARIABLE_AUTHORITY, data, measured }]
      expect(unwrap(honest(made)).secureBoot).toBe(secure)
    }
    const other = variable(shim, 'MokListTrusted', Buffer.of(state))
    expect(unwrap(honest([...boot, { ...authority('db'), data: other }])).secureBoot).toBe(true)
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
