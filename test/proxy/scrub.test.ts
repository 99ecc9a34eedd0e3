import fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import { openScrubber } from '../../proxy/http/scrub.ts'
import { heldOutside } from '../fakes/heap.ts'
import { REAL } from '../fakes/sealing.ts'
import { spelled } from './spellings.ts'

describe('scrubbing', () => {
  test.each(spelled)('finds it %s, in two pieces cut at each place', (_, text) => {
    const whole = Buffer.from(`{"a":"${text}","b":"${text.slice(0, -1)}"}`)
    const scrubber = openScrubber([REAL])
    if (!scrubber) throw new Error('nothing to look for')
    for (let cut = 0; cut <= whole.length; cut++) {
      const stream = scrubber.stream()
      const pieces = [whole.subarray(0, cut), whole.subarray(cut)].map(piece => Buffer.from(stream.push(Buffer.from(piece))))
      const out = Buffer.concat([...pieces, stream.end()])
      expect(out.length).toBe(whole.length)
      expect(out.includes(text)).toBe(false)
      expect(Buffer.from(out.toString().match(/[A-Za-z0-9+/_-]{20,}/)?.[0] ?? '', 'base64').includes(REAL)).toBe(false)
    }
  })

  test('finds what JSON and URLs spell otherwise', () => {
    const awkward = 'p"a/s\\s wörd&=+%'
    const scrubber = openScrubber([awkward])
    const texts = [JSON.stringify(awkward), JSON.stringify(awkward).replaceAll('/', '\\/'), encodeURIComponent(awkward), awkward]
    for (const text of texts) {
      const bytes = Buffer.from(`-${text}-`)
      expect(scrubber?.whole(bytes)).toBe(true)
      expect(bytes.toString()).toMatch(/^-"?\*+"?-$/)
    }
  })

  test.each([
    ['Python in a path', 'abcd/efgh+ijkl=', 'abcd/efgh%2Bijkl%3D'],
    ['the URL standard in a form', "p!a'ss (wo)rd~x*", String(new URLSearchParams({ a: "p!a'ss (wo)rd~x*" })).slice(2)],
    ['JavaScript in a URL', 'wörd/and+more', encodeURI('wörd/and+more')],
    ['JavaScript in a form', "p!a'ss (wo)rd*", "p!a'ss+(wo)rd*"],
    ['Python in a form', 'p!ass (wo)rd~x*', 'p%21ass+%28wo%29rd~x%2A'],
    ['Go in JSON', "abc<def>ghi&jkl='", "abc\\u003cdef\\u003eghi\\u0026jkl='"],
    ['Gson in JSON', "it's=abc<def", 'it\\u0027s\\u003dabc\\u003cdef'],
    ['Python in JSON', 'wörd-wörd-wörd', 'w\\u00f6rd-w\\u00f6rd-w\\u00f6rd'],
    ['PHP in JSON', 'wörd/wörd', 'w\\u00f6rd\\/w\\u00f6rd'],
    ['.NET in JSON', 'ab"cd+efgh==', 'ab\\u0022cd\\u002Befgh=='],
    ['XML', `abc&d"e'fgh<i>`, 'abc&amp;d&quot;e&apos;fgh&lt;i&gt;'],
    ['XML between tags', `abc&d"e'fgh<i>`, `abc&amp;d"e'fgh&lt;i&gt;`],
    ['Go on a page', `abc&d"e'fgh<i>`, 'abc&amp;d&#34;e&#39;fgh&lt;i&gt;'],
    ['Python on a page', `abc&d"e'fgh<i>`, 'abc&amp;d&quot;e&#x27;fgh&lt;i&gt;'],
    ['PHP on a page', `abc&d"e'fgh<i>`, 'abc&amp;d&quot;e&#039;fgh&lt;i&gt;'],
    ['Mustache', 'abc/def+ghi=', 'abc&#x2F;def+ghi&#x3D;'],
    ['Handlebars', 'abc/def+ghi=', 'abc/def+ghi&#x3D;'],
    ['.NET on a page', 'abc/def+ghi=', 'abc/def&#x2B;ghi='],
  ])('finds what %s spells otherwise', (_, value, spelling) => {
    const bytes = Buffer.from(`-${spelling}-`)
    expect(openScrubber([value])?.whole(bytes)).toBe(true)
    expect(bytes.toString()).toBe(`-${'*'.repeat(Buffer.byteLength(spelling))}-`)
  })

  test.each(['base64', 'base64url'] as const)(
    'leaves nothing in %s that is of it alone, wherever it begins and ends',
    spelling => {
      for (const value of ['???>>>~~~???', '???>>>~~~???>', '???>>>~~~???>>'])
        for (const before of ['', '~', '~~']) {
          const bytes = Buffer.from(Buffer.from(`${before}${value}~~`).toString(spelling))
          openScrubber([value])?.whole(bytes)
          const [from, until] = [before.length, before.length + value.length].map(at => (at * 8) / 6) as [number, number]
          expect(bytes.toString().replaceAll(/[^*]/g, '')).toHaveLength(Math.floor(until) - Math.ceil(from))
        }
    },
  )

  test('finds all that overlap, are in one another or begin alike, in whatever pieces they come', () => {
    const secret = fc.array(fc.constantFrom('a', 'b'), { minLength: 8, maxLength: 12 }).map(letters => letters.join(''))
    const given = fc.array(secret, { minLength: 1, maxLength: 3 }).chain(secrets => {
      const piece = fc.oneof(
        fc.constantFrom(...secrets),
        fc.constantFrom('a', 'b', '-'),
        fc.constantFrom(...secrets.map(one => one.slice(0, 6))),
      )
      return fc.record({
        secrets: fc.constant(secrets),
        pieces: fc.array(piece, { maxLength: 12 }),
        cut: fc.integer({ min: 1, max: 9 }),
      })
    })
    fc.assert(
      fc.property(given, ({ secrets, pieces, cut }) => {
        const text = pieces.join('')
        const starts = secrets.flatMap(one =>
          Array.from(text).flatMap((_, at) => (text.startsWith(one, at) ? [{ at, to: at + one.length }] : [])),
        )
        const stream = openScrubber(secrets)?.stream()
        const out: Buffer[] = []
        for (let at = 0; at < text.length; at += cut)
          out.push(Buffer.from(stream?.push(Buffer.from(text.slice(at, at + cut))) ?? []))
        const said = Buffer.concat([...out, stream?.end() ?? Buffer.alloc(0)]).toString()
        expect(said.length).toBe(text.length)
        for (const [at, letter] of Array.from(said).entries()) {
          // the first byte of eight may have gone on before it was known what it begins
          const [isIn, begins] = [starts.some(one => one.at <= at && at < one.to), starts.some(one => one.at === at)]
          expect(isIn ? letter === '*' || (begins && letter === text[at]) : letter === text[at]).toBe(true)
        }
      }),
      { numRuns: 2000 },
    )
  })

  test('does not wait for more when all that a message ends with is a letter that something begins with', () => {
    const stream = openScrubber([REAL])?.stream()
    expect(String(stream?.push(Buffer.from('pong')))).toBe('pong')
    expect(String(stream?.push(Buffer.from(`${REAL.slice(1)}, ghs_16C`)))).toBe(`${'*'.repeat(REAL.length - 1)}, `)
    expect(String(stream?.end())).toBe('ghs_16C')
    expect(
      String(
        openScrubber([REAL])
          ?.stream()
          .push(Buffer.from(`a${REAL}`)),
      ),
    ).toBe(`a${'*'.repeat(REAL.length)}`)
  })

  test('leaves everything else as it is, byte by byte', () => {
    const scrubber = openScrubber([REAL])
    const stream = scrubber?.stream()
    const text = Buffer.from(REAL.slice(0, -1).repeat(50))
    const out = Buffer.concat([
      ...Array.from(text, byte => Buffer.from(stream?.push(Buffer.from([byte])) ?? [])),
      stream?.end() ?? Buffer.alloc(0),
    ])
    expect(out).toEqual(text)
  })

  test('overwrites what it looks for when that is over, and lets nothing through from then on', () => {
    const scrubber = openScrubber([REAL])
    const fill = vi.spyOn(Buffer.prototype, 'fill')
    scrubber?.wipe()
    const filled = fill.mock.contexts as readonly Buffer[]
    fill.mockRestore()
    expect(filled.length).toBeGreaterThan(spelled.length)
    expect(filled.every(bytes => bytes.every(byte => byte === 0))).toBe(true)
    const text = Buffer.from('something else')
    expect(scrubber?.whole(text)).toBe(true)
    expect(`${text.toString()} ${scrubber?.stream().push(Buffer.from('in pieces')).toString()}`).toMatch(/^\*+ \*+$/)
  })

  test('looks for nothing that would be everywhere', () => {
    expect(openScrubber(['short'])).toBeUndefined()
    expect(openScrubber([])).toBeUndefined()
  })
})

test('what is looked for keeps nothing else in memory, whatever comes and goes beside it', () => {
  const before = heldOutside()
  const kept = Array.from({ length: 100 }, (_, at) => {
    for (let other = 0; other < 40; other++) Buffer.from('another request'.repeat(200))
    return openScrubber([`${REAL}${at}`])
  })
  // its two tables have 16 KiB each, and Node's pool has 64
  expect((heldOutside() - before) / kept.length).toBeLessThan(48 * 1024)
})
