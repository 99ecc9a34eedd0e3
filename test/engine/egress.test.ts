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
