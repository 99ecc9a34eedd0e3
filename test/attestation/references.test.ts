import { describe, expect, test } from 'vitest'
import {
  appraiseReferences,
  type BootRules,
  type ImaReference,
  type Logs,
  parseEventLog,
  type Quoted,
  type Reference,
  readFileList,
  replayEventLog,
} from '#attestation'
import { outcome, unwrap } from './attester.ts'
import {
  action,
  boot,
  COMMAND_LINE,
  digestOf,
  driverConfig,
  encodeLog,
  image,
  type Made,
  policy,
  separator,
} from './eventlog_maker.ts'
import * as ima from './ima_maker.ts'

const REPLAYED = [0, 2, 4, 7, 8, 9]
const hexOf = (content: string) => digestOf(Buffer.from(content)).toString('hex')
const IMAGES = [hexOf('shim'), hexOf('grub')]

const PATHS = ['boot_aggregate', '/usr/bin/env', '/usr/bin/true']
const LIST = ima.encodeList(PATHS.map(path => ima.entry(path)))
const PCR10 = ima.pcrOf(PATHS.map(path => ima.fieldsOf(path)))

function quotedOf(made: readonly Made[], changes: Partial<Quoted> = {}): Quoted {
  const values = new Map(unwrap(replayEventLog(unwrap(parseEventLog(encodeLog(made))), 'sha256')))
  values.set(10, PCR10)
  return { pcrs: new Map([['sha256', values]]), firmwareVersion: '0001000200030004', obfuscated: false, ...changes }
}

const setOf = (more: Partial<Reference>): Reference => ({ name: 'set', pcrs: new Map(), ...more })
const bootSet = (rules: Partial<BootRules> = {}) => setOf({ boot: { bank: 'sha256', replay: REPLAYED, ...rules } })
const imaSet = (rules: Partial<ImaReference> = {}) =>
  setOf({ ima: { bank: 'sha256', extends: 'bank', bootAggregate: 'unchecked', ...rules } })
const listed = (...lines: string[]) => {
  const read = readFileList(lines.join('\n'))
  if (!read.ok) throw new Error(`line ${read.line}`)
  return read.files
}
const LOGS: Logs = { eventLog: encodeLog(boot), imaList: LIST }

const shown = (set: Reference | readonly Reference[], logs: Logs = LOGS, quoted = quotedOf(boot)) =>
  ima.finish(appraiseReferences(logs, quoted, [set].flat()))
const judged = (...given: Parameters<typeof shown>) => outcome(shown(...given).verdict)
const detailOf = (...given: Parameters<typeof shown>) => {
  const { verdict } = shown(...given)
  return verdict.ok ? '' : verdict.detail
}
/** Another boot than the usual one, quoted truthfully. */
const booted = (made: readonly Made[], rules: Partial<BootRules>) =>
  judged(bootSet(rules), { eventLog: encodeLog(made) }, quotedOf(made))

describe('a boot', () => {
  test('that is as wanted in everything', () => {
    const { verdict, boot: claims } = shown(
      bootSet({
        secureBoot: 'required',
        databases: { dbx: ['00', policyDigest('dbx')] },
        images: [...IMAGES, 'ff'],
        drivers: [hexOf('a driver on a card')],
        files: [hexOf('a kernel')],
        commandLine: { allowed: [COMMAND_LINE], required: ['ro', 'root=*'], forbidden: ['init=*', 'rw'] },
      }),
    )
    expect(verdict).toEqual({ ok: true, value: 'set' })
    expect(claims).toMatchObject({ secureBoot: true, images: IMAGES, commandLines: [COMMAND_LINE] })
  })

  const off = boot.map(one => (one === policy[0] ? driverConfig('SecureBoot', Buffer.of(0)) : one))
  const silent = boot.filter(one => one !== policy[0])
  const debugged = [action(7, 'UEFI Debug Mode'), ...boot]
  const bare = boot.filter(one => one.pcr !== 4 || one.type === separator(4).type)
  test.each([
    ['SECURE_BOOT', off, { secureBoot: 'required' }],
    ['SECURE_BOOT', silent, { secureBoot: 'required' }],
    ['SECURE_BOOT', debugged, { secureBoot: 'required' }],
    ['SECURE_BOOT', boot, { secureBoot: 'required', replay: [4] }],
    ['SECURE_BOOT', boot, { databases: { dbx: ['00'] } }],
    ['SECURE_BOOT', boot, { databases: { dbx: [policyDigest('dbx')], db: ['00'] } }],
    ['SECURE_BOOT', boot.filter(one => one !== policy[4]), { databases: { dbx: [policyDigest('dbx')] } }],
    ['SECURE_BOOT', boot, { databases: { dbx: [policyDigest('dbx')] }, replay: [4] }],
    ['OK', off, {}],
    ['BOOT_IMAGE', boot, { images: IMAGES.slice(1) }],
    ['BOOT_IMAGE', [...boot, image(4, 'another')], { images: IMAGES }],
    ['BOOT_IMAGE', bare, { images: IMAGES }],
    ['BOOT_IMAGE', boot, { images: IMAGES, replay: [7] }],
    ['BOOT_IMAGE', boot, { drivers: [] }],
    ['BOOT_IMAGE', boot, { files: [] }],
    ['OK', boot.filter(one => one.pcr !== 2 || one.type === separator(2).type), { drivers: [] }],
    ['OK', boot, { replay: [4], images: IMAGES }],
    ['COMMAND_LINE', boot, { commandLine: { allowed: [`${COMMAND_LINE} quiet`] } }],
    ['COMMAND_LINE', boot, { commandLine: { required: ['quiet'] } }],
    ['COMMAND_LINE', boot, { commandLine: { forbidden: ['r*'] } }],
    ['COMMAND_LINE', boot, { commandLine: { required: ['roo'] } }],
    ['COMMAND_LINE', boot, { commandLine: {}, replay: [4] }],
    ['COMMAND_LINE', boot.filter(({ pcr }) => pcr !== 8), { commandLine: { allowed: [COMMAND_LINE] } }],
    ['COMMAND_LINE', boot.filter(({ pcr }) => pcr !== 8), { commandLine: { required: ['ro'] } }],
    ['OK', boot.filter(({ pcr }) => pcr !== 8), { commandLine: { forbidden: ['init=*'] } }],
    ['COMMAND_LINE', [...boot, image(8, 'what is no text')], { commandLine: { forbidden: ['init=*'] } }],
  ] as const satisfies readonly (readonly [string, readonly Made[], Partial<BootRules>])[])(
    '%s, case %#',
    (code, made, rules) => {
      expect(booted(made, rules)).toBe(code)
    },
  )

  test('without its log, with an older one, with one that was changed', () => {
    expect(judged(bootSet(), {})).toBe('LOG_MISSING')
    expect(judged(bootSet(), { eventLog: Buffer.alloc(0) })).toBe('LOG_MISSING')
    expect(judged(bootSet(), { eventLog: encodeLog(boot.slice(0, -4)) })).toBe('LOG_MISMATCH')
    const forged = boot.map(one =>
      one === policy[0] ? { ...one, data: driverConfig('SecureBoot', Buffer.of(0)).data, measured: one.data } : one,
    )
    expect(judged(bootSet(), { eventLog: encodeLog(forged) })).toBe('EVENT_DATA_DIGEST')
    const padded = { eventLog: Buffer.concat([encodeLog(boot), Buffer.alloc(64, 0xff)]) }
    expect(judged(bootSet(), padded)).toBe('TRAILING_DATA')
    expect(judged(bootSet({ padding: true }), padded)).toBe('OK')
  })
})

function policyDigest(name: string): string {
  const made = policy.find(
    ({ data }) => data.includes(Buffer.from(`${name}`, 'utf16le')) && data.readBigUInt64LE(16) === BigInt(name.length),
  )
  return digestOf(made?.data ?? Buffer.alloc(0)).toString('hex')
}

describe('the firmware of the TPM', () => {
  const set = setOf({ firmwareVersions: ['0001000200030004', '0001000200030005'] })
  test.each([
    ['OK', {}],
    ['TPM_FIRMWARE', { firmwareVersion: '0001000200030003' }],
    ['TPM_FIRMWARE', { obfuscated: true }],
  ] as const)('%s %j', (code, changes) => expect(judged(set, {}, quotedOf(boot, changes))).toBe(code))
})

describe('files', () => {
  const env = ima.digestOf('/usr/bin/env')
  const [, hex = ''] = ima.digestOf('/usr/bin/true').split(':')
  test.each([
    ['OK', undefined],
    ['OK', [listed(`${env} /usr/bin/env`, hex)]],
    ['OK', [listed(`${env}  /usr/bin/env`), listed('# those of another package', '', `${hex} */usr/bin/true\r`)]],
    ['IMA_FILE', [listed(`${env} /usr/bin/env`)]],
    ['IMA_FILE', [listed(`${env} /usr/bin/env`, `${hex} /usr/bin/false`)]],
    ['IMA_FILE', []],
  ] as const)('%s %j', (code, lists) => expect(judged(imaSet(lists ? { lists } : {}))).toBe(code))

  test('that are not looked at, and that are reported', () => {
    const { verdict, ima: files } = shown(imaSet({ lists: [], ignored: ['/usr/bin/*'], reported: ['/usr/bin/true', '/etc/*'] }))
    expect(verdict.ok).toBe(true)
    expect(files).toEqual({
      bank: 'sha256',
      entries: 3,
      violations: 0,
      value: PCR10.toString('hex'),
      files: [{ path: '/usr/bin/true', digest: `sha256:${hex}` }],
      unlisted: { count: 0, files: [] },
    })
  })

  test('that no list has are counted, and the first are named', () => {
    const { ima: files } = shown(imaSet({ lists: [listed(hex)] }))
    expect(files?.unlisted).toEqual({ count: 1, files: [{ path: '/usr/bin/env', digest: env }] })
    expect(detailOf(imaSet({ lists: [listed(hex)] }))).toBe(`set: 1 files are in no list, the first is /usr/bin/env with ${env}`)
  })

  test('of which one calls itself the boot aggregate, behind the first entry', () => {
    const paths = [...PATHS, 'boot_aggregate']
    const pcr10 = ima.pcrOf(paths.map((path, index) => ima.fieldsOf(path, { digest: ima.digestOf(`${index}`) })))
    const list = ima.encodeList(paths.map((path, index) => ima.entry(path, { digest: ima.digestOf(`${index}`) })))
    const quoted: Quoted = { ...quotedOf(boot), pcrs: new Map([['sha256', new Map([[10, pcr10]])]]) }
    const all = listed(...[1, 2].map(index => ima.digestOf(`${index}`)))
    expect(judged(imaSet({ lists: [all] }), { imaList: list }, quoted)).toBe('IMA_FILE')
  })

  test('are listed when asked for, as a list is read', () => {
    const { listing } = ima.finish(appraiseReferences(LOGS, quotedOf(boot), [imaSet()], { listing: true }))
    expect(listing).toBe(`${env} /usr/bin/env\nsha256:${hex} /usr/bin/true\n`)
    expect(judged(imaSet({ lists: [listed(listing ?? '')] }))).toBe('OK')
  })

  /** A machine that used files whose digests are of these contents, in that order, and quoted truthfully. */
  const used = (files: readonly (readonly [path: string, content: string])[], rules: Partial<ImaReference> = {}) => {
    const words = [['boot_aggregate', ''] as const, ...files].map(
      ([path, content]) => [path, { digest: ima.digestOf(content) }] as const,
    )
    const pcr10 = ima.pcrOf(words.map(([path, word]) => ima.fieldsOf(path, word)))
    const quoted: Quoted = { ...quotedOf(boot), pcrs: new Map([['sha256', new Map([[10, pcr10]])]]) }
    const imaList = ima.encodeList(words.map(([path, word]) => ima.entry(path, word)))
    return ima.finish(appraiseReferences({ imaList }, quoted, [imaSet(rules)], { listing: true }))
  }

  test('are listed in the order of their paths, each once, and under one path as they were used', () => {
    const { listing } = used([
      ['/d', '1'],
      ['/b', '2'],
      ['/a', '3'],
      ['/b', '1'],
      ['/c', '4'],
      ['/b', '2'],
    ])
    const line = (path: string, content: string) => `${ima.digestOf(content)} ${path}\n`
    expect(listing).toBe(line('/a', '3') + line('/b', '2') + line('/b', '1') + line('/c', '4') + line('/d', '1'))
    expect(shown(imaSet())).not.toHaveProperty('listing')
  })

  test('are told up to 64 of those that are reported, and 16 of those that no list has', () => {
    const many = Array.from({ length: 65 }, (_, file) => [`/usr/bin/${file}`, `${file}`] as const)
    const { ima: files } = used(many, { lists: [], reported: ['/usr/*'] })
    const digests = many.map(([path, content]) => ({ path, digest: ima.digestOf(content) }))
    expect(files?.files).toEqual(digests.slice(0, 64))
    expect(files?.unlisted).toEqual({ count: 65, files: digests.slice(0, 16) })
  })

  test('that were changed while they were in use are entries as well', () => {
    const zero: ima.Word = { templateHash: '0'.repeat(40), digest: `sha256:${'0'.repeat(64)}` }
    const imaList = ima.encodeList([...PATHS.map(path => ima.entry(path)), ima.entry('/var/log/wtmp', zero)])
    const pcr10 = ima.pcrOf([...PATHS.map(path => ima.fieldsOf(path)), undefined])
    const quoted: Quoted = { ...quotedOf(boot), pcrs: new Map([['sha256', new Map([[10, pcr10]])]]) }
    expect(shown(imaSet({ allowViolations: true }), { imaList }, quoted).ima).toMatchObject({ entries: 4, violations: 1 })
  })

  test('that were used since an earlier quote, of which none is the boot aggregate', () => {
    const from = ima.pcrOf([ima.fieldsOf('boot_aggregate')])
    const rest = ima.encodeList(PATHS.slice(1).map(path => ima.entry(path)))
    expect(shown(imaSet({ from, lists: [] }), { imaList: rest }).ima?.unlisted.count).toBe(2)
    expect(shown(imaSet({ from: PCR10, lists: [] }), { imaList: rest }).ima).toMatchObject({ entries: 0, unlisted: { count: 0 } })
  })

  test('of a list that is missing, cut, or of another machine', () => {
    expect(judged(imaSet(), {})).toBe('LOG_MISSING')
    expect(judged(imaSet(), { imaList: ima.encodeList([ima.entry('boot_aggregate')]) })).toBe('LOG_MISMATCH')
    expect(judged(imaSet(), { imaList: LIST }, { ...quotedOf(boot), pcrs: new Map() })).toBe('PCR_NOT_QUOTED')
  })
})

describe('several sets', () => {
  const good = { ...bootSet({ images: IMAGES }), name: 'good' }
  const strict = { ...bootSet({ images: [] }), name: 'strict' }
  test('the first that fits, whole, is the one', () => {
    expect(shown([strict, good]).verdict).toEqual({ ok: true, value: 'good' })
    expect(shown([good, strict]).verdict).toEqual({ ok: true, value: 'good' })
  })
  test('when none fits, all say why, and what was shown is there all the same', () => {
    const refused = shown([strict, { ...imaSet({ lists: [] }), name: 'files' }])
    expect(refused.verdict).toMatchObject({ ok: false, code: 'BOOT_IMAGE' })
    expect(refused.verdict.ok ? '' : refused.verdict.detail).toMatch(/^strict: .+; files: 2 files are in no list/)
    expect(refused.boot?.images).toEqual(IMAGES)
  })
  test('each reads the logs in its own way', () => {
    expect(judged([{ ...strict, boot: { bank: 'sha256', replay: [7], images: IMAGES } }, good])).toBe('OK')
    expect(judged([imaSet({ extends: 'padded-sha1' }), imaSet()])).toBe('OK')
  })
  test('those that read a list in one way have it read once', () => {
    const rounds = (...sets: Reference[]) => [...appraiseReferences(LOGS, quotedOf(boot), sets)].length
    const [one, other] = [imaSet({ linesPerRound: 1, lists: [] }), imaSet({ linesPerRound: 1 })]
    expect(rounds(one)).toBe(2)
    expect(rounds(one, other)).toBe(2)
    expect(rounds(one, imaSet({ linesPerRound: 1, allowViolations: true }))).toBe(4)
  })
  test('none at all lets nobody in', () => expect(judged([])).toBe('PCR_POLICY'))
})

describe('a list of files', () => {
  const digest = 'ab'.repeat(32)
  test.each([
    ['', []],
    [`${digest}  /a b\n${digest}\n`, [`sha256:${digest} /a_b`, `sha256:${digest}`]],
    ['# said\n#\n', []],
    [`${digest} /a#\r\n${digest} /b`, [`sha256:${digest} /a#`, `sha256:${digest} /b`]],
    [`sha512:${digest}${digest} /c`, [`sha512:${digest}${digest} /c`]],
  ])('%j', (text, entries) => expect(readFileList(text)).toEqual({ ok: true, files: new Set(entries) }))
  test.each([
    [`x`, 1],
    [`\n${'ab'.repeat(20)}  /sha1`, 2],
    [`${digest.toUpperCase()} /x`, 1],
    [`sha384:${digest} /x`, 1],
    [`\\${digest}  /with\\nnewline`, 1],
    [`${digest}0 /x`, 1],
  ])('%j is wrong in line %i', (text, line) => expect(readFileList(text)).toEqual({ ok: false, line }))
})
