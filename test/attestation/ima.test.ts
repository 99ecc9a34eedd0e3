import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { appraiseImaList, type Hash, type ImaRules, type PcrTable, readImaEntry } from '#attestation'
import { outcome, unwrap } from './attester.ts'
import { digestOf, encodeList, entry, fieldsOf, finish, pcrOf, type Word } from './ima_maker.ts'
import { counted, present, readBytes, readJson } from './vectors.ts'

const { ima_logs: lists } = readJson<{ ima_logs: { file: string }[] }>('index.json', { ima_logs: [] })

/** What each list is refused with: one is no list, one has an unknown algorithm, one a violation; the others have been read to their ends. */
const refused = new Map([
  ['invalid_ima_log.txt', 'BAD_ENCODING'],
  ['ima-log-unknown', 'UNSUPPORTED_ALG'],
  ['ima-log-sha1', 'EVENT_SEMANTICS'],
])

const native = { bank: 'sha256', extends: 'bank', bootAggregate: 'unchecked' } as const satisfies ImaRules
const quotedAs = (value: Buffer, bank: Hash = 'sha256'): PcrTable => new Map([[bank, new Map([[10, value]])]])

describe.skipIf(!present)('lists of real machines', () => {
  const count = counted('IMA lists')
  test.each(lists)('$file', ({ file }) => {
    const list = readBytes(file)
    const lines = list.toString('latin1').trimEnd().split('\n')
    const code = [...refused].find(([name]) => file.endsWith(name))?.[1]
    const data = lines.map(line => readImaEntry(line)).map(read => (read.ok ? read.value.data : undefined))
    expect(outcome(finish(appraiseImaList(list, quotedAs(pcrOf(data)), native)))).toBe(code ?? 'OK')
    if (code === undefined) {
      const padded = { ...native, extends: 'padded-sha1' } as const
      expect(outcome(finish(appraiseImaList(list, quotedAs(pcrOf(data, 'sha256', 'sha1')), padded)))).toBe('OK')
      expect(outcome(finish(appraiseImaList(list, quotedAs(pcrOf(data, 'sha256', 'sha1')), native)))).toBe('LOG_MISMATCH')
    }
    count()
  })

  test('all 826 entries of the longest have the template hash that Linux gave them', () => {
    const list = readBytes(lists.find(({ file }) => file.endsWith('ascii_runtime_measurements'))?.file ?? '')
    const lines = list.toString('latin1').trimEnd().split('\n')
    expect(lines.map(line => outcome(readImaEntry(line)))).toEqual(Array<string>(826).fill('OK'))
  })
})

const paths = ['boot_aggregate', '/usr/bin/bash', '/usr/lib/libc.so.6', '/etc/passwd']
const all = paths.map(path => entry(path))
const list = encodeList(all)
const upTo = (entries: number) => pcrOf(paths.slice(0, entries).map(path => fieldsOf(path)))

function judge(bytes: Buffer, value: Buffer, rules: Partial<ImaRules> = {}) {
  return finish(appraiseImaList(bytes, quotedAs(value, rules.bank), { ...native, ...rules }))
}

describe('a list and the quoted PCR 10', () => {
  test('files that were measured up to the quote, and where the rest begins', () => {
    const claims = unwrap(finish(appraiseImaList(list, quotedAs(upTo(2)), native)))
    expect(claims).toMatchObject({ bank: 'sha256', violations: 0, value: upTo(2), end: all.slice(0, 2).join('\n').length + 1 })
    expect(claims).toMatchObject({
      files: [{ path: 'boot_aggregate' }, { path: '/usr/bin/bash', digest: digestOf('/usr/bin/bash') }],
    })
  })

  test('the rest is for the next round', () => {
    const first = unwrap(finish(appraiseImaList(list, quotedAs(upTo(2)), native))) as { end: number; value: Buffer }
    const rest = list.subarray(first.end)
    const next = (value: Buffer, from = first.value) => judge(rest, value, { from, bootAggregate: '0-9' })
    expect(next(upTo(4))).toMatchObject({ ok: true, value: { files: [{ path: '/usr/lib/libc.so.6' }, { path: '/etc/passwd' }] } })
    expect(next(upTo(2))).toMatchObject({ ok: true, value: { files: [], end: 0 } })
    expect(outcome(next(upTo(1)))).toBe('LOG_MISMATCH')
    expect(outcome(next(upTo(4), upTo(1)))).toBe('LOG_MISMATCH')
    expect(outcome(judge(Buffer.alloc(0), first.value, { from: first.value }))).toBe('OK')
  })

  test('what follows the quote is not looked at', () => {
    expect(outcome(judge(Buffer.concat([list, Buffer.from('nonsense')]), upTo(4)))).toBe('OK')
    expect(outcome(judge(Buffer.concat([Buffer.from('nonsense\n'), list]), upTo(4)))).toBe('BAD_ENCODING')
  })

  test.each<readonly [string, string, Buffer, Buffer, Partial<ImaRules>]>([
    ['shorter than the quote', 'LOG_MISMATCH', encodeList(all.slice(0, 3)), upTo(4), {}],
    ['empty', 'LOG_MISSING', Buffer.alloc(0), upTo(4), {}],
    ['without the last newline', 'OK', list.subarray(0, -1), upTo(4), {}],
    ['an empty line', 'BAD_ENCODING', Buffer.concat([Buffer.from('\n'), list]), upTo(4), {}],
    ['a long line', 'LIMIT', encodeList([entry('boot_aggregate'), 'x'.repeat(16_385)]), upTo(4), {}],
    ['too long', 'LIMIT', Buffer.alloc(33_554_433, '\n'), upTo(4), {}],
    ['of a PCR that is at its reset value', 'LOG_MISMATCH', list, Buffer.alloc(32), {}],
    ['an entry twice', 'LOG_MISMATCH', encodeList([...all.slice(0, 2), ...all.slice(1)]), upTo(4), {}],
    ['in another order', 'LOG_MISMATCH', encodeList(all.with(1, all[2] ?? '').with(2, all[1] ?? '')), upTo(4), {}],
    ['beginning with a file', 'EVENT_SEMANTICS', encodeList(all.slice(1)), upTo(4), {}],
    [
      'in another mode',
      'LOG_MISMATCH',
      list,
      pcrOf(
        paths.map(path => fieldsOf(path)),
        'sha256',
        'sha1',
      ),
      {},
    ],
    [
      'in that mode',
      'OK',
      list,
      pcrOf(
        paths.map(path => fieldsOf(path)),
        'sha256',
        'sha1',
      ),
      { extends: 'padded-sha1' },
    ],
    [
      'in the bank of SHA-384',
      'OK',
      list,
      pcrOf(
        paths.map(path => fieldsOf(path)),
        'sha384',
      ),
      { bank: 'sha384' },
    ],
  ])('%s: %s', (_, expected, bytes, value, rules) => expect(outcome(judge(bytes, value, rules))).toBe(expected))

  test('a quote without PCR 10', () => {
    expect(outcome(finish(appraiseImaList(list, new Map([['sha256', new Map([[0, upTo(1)]])]]), native)))).toBe('PCR_NOT_QUOTED')
    expect(outcome(finish(appraiseImaList(list, quotedAs(upTo(4), 'sha384'), native)))).toBe('PCR_NOT_QUOTED')
  })
})

describe('violations', () => {
  const zero: Word = { templateHash: '0'.repeat(40), digest: `sha256:${'0'.repeat(64)}` }
  const violated = encodeList([...all, entry('/var/log/wtmp', zero)])
  const value = (mode: Hash) => pcrOf([...paths.map(path => fieldsOf(path)), undefined], 'sha256', mode)

  test('are refused', () => expect(outcome(judge(violated, value('sha256')))).toBe('EVENT_SEMANTICS'))
  test('are counted where they are allowed, and no file is told for them', () => {
    const verdict = judge(violated, value('sha256'), { allowViolations: true })
    expect(verdict).toMatchObject({ ok: true, value: { violations: 1 } })
    expect(JSON.stringify(verdict)).not.toContain('wtmp')
    expect(outcome(judge(violated, value('sha1'), { allowViolations: true, extends: 'padded-sha1' }))).toBe('OK')
  })
  test('hide no file', () => {
    const hidden = encodeList([...all.slice(0, 3), entry('/etc/passwd', zero)])
    expect(outcome(judge(hidden, upTo(4), { allowViolations: true }))).toBe('LOG_MISMATCH')
  })
  test('are no boot aggregate', () => {
    const first = encodeList([entry('boot_aggregate', zero)])
    expect(outcome(judge(first, pcrOf([undefined]), { allowViolations: true }))).toBe('EVENT_SEMANTICS')
  })
})

describe('the boot aggregate', () => {
  const firmware = Array.from({ length: 10 }, (_, pcr) => createHash('sha256').update(`PCR ${pcr}`).digest())
  const begin = (pcrs: number) => ({ digest: digestOf(Buffer.concat(firmware.slice(0, pcrs))) })
  const verdict = (word: Word, bootAggregate: ImaRules['bootAggregate'], quoted = firmware) => {
    const value = pcrOf([fieldsOf('boot_aggregate', word)])
    const table: PcrTable = new Map([['sha256', new Map([...quoted.entries(), [10, value] as const])]])
    return outcome(finish(appraiseImaList(encodeList([entry('boot_aggregate', word)]), table, { ...native, bootAggregate })))
  }

  // found when the test runs, not when it is collected
  test.each<readonly [string, string, () => string]>([
    ['is of PCR 0 to 9', 'OK', () => verdict(begin(10), '0-9')],
    ['is of PCR 0 to 7', 'OK', () => verdict(begin(8), '0-7')],
    ['is of others than is configured', 'LOG_MISMATCH', () => verdict(begin(8), '0-9')],
    ['is of another boot', 'LOG_MISMATCH', () => verdict({ digest: digestOf('another') }, '0-9')],
    ['is not looked at', 'OK', () => verdict({ digest: digestOf('another') }, 'unchecked')],
    ['is of PCRs that were not quoted', 'PCR_NOT_QUOTED', () => verdict(begin(10), '0-9', firmware.slice(0, 8))],
    ['is of a bank that was not quoted', 'PCR_NOT_QUOTED', () => verdict({ digest: `sha1:${'0'.repeat(40)}` }, '0-7')],
  ])('%s: %s', (_, expected, found) => expect(found()).toBe(expected))
})

describe('an entry', () => {
  const bash = '/usr/bin/bash'
  const signed = entry(bash, { template: 'ima-sig', extra: Buffer.from('0302', 'hex') })
  const buffer = Buffer.from('root=/dev/sda1 ro')
  const cmdline = entry('kexec-cmdline', { template: 'ima-buf', digest: digestOf(buffer), extra: buffer })

  test.each<readonly [string, string, string]>([
    ['of a file', 'OK', entry(bash)],
    ['with a template hash of its own bank', 'OK', entry(bash, { algorithm: 'sha256' })],
    ['with a SHA-1 digest', 'OK', entry(bash, { digest: digestOf(bash, 'sha1') })],
    ['with a signature', 'OK', signed],
    ['with room for a signature', 'OK', entry(bash, { template: 'ima-sig', extra: Buffer.alloc(0) })],
    ['with a signature that was not measured', 'EVENT_DATA_DIGEST', signed.replace('0302', '0303')],
    ['with half a byte of a signature', 'BAD_ENCODING', signed.slice(0, -1)],
    ['with a signature that its template does not have', 'BAD_ENCODING', `${entry(bash)} 0302`],
    ['without room for a signature', 'OK', entry(bash, { template: 'ima-sig', extra: Buffer.alloc(0) }).trimEnd()],
    ['without the signature that was measured', 'EVENT_DATA_DIGEST', signed.slice(0, signed.lastIndexOf(' '))],
    ['with more words than its template has', 'BAD_ENCODING', `${signed} 0302`],
    ['of another file', 'EVENT_DATA_DIGEST', entry(bash).replace('bash', 'dash')],
    ['with another digest', 'EVENT_DATA_DIGEST', entry(bash, { templateHash: '1'.repeat(40) })],
    ['of an unknown template', 'UNSUPPORTED_ALG', entry(bash, { template: 'ima' })],
    ['of an inherited template', 'UNSUPPORTED_ALG', entry(bash, { template: 'constructor' })],
    ['of a buffer, which is not asked for', 'UNSUPPORTED_ALG', cmdline],
    ['of an unknown algorithm', 'UNSUPPORTED_ALG', entry(bash).replace('sha256:', 'sha0:')],
    ['of no algorithm', 'UNSUPPORTED_ALG', entry(bash).replace('sha256:', '')],
    ['with a digest of another length', 'BAD_ENCODING', entry(bash).replace('sha256:', 'sha384:')],
    ['with a digest in capitals', 'BAD_ENCODING', entry(bash, { digest: digestOf(bash).toUpperCase().replace('SHA', 'sha') })],
    ['with a digest that is not hexadecimal', 'BAD_ENCODING', entry(bash).replace(/sha256:./, 'sha256:g')],
    ['with a template hash that is not hexadecimal', 'BAD_ENCODING', entry(bash, { templateHash: 'g'.repeat(40) })],
    ['with a template hash in capitals', 'BAD_ENCODING', entry(bash, { templateHash: 'A'.repeat(40) })],
    ['with a signature in capitals', 'BAD_ENCODING', signed.replace('0302', '03AB')],
    ['with a signature that is not hexadecimal', 'BAD_ENCODING', signed.replace('0302', '03xy')],
    ['with a template hash of another length', 'BAD_ENCODING', entry(bash, { templateHash: '0'.repeat(39) })],
    ['of another PCR', 'EVENT_SEMANTICS', entry(bash).replace('10', '11')],
    ['of no PCR', 'BAD_ENCODING', entry(bash).replace('10', 'ten')],
    ['of a PCR with a letter before it', 'BAD_ENCODING', entry(bash).replace('10', 'a10')],
    ['of a PCR with a letter behind it', 'BAD_ENCODING', entry(bash).replace('10', '10a')],
    ['of a path with a space', 'BAD_ENCODING', entry('/usr/bin/a b')],
    ['of a path with a newline', 'BAD_ENCODING', entry('/usr/bin/a\nb')],
    ['of a path with a zero', 'BAD_ENCODING', entry('/usr/bin/a\0b')],
    ['of a path that goes up', 'BAD_ENCODING', entry('/usr/../etc/shadow')],
    ['of a path that begins above', 'BAD_ENCODING', entry('../etc/shadow')],
    ['of a path that ends above', 'BAD_ENCODING', entry('/usr/bin/..')],
    ['of a path that only looks so', 'OK', entry('/usr/..bin/a..b/...')],
    ['of no path', 'BAD_ENCODING', entry('')],
    ['of a path of 5,000 bytes', 'OK', entry(`/${'a'.repeat(4999)}`)],
    ['of a path of 5,000 bytes that another hash is of', 'EVENT_DATA_DIGEST', `${entry(`/${'a'.repeat(4999)}`)}b`],
  ])('%s: %s', (_, expected, line) => expect(outcome(readImaEntry(line))).toBe(expected))

  test('a path keeps its bytes', () => {
    const line = Buffer.from(entry('/usr/share/Käse')).toString('latin1')
    const file = `${digestOf('/usr/share/Käse')} /usr/share/Käse`
    expect(readImaEntry(line)).toMatchObject({ ok: true, value: { path: '/usr/share/Käse', file } })
  })

  test('a buffer is the one of its digest', () => {
    const rules = { templates: ['ima-ng', 'ima-buf'] } as const
    expect(readImaEntry(cmdline, rules)).toMatchObject({ ok: true, value: { path: 'kexec-cmdline', extra: buffer } })
    const other = entry('kexec-cmdline', { template: 'ima-buf', digest: digestOf('another'), extra: buffer })
    expect(outcome(readImaEntry(other, rules))).toBe('EVENT_DATA_DIGEST')
    expect(outcome(readImaEntry(signed, rules))).toBe('UNSUPPORTED_ALG')
  })
})

describe('fifty thousand lines', () => {
  const many = [
    'boot_aggregate',
    ...Array.from({ length: 49_999 }, (_, file) => `/usr/lib/package-${file % 100}/file-${file}.so`),
  ]
  const lines = encodeList(many.map(path => entry(path)))
  const value = pcrOf(many.map(path => fieldsOf(path)))

  const roundsOf = (rules: ImaRules): number => {
    const rounds = appraiseImaList(lines, quotedAs(value), rules)
    for (let count = 0; ; count += 1) {
      const round = rounds.next()
      if (!round.done) continue
      expect(round.value).toMatchObject({ ok: true, value: { end: lines.length } })
      return count
    }
  }

  // how long one round has the thread for, a benchmark says
  test('let others run after 250 of them each, or as many as asked for', () => {
    expect([roundsOf(native), roundsOf({ ...native, linesPerRound: 10_000 })]).toEqual([199, 4])
  })
})
