import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { type Case, expectationOf, expectationOfLog, Unusable } from '../../scripts/vectors/case.ts'
import { casesIn } from '../../scripts/vectors/folder.ts'
import { run } from '../harness/process.ts'
import { makeCa, named, pem } from './certificates.ts'
import { counted, present } from './vectors.ts'

const vectors = join(import.meta.dirname, '../../../shared/vectors')
const command = join(import.meta.dirname, '../../scripts/conformance')
const scratch = mkdtempSync(join(tmpdir(), 'conformance-'))
afterAll(() => rmSync(scratch, { recursive: true }))

const at = new Date('2026-06-01T00:00:00Z')
const outcomes = async (folder: string) =>
  Promise.all(casesIn(folder, at).cases.map(async one => [one.id, await one.judge()] as const))
const judgeAll = async (folder: string) => new Map(await outcomes(folder))
const foldersIn = (folder: string) =>
  readdirSync(folder).filter(name => statSync(join(folder, name)).isDirectory() && name !== 'tpm-ca')

describe.skipIf(!present)('the vectors beside the project', () => {
  const count = counted('conformance')

  const whole = present ? judgeAll(vectors) : Promise.resolve(new Map<string, string>())

  test('all of them come out as expected', async () => {
    const { cases, unknown } = casesIn(vectors, at)
    expect(unknown).toEqual([])
    expect(new Set(cases.map(({ id }) => id)).size).toBe(cases.length)
    const failed: string[] = []
    for (const { id, expected } of cases) {
      const got = (await whole).get(id) ?? ''
      if (expected.holds(got) === false) failed.push(`${id}: ${got}, expected ${expected.says}`)
      count()
    }
    expect(failed).toEqual([])
    expect(cases.length).toBeGreaterThanOrEqual(207)
  })

  test.each(present ? foldersIn(vectors) : [])('%s gives the same by itself', async folder => {
    const own = await outcomes(join(vectors, folder))
    expect(own.length).toBeGreaterThan(0)
    for (const [id, got] of own) expect([id, got]).toEqual([id, (await whole).get(id)])
  })

  /** Copies the vectors without what is expected of them, or with the opposite of it. */
  function copyWith(name: string, change: (record: Record<string, unknown>) => void): string {
    const copy = join(scratch, name)
    cpSync(vectors, copy, { recursive: true })
    for (const file of casesFiles(copy)) {
      const text = readFileSync(file, 'utf8')
      const read: unknown = JSON.parse(text)
      eachRecord(read, change)
      rmSync(file)
      writeFileSync(file, JSON.stringify(read))
    }
    return copy
  }

  test('what is expected is never looked at', async () => {
    const bare = copyWith('bare', record => {
      for (const name of ['expected', 'expected_code', 'expectation_from', 'why', 'check']) delete record[name]
    })
    const wrong = copyWith('wrong', record => {
      if ('expected' in record) record['expected'] = String(record['expected']).startsWith('accept') ? 'refuse' : 'accept'
      if ('expected_code' in record) record['expected_code'] = record['expected_code'] === 'OK' ? 'SIGNATURE' : 'OK'
    })
    expect(await judgeAll(bare)).toEqual(await whole)
    expect(await judgeAll(wrong)).toEqual(await whole)
    const outcomesOf = await whole
    const held = (one: Case) => one.expected.holds(outcomesOf.get(one.id) ?? '')
    const silent = casesIn(bare, at).cases.filter(one => held(one) !== null)
    expect(silent.map(({ id }) => id).filter(id => !id.startsWith('makecred-'))).toEqual([]) // whose bytes are still there
    expect(casesIn(wrong, at).cases.filter(one => held(one) === false).length).toBeGreaterThan(130)
  })
})

function casesFiles(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter(file => file.endsWith('.json'))
    .map(file => join(folder, file))
}

function eachRecord(value: unknown, change: (record: Record<string, unknown>) => void): void {
  if (typeof value !== 'object' || value === null) return
  if ('id' in value) change(value as Record<string, unknown>)
  else for (const inner of Object.values(value)) eachRecord(inner, change)
}

describe('how an expectation reads', () => {
  const holds = (record: Parameters<typeof expectationOf>[0], ...got: string[]) =>
    got.map(one => expectationOf(record).holds(one))

  test('a code, or one of several', () => {
    expect(holds({ expected: 'refuse', expected_code: 'LIMIT' }, 'LIMIT', 'TRUNCATED', 'OK')).toEqual([true, false, false])
    expect(holds({ expected_code: 'BAD_ENCODING or NOT_A_QUOTE' }, 'NOT_A_QUOTE', 'LIMIT')).toEqual([true, false])
    expect(holds({ expected: 'policy', expected_code: 'CERT_EXPIRED' }, 'CERT_EXPIRED', 'OK')).toEqual([true, false])
    expect(holds({ expected: 'accept-once', expected_code: 'OK_BUT_SAME_CHALLENGE' }, 'OK')).toEqual([false])
  })
  test('a word', () => {
    expect(holds({ expected: 'refuse' }, 'LIMIT', 'OK', 'REBOOTED')).toEqual([true, false, false])
    expect(holds({ expected: 'accept' }, 'OK', 'RESUMED', 'LIMIT')).toEqual([true, true, false])
    expect(holds({ expected: 'accept-as-certify / refuse-as-quote' }, 'NOT_A_QUOTE', 'OK')).toEqual([true, false])
    expect(holds({ expected: 'refuse-when-both-enrolled', expected_code: 'WEAK_KEY' }, 'WEAK_KEY', 'OK')).toEqual([true, null])
    expect(holds({}, 'LIMIT', 'OK')).toEqual([null, null])
    expect(holds({ expected: 'see elsewhere' }, 'LIMIT', 'OK')).toEqual([null, null])
  })
  test("upstream's word on a log", () => {
    const log = (expected: string, isSha1: boolean) => expectationOfLog({ expected }, isSha1).says
    expect(log('parse ok', false)).toBe('accept')
    expect(log('parse ok', true)).toBe('WEAK_BANK')
    expect(log('replay of PCR5 FAILS', true)).toBe('refuse')
    expect(log('see beside it', false)).toBe(null)
  })
})

describe('./scripts/conformance', () => {
  const folder = (name: string, files: Readonly<Record<string, string>>) => {
    const path = join(scratch, name)
    mkdirSync(path)
    for (const [file, text] of Object.entries(files)) writeFileSync(join(path, file), text)
    return path
  }
  const weak = (expected: object) => JSON.stringify({ cases: [{ id: 'even', modulus_hex: 'ab', e: 2, ...expected }] })
  const good = folder('good', { 'cases.json': weak({ expected: 'refuse', expected_code: 'WEAK_KEY' }) })

  test('a line of JSON for each case, a summary beside', async () => {
    const { code, stdout, stderr } = await run(command, [good, '--json'])
    expect([code, stdout]).toEqual([0, '{"case":"even","expected":"WEAK_KEY","got":"WEAK_KEY","holds":true}\n'])
    expect(stderr).toBe('conformance: 1 cases: 1 hold, 0 do not, of 0 nothing is expected\n')
  })
  test('a row for each case', async () => {
    expect((await run(command, [good])).stdout).toMatch(/^✓ even +WEAK_KEY +WEAK_KEY\n$/)
  })
  test('ends with 1 when one does not hold', async () => {
    const { code, stdout } = await run(command, [
      folder('wrong-code', { 'cases.json': weak({ expected_code: 'LIMIT' }) }),
      '--json',
    ])
    expect([code, JSON.parse(stdout)]).toEqual([1, { case: 'even', expected: 'LIMIT', got: 'WEAK_KEY', holds: false }])
  })
  test('nothing expected is no failure', async () => {
    const { code, stdout } = await run(command, [folder('silent', { 'cases.json': weak({}) }), '--json'])
    expect([code, JSON.parse(stdout)]).toEqual([0, { case: 'even', expected: null, got: 'WEAK_KEY', holds: null }])
  })
  test('a code may stand where other sets have a word', async () => {
    const { code, stdout } = await run(command, [folder('code', { 'cases.json': weak({ expected: 'WEAK_KEY' }) }), '--json'])
    expect([code, JSON.parse(stdout)]).toEqual([0, { case: 'even', expected: 'WEAK_KEY', got: 'WEAK_KEY', holds: true }])
  })
  test('CAs of makers with nothing beside them are judged themselves', async () => {
    const root = makeCa(named('Root'))
    const file = (...cas: readonly { certificate: Buffer }[]) => cas.map(({ certificate }) => pem(certificate)).join('')
    const files = {
      'roots.pem': file(root),
      'intermediates.pem': file(makeCa(named('One'), {}, root), makeCa(named('Two'), {}, makeCa(named('Nobody')))),
    }
    const { code, stdout } = await run(command, [folder('makers', files), '--json', '--at', '2026-06-01'])
    const lines = stdout
      .trim()
      .split('\n')
      .map(line => JSON.parse(line) as unknown)
    expect([code, lines]).toEqual([
      0,
      [
        { case: 'intermediates.pem#0', expected: null, got: 'OK', holds: null },
        { case: 'intermediates.pem#1', expected: null, got: 'BAD_CHAIN', holds: null },
      ],
    ])
  })
  test('--help', async () => {
    const { code, stdout } = await run(command, ['--help'])
    expect([code, stdout]).toEqual([0, expect.stringContaining('--json')])
  })
  test.each([
    ['no folder', () => ['/nowhere'], /^conformance: there is no folder \/nowhere\n$/],
    ['a file', () => [join(good, 'cases.json')], /^conformance: \S+ is a file: give the folder that it is in\n$/],
    ['an empty folder', () => [folder('empty', {})], /^conformance: there are no vectors in \S+\n$/],
    [
      'nothing but a file of another kind',
      () => [folder('other', { 'x.dat': 'x' })],
      /^conformance: x\.dat is no vector of a kind that is known here\n$/,
    ],
    ['no word', () => [], /^error: missing required argument 'folder'\n$/],
    ['no date', () => [good, '--at', 'never'], /^error: option '--at/],
  ])('%s is a sentence', async (_, words, sentence) => {
    const { code, stdout, stderr } = await run(command, words())
    expect([code, stdout, stderr]).toEqual([1, '', expect.stringMatching(sentence)])
  })
  test('a file of another kind, one that is no JSON, and cases that lack something are told, and the others run', async () => {
    const cases = JSON.stringify({
      cases: [{ id: 'nothing' }, { id: 'no hex', attest_hex: 'xyz', policy: {} }, { id: 'no file', file: 'x' }],
    })
    const path = folder('odd', { 'cases.json': weak({}), 'other.json': cases, 'x.dat': 'x', 'broken.json': '{' })
    const { code, stdout, stderr } = await run(command, [path, '--json'])
    const lines = stdout
      .trim()
      .split('\n')
      .map(line => JSON.parse(line) as { case: string; got: string })
    expect([code, lines.map(line => `${line.case}: ${line.got}`).toSorted()]).toEqual([
      1,
      ['even: WEAK_KEY', 'no file: UNUSABLE', 'no hex: UNUSABLE', 'nothing: UNUSABLE'],
    ])
    expect(stderr).toContain('x.dat is no vector')
    expect(stderr).toContain('broken.json cannot be read as JSON')
    expect(stderr).toMatch(/^(?:conformance: .*\n)+$/) // and no stack
  })
  test('a case that lacks something throws nothing else', async () => {
    const path = folder('lacking', {
      'cases.json': JSON.stringify([{ secret_hex: '00' }, { chain: [] }, { attest_hex: 'x' }, { creation_data_hex: '' }]),
    })
    for (const one of casesIn(path, at).cases) await expect((async () => one.judge())()).rejects.toThrow(Unusable)
  })
})
