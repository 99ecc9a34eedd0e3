import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Fault, faults, genesis, type Head, LINE_LIMIT, link, readLine } from '../../engine/audit/chain.ts'
import { type Expected, hashed, plain, Shared, type Source, verifyAudit } from '../../engine/audit/index.ts'
import { type AuditRecord, hasherOf, membersOf, systemMembers } from '../../engine/audit/record.ts'
import { Secret } from '../../engine/secret.ts'
import { key, record } from './audit_disk.ts'

const hash = hasherOf(key)
const opens = systemMembers('file-opened', 0, { why: 'start' })

/** Lines of a chain, the first of which begins a file. */
function lines(count: number, after: Head = genesis): { lines: string[]; head: Head } {
  const made: string[] = []
  let head = after
  for (let number = 0; number < count; number++) {
    const next = link(head, number === 0 ? opens : membersOf(record(`t${number}`), number, hash))
    made.push(next.line)
    head = next.head
  }
  return { lines: made, head }
}

async function* pieces(bytes: Uint8Array, size = 4096): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

const source = (text: string | readonly string[]): Source => pieces(Buffer.from(typeof text === 'string' ? text : text.join('')))
const verdictOf = (text: string | readonly string[], expected?: Expected) => verifyAudit(source(text), expected)

describe('a record', () => {
  const all = {
    ...record('01J'),
    fields: {
      plugin: plain('github'),
      scope: plain(['a:b', 'c "d"\n']),
      token: new Secret('hvs.canary'),
      bytes: new Secret<Uint8Array>(Buffer.from('canary')),
      audience: hashed('https://canary'),
      ttl_seconds: 900,
      fresh: true,
      bound: null,
      absent: undefined,
    },
  } satisfies AuditRecord

  test('holds plain text as it is and everything else as a keyed hash', () => {
    const written = JSON.parse(`{${membersOf(all, 1_800_000_000_000, hash)}}`)
    expect(written).toEqual({
      time: '2027-01-15T08:00:00.000Z',
      ...record('01J'),
      plugin: 'github',
      scope: ['a:b', 'c "d"\n'],
      token: hash('hvs.canary'),
      bytes: hash(Buffer.from('canary')),
      audience: hash('https://canary'),
      ttl_seconds: 900,
      fresh: true,
      bound: null,
    })
  })

  test('hashes as Vault does: HMAC-SHA-256, named', () => {
    // the value is that of `printf hvs.canary | openssl dgst -sha256 -mac HMAC -macopt hexkey:0707...07`
    expect(hash('hvs.canary')).toBe('hmac-sha256:61d05065d554896e4d643a811cf2e15a0fa409d7e99f97195d2202dd1ec32416')
    expect(hash(new Secret('hvs.canary'))).toBe(hash(Buffer.from('hvs.canary')))
  })

  test('may hide its path', () => {
    expect(membersOf({ ...record('t'), path: hashed('creds/canary') }, 0, hash)).toContain(`"path":"${hash('creds/canary')}"`)
  })

  test('has no unmarked text, and no number that JSON cannot write', () => {
    for (const value of ['text', Number.NaN, { nested: 'text' }, ['text']])
      expect(() => membersOf({ ...record('t'), fields: { value: value as never } }, 0, hash)).toThrow(TypeError)
  })

  test('has no field in the place of another', () => {
    for (const name of ['index', 'prev', 'hash', 'time', 'type', 'event', 'Upper', 'with"quote', ''])
      expect(() => membersOf({ ...record('t'), fields: { [name]: 1 } }, 0, hash)).toThrow(TypeError)
  })

  test.each([
    ['as they are', all],
    ['shortened', { ...record('t'), fields: { long: plain('\u20ac'.repeat(5_400)), other: hashed('canary') } }],
  ])('has fields that it shares with others as if they were its own, %s', (_, own) => {
    const shared = new Shared(own.fields ?? {})
    for (const txn of ['first', 'second'])
      expect(membersOf({ ...own, txn, fields: shared }, 0, hash)).toBe(membersOf({ ...own, txn }, 0, hash))
  })

  test('is no longer than a line: what is too long is there with its beginning and its hash', () => {
    const sized = (text: string) => membersOf({ ...record('t'), fields: { code: plain('SCOPE'), long: plain(text) } }, 0, hash)
    const longest = '\u20ac'.repeat(5_300)
    expect(Buffer.byteLength(link({ index: 999_999_999, hash: genesis.hash }, sized(longest)).line)).toBeLessThan(LINE_LIMIT)
    expect(JSON.parse(`{${sized(longest)}}`)).toMatchObject({ code: 'SCOPE', long: longest })
    const longer = '\u20ac'.repeat(5_400)
    const told = `"${'\u20ac'.repeat(127)}... 5402 characters of JSON, ${hash(JSON.stringify(longer))}`
    expect(JSON.parse(`{${sized(longer)}}`)).toMatchObject({ code: 'SCOPE', long: told })
  })

  test('is no longer than a line, whatever of it is long', () => {
    const long = '\u0001'.repeat(20_000)
    const names = Array.from({ length: 20 }, (_, at) => [`field_${at}`, plain(at % 2 === 0 ? long : [long, long])])
    const members = membersOf({ ...record('t'), path: long, fields: Object.fromEntries(names) }, 0, hash)
    const line = Buffer.from(link(genesis, members).line.trimEnd())
    expect(readLine(line)).toMatchObject({ index: 0 })
  })

  test('never shows what is hashed', () => {
    fc.assert(
      fc.property(fc.string({ minLength: 4 }), text => {
        const canary = `canary-${text}`
        const written = membersOf({ ...record('t'), fields: { a: hashed(canary), b: new Secret(canary) } }, 0, hash)
        expect(written).not.toContain(JSON.stringify(canary).slice(1, -1))
      }),
    )
  })

  test('does not give a hashed value back when it is printed', () => {
    expect(JSON.stringify(hashed('canary'))).not.toContain('canary')
  })

  test('wants a key of 32 bytes', () => {
    expect(() => hasherOf(new Secret<Uint8Array>(Buffer.alloc(31)))).toThrow(RangeError)
  })
})

describe('a chain', () => {
  test('is made of lines whose hash covers the bytes before it', () => {
    const [first, second] = lines(2).lines as [string, string]
    const { index, prev, hash: stated } = JSON.parse(second)
    const covered = second.slice(0, second.indexOf(',"hash":'))
    expect(index).toBe(1)
    expect(prev).toBe(JSON.parse(first).hash)
    expect(stated).toBe(createHash('sha256').update(covered).digest('hex'))
    expect(first).toMatch(/^\{"index":0,"prev":"0{64}",.*"hash":"[0-9a-f]{64}"\}\n$/)
  })

  test('verifies, however its bytes arrive', async () => {
    const whole = lines(30)
    const bytes = Buffer.from(whole.lines.join(''))
    for (const size of [1, 7, 254, 4096, 1 << 20])
      expect(await verifyAudit(pieces(bytes, size))).toEqual({ ok: true, records: 30, first: 0, head: whole.head })
  })

  test('verifies over several files', async () => {
    const one = lines(5)
    const two = lines(4, one.head)
    const verdict = await verifyAudit([source(one.lines), source(two.lines)])
    expect(verdict).toEqual({ ok: true, records: 9, first: 0, head: two.head })
  })

  test('verifies from a later file on, which says that it continues one, or from a record that is known', async () => {
    const one = lines(5)
    const two = lines(4, one.head)
    expect(await verdictOf(two.lines)).toEqual({ ok: true, records: 4, first: 5, head: two.head })
    const third = JSON.parse(one.lines[2] as string) as Head
    expect(await verdictOf(one.lines.slice(3), { after: third })).toMatchObject({ ok: true, records: 2, first: 3 })
  })
})

/** The chain of ten that the faults are made from. */
const ten = lines(10)
const at = (index: number) => ten.lines[index] as string
const edit = (index: number, change: (line: string) => string) =>
  ten.lines.map((line, number) => (number === index ? change(line) : line))
/** A line that hashes to what it says, but is made of other members. */
const forged = (index: number, members: string, prev = JSON.parse(at(index)).prev) =>
  link({ index: index - 1, hash: prev }, members).line
const faulty: readonly { name: string; fault: Fault; line: number; text: string | readonly string[]; expected?: Expected }[] = [
  { name: 'a letter in a value', fault: 'EDITED', line: 4, text: edit(3, line => line.replace('deploy', 'depl0y')) },
  {
    name: 'another spelling of the same JSON',
    fault: 'EDITED',
    line: 4,
    text: edit(3, line => line.replace('"type":', '"type": ')),
  },
  { name: 'a number in the index', fault: 'EDITED', line: 4, text: edit(3, line => line.replace('"index":3', '"index":8')) },
  {
    name: 'a digit of the hash',
    fault: 'EDITED',
    line: 10,
    text: edit(9, line => line.replace(/.(?="\}\n$)/, digit => (digit === '0' ? '1' : '0'))),
  },
  {
    name: 'a hash in upper case',
    fault: 'FORM',
    line: 4,
    text: edit(3, line => line.replace(/[0-9a-f]{64}(?="\}\n$)/, 'A'.repeat(64))),
  },
  { name: 'white space after the record', fault: 'FORM', line: 4, text: edit(3, line => line.replace('\n', ' \n')) },
  { name: 'another JSON object', fault: 'FORM', line: 4, text: edit(3, () => '{}\n') },
  { name: 'a second index', fault: 'FORM', line: 4, text: edit(3, () => forged(3, '"type":"intent","index":7')) },
  { name: 'a second prev', fault: 'FORM', line: 4, text: edit(3, () => forged(3, `"type":"intent","prev":"${genesis.hash}"`)) },
  { name: 'an empty line', fault: 'NOT_JSON', line: 4, text: edit(3, line => `\n${line}`) },
  { name: 'a text', fault: 'NOT_JSON', line: 4, text: edit(3, () => 'text\n') },
  { name: 'a hashed line that is no JSON', fault: 'NOT_JSON', line: 4, text: edit(3, () => forged(3, '"type":')) },
  { name: 'two records in a line', fault: 'EDITED', line: 4, text: edit(3, line => line.replace('\n', '')) },
  { name: 'a line above the limit', fault: 'TOO_LONG', line: 4, text: edit(3, () => `{"a":"${'x'.repeat(LINE_LIMIT)}"}\n`) },
  { name: 'a record taken out', fault: 'MISSING', line: 4, text: edit(3, () => '') },
  { name: 'records taken out', fault: 'MISSING', line: 4, text: [...ten.lines.slice(0, 3), ...ten.lines.slice(6)] },
  {
    name: 'two records swapped',
    fault: 'REORDERED',
    line: 4,
    text: [...ten.lines.slice(0, 3), at(4), at(3), ...ten.lines.slice(5)],
  },
  { name: 'a record twice', fault: 'REORDERED', line: 5, text: edit(3, line => line + line) },
  { name: 'a record moved to the end', fault: 'REORDERED', line: 4, text: [...edit(3, () => ''), at(3)] },
  {
    name: 'a record of another chain',
    fault: 'FOREIGN',
    line: 4,
    text: edit(3, () => forged(3, '"type":"intent"', 'ab'.repeat(32))),
  },
  { name: 'a record made anew', fault: 'FOREIGN', line: 5, text: edit(3, () => forged(3, '"type":"intent"')) },
  { name: 'the first record taken out', fault: 'GENESIS', line: 1, text: ten.lines.slice(1) },
  {
    name: 'a later record that begins a chain',
    fault: 'GENESIS',
    line: 4,
    text: edit(3, () => forged(3, '"type":"intent"', genesis.hash)),
  },
  { name: 'a first record after another', fault: 'GENESIS', line: 1, text: [forged(0, opens, 'ab'.repeat(32))] },
  { name: 'a newline taken off', fault: 'TORN', line: 10, text: edit(9, line => line.trimEnd()) },
  { name: 'half of the last record', fault: 'TORN', line: 10, text: edit(9, line => line.slice(0, 100)) },
  { name: 'nothing', fault: 'EMPTY', line: 0, text: '' },
  { name: 'the last record taken out', fault: 'HEAD', line: 9, text: ten.lines.slice(0, 9), expected: { head: ten.head.hash } },
  {
    name: 'another record before',
    fault: 'FOREIGN',
    line: 1,
    text: lines(3, { index: 4, hash: 'ab'.repeat(32) }).lines,
    expected: { after: { index: 4, hash: 'cd'.repeat(32) } },
  },
]

describe('the verifier', () => {
  for (const { name, fault, line, text, expected } of faulty)
    test(`${name}: ${fault}`, async () => {
      const verdict = await verdictOf(text, expected)
      expect(verdict).toMatchObject({ ok: false, reason: fault, at: { file: 0, line } })
    })

  test('every fault has a case', () => {
    expect([...new Set(faulty.map(({ fault }) => fault))].sort()).toEqual(Object.keys(faults).sort())
  })

  test('names the index that was expected', async () => {
    expect(await verdictOf(edit(3, () => ''))).toMatchObject({ at: { index: 3 } })
  })

  test('names the file', async () => {
    const one = lines(5)
    const two = lines(4, one.head)
    const three = lines(3, two.head)
    expect(await verifyAudit([source(one.lines), source(three.lines)])).toMatchObject({
      reason: 'MISSING',
      at: { file: 1, line: 1, index: 5 },
    })
    expect(await verifyAudit([source(two.lines), source(one.lines)])).toMatchObject({
      reason: 'REORDERED',
      at: { file: 1, line: 1 },
    })
    expect(await verifyAudit([source(one.lines), source(three.lines), source(two.lines)])).toMatchObject({
      reason: 'REORDERED',
      at: { file: 1 },
    })
  })

  test('finds any one changed byte, and names its line', async () => {
    const bytes = Buffer.from(ten.lines.join(''))
    const change = fc.record({
      at: fc.nat(bytes.length - 1),
      by: fc.integer({ min: 1, max: 255 }),
      size: fc.integer({ min: 1, max: 5000 }),
    })
    const changed = async ({ at: place, by, size }: { at: number; by: number; size: number }) => {
      const copy = Buffer.from(bytes)
      copy[place] = (copy[place] as number) ^ by
      const line = bytes.subarray(0, place).toString('latin1').split('\n').length
      expect(await verifyAudit(pieces(copy, size))).toMatchObject({ ok: false, at: { line } })
    }
    await fc.assert(fc.asyncProperty(change, changed), { numRuns: 1500 })
  })

  test('finds any records taken out, doubled or moved', async () => {
    const order = fc.array(fc.nat(9), { minLength: 1, maxLength: 12 })
    const reordered = async (indexes: readonly number[]) => {
      const whole = indexes.length === 10 && indexes.every((index, place) => index === place)
      const verdict = await verdictOf(indexes.map(at), { head: ten.head.hash })
      expect(verdict.ok).toBe(whole)
    }
    await fc.assert(fc.asyncProperty(order, reordered), { numRuns: 500, examples: [[[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]]] })
  })

  test('stops reading at a line without end', async () => {
    let chunks = 0
    const endless = async function* () {
      for (;;) {
        chunks += 1
        yield Buffer.alloc(1024, 'x')
      }
    }
    expect(await verifyAudit(endless())).toMatchObject({ ok: false, reason: 'TOO_LONG' })
    expect(chunks).toBeLessThanOrEqual(LINE_LIMIT / 1024 + 1)
  })

  test('throws when there is no such file', async () => {
    await expect(verifyAudit('/nowhere/audit.jsonl')).rejects.toThrow('ENOENT')
  })
})
