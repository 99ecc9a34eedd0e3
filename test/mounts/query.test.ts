import { expect, test } from 'vitest'
import { isWhole, pairsOf } from '../../mounts/query.ts'

// test/live/queries.test.ts asks Vault itself about queries of any bytes

const table: readonly (readonly [encoded: string, pairs: readonly (readonly [string, string])[], whole: boolean])[] = [
  ['', [], true],
  ['&&', [], true],
  ['help=1', [['help', '1']], true],
  ['hel%70=%31', [['help', '1']], true],
  ['help', [['help', '']], true],
  [
    'help=&help=1',
    [
      ['help', ''],
      ['help', '1'],
    ],
    true,
  ],
  ['a=b=c', [['a', 'b=c']], true],
  ['a+b=c+d%2B', [['a b', 'c d+']], true],
  ['=a', [['', 'a']], true],
  ['?help=1', [['?help', '1']], true],
  ['help=1;', [], false],
  ['a;help=1&list=true', [['list', 'true']], false],
  ['help=%zz', [], false],
  ['help%=1', [], false],
  ['help=1&list=%4', [['help', '1']], false],
  ['help=1%3B', [['help', '1;']], true],
]
test.each(table)('%s', (encoded, pairs, whole) => {
  expect([...pairsOf(encoded)]).toEqual(pairs)
  expect(isWhole(encoded)).toBe(whole)
})

test('a form has so many pairs and no more', () => {
  expect(isWhole(`a=b${'&'.repeat(9_999)}`)).toBe(true)
  expect(isWhole(`a=b${'&'.repeat(10_000)}`)).toBe(false)
  expect([isWhole('&'.repeat(9_999)), isWhole('&'.repeat(10_000))]).toEqual([true, false])
})
