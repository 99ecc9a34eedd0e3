import { describe, expect, test } from 'vitest'
import { openEgress } from '../../engine/lifecycle/egress.ts'

const publicOnes = ['8.8.8.8', '1.1.1.1', '172.15.255.255', '172.32.0.1', '2001:4860:4860::8888', '192.169.0.1']
const closed = [
  '0.0.0.0',
  '10.1.2.3',
  '100.64.0.1',
  '127.0.0.1',
  '127.255.255.254',
  '169.254.169.254',
  '172.16.0.1',
  '172.31.255.255',
  '192.168.1.1',
  '192.0.0.1',
  '198.18.0.1',
  '224.0.0.1',
  '255.255.255.255',
  '::',
  '::1',
  'fc00::1',
  'fdff::1',
  'fe80::1',
  'ff02::1',
  '::ffff:127.0.0.1',
  '::ffff:10.0.0.1',
  '::ffff:7f00:1',
  '64:ff9b::7f00:1',
  '2001:db8::1',
  // addresses within addresses: local translation, Teredo, 6to4 and its relays
  '64:ff9b:1::7f00:1',
  '2001:0:7f00:1::1',
  '2002:7f00:1::1',
  '192.88.99.1',
  '3fff::1',
  '5f00::1',
]

describe('without a list', () => {
  test.each(publicOnes)('%s is allowed', address => expect(openEgress([]).allows(address)).toBe(true))
  test.each(closed)('%s is not', address => expect(openEgress([]).allows(address)).toBe(false))
  test.each(['', 'localhost', '127.1', '0x7f.1', '2130706433'])('%j is no address', address =>
    expect(openEgress([]).allows(address)).toBe(false),
  )
})

/** Of each range that is closed, the first and the last address, and what is public right beside it. */
const edges: readonly (readonly [first: string, last: string, beside: readonly string[]])[] = [
  ['0.0.0.0', '0.255.255.255', ['1.0.0.0']],
  ['10.0.0.0', '10.255.255.255', ['9.255.255.255', '11.0.0.0']],
  ['100.64.0.0', '100.127.255.255', ['100.63.255.255', '100.128.0.0']],
  ['127.0.0.0', '127.255.255.255', ['126.255.255.255', '128.0.0.0']],
  ['169.254.0.0', '169.254.255.255', ['169.253.255.255', '169.255.0.0']],
  ['172.16.0.0', '172.31.255.255', ['172.15.255.255', '172.32.0.0']],
  ['192.0.0.0', '192.0.0.255', ['191.255.255.255', '192.0.1.0']],
  ['192.0.2.0', '192.0.2.255', ['192.0.1.255', '192.0.3.0']],
  ['192.88.99.0', '192.88.99.255', ['192.88.98.255', '192.88.100.0']],
  ['192.168.0.0', '192.168.255.255', ['192.167.255.255', '192.169.0.0']],
  ['198.18.0.0', '198.19.255.255', ['198.17.255.255', '198.20.0.0']],
  ['198.51.100.0', '198.51.100.255', ['198.51.99.255', '198.51.101.0']],
  ['203.0.113.0', '203.0.113.255', ['203.0.112.255', '203.0.114.0']],
  ['224.0.0.0', '255.255.255.255', ['223.255.255.255']],
  ['::', '::ffff:ffff', ['::1:0:0']],
  ['64:ff9b::', '64:ff9b::ffff:ffff', ['64:ff9a:ffff::', '64:ff9b::1:0:0']],
  ['64:ff9b:1::', '64:ff9b:1:ffff:ffff:ffff:ffff:ffff', ['64:ff9b:0:ffff::', '64:ff9b:2::']],
  ['100::', '100::ffff:ffff:ffff:ffff', ['ff:ffff::', '100:0:0:1::']],
  ['2001::', '2001:1ff:ffff::', ['2000:ffff::', '2001:200::']],
  ['2001:db8::', '2001:db8:ffff:ffff::', ['2001:db7:ffff::', '2001:db9::']],
  ['2002::', '2002:ffff:ffff::', ['2001:ffff::', '2003::']],
  ['3fff::', '3fff:fff:ffff::', ['3ffe:ffff::', '3fff:1000::']],
  ['5f00::', '5f00:ffff::', ['5eff:ffff::', '5f01::']],
  ['fc00::', 'fdff:ffff::', ['fbff:ffff::', 'fe00::']],
  ['fe80::', 'febf:ffff::', ['fe7f:ffff::', 'fec0::']],
  ['ff00::', 'ffff:ffff::', []],
]
test.each(edges)('what is from %s to %s is closed, and nothing right beside it', (first, last, beside) => {
  const { allows } = openEgress([])
  expect([first, last].filter(allows)).toEqual([])
  expect(beside.filter(allows)).toEqual(beside)
})

test('what is listed is allowed, and nothing beside it', () => {
  const { allows } = openEgress(['10.1.0.0/16', '127.0.0.1', 'fd00::/8'])
  expect(['10.1.255.1', '127.0.0.1', 'fd12::1', '8.8.8.8'].map(allows)).toEqual([true, true, true, true])
  expect(['10.2.0.1', '127.0.0.2', 'fc00::1', '::1'].map(allows)).toEqual([false, false, false, false])
})

describe('a name', () => {
  const look = (listed: readonly string[], all: boolean) =>
    new Promise(resolve =>
      openEgress(listed).lookup('localhost', { all }, (error, found) => resolve(error ? (error.code ?? error.message) : found)),
    )
  test('has only the addresses that are allowed', async () => {
    expect(await look([], false)).toBe('EADDRESS')
    expect(await look([], true)).toBe('EADDRESS')
    expect(await look(['127.0.0.0/8'], false)).toBe('127.0.0.1')
    expect(await look(['127.0.0.0/8'], true)).toEqual([{ address: '127.0.0.1', family: 4 }])
  })
})
