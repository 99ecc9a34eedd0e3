import { describe, expect, test } from 'vitest'
import { comparable } from '../../attestation/certs/names.ts'
import { CN, der, EMPTY, named, O, oid, sequence, textIn } from './certificates.ts'

const attribute = (type: string, value: Uint8Array) => sequence(oid(type), value)
const rdn = (...attributes: readonly Uint8Array[]) => der(0x31, ...attributes)
const nameWith = (value: Uint8Array) => sequence(rdn(attribute(CN, value)))
const utf8 = (text: string) => textIn('utf8', text)
const same = (one: Uint8Array, other: Uint8Array) => comparable(one).equals(comparable(other))

const root = nameWith(utf8('Root CA 01'))

describe('is one name', () => {
  test.each(['utf8', 'printable', 'teletex', 'ia5', 'visible', 'bmp'] as const)('in %s', kind =>
    expect(same(root, nameWith(textIn(kind, 'Root CA 01')))).toBe(true),
  )
  test.each([
    ['in another case', 'ROOT ca 01'],
    ['with space around it', '  Root CA 01 '],
    ['with more space in it', 'Root   CA\t01'],
  ])('%s', (_, text) => expect(same(root, nameWith(utf8(text)))).toBe(true))
  test('the attributes of an RDN in another order', () => {
    const [cn, o] = [attribute(CN, utf8('a')), attribute(O, utf8('b'))]
    expect(same(sequence(rdn(cn, o)), sequence(rdn(o, cn)))).toBe(true)
  })
  test('Latin letters in each type that has them', () =>
    expect(same(nameWith(textIn('teletex', 'Zürich')), nameWith(textIn('bmp', 'Zürich')))).toBe(true))
  test('none at all', () => expect(same(EMPTY, EMPTY)).toBe(true))
})

describe('is another name', () => {
  test.each([
    ['with another letter', nameWith(utf8('Root CA 02'))],
    ['with no space where there was one', nameWith(utf8('RootCA 01'))],
    ['under another type', sequence(rdn(attribute(O, utf8('Root CA 01'))))],
    ['with an attribute more', sequence(rdn(attribute(CN, utf8('Root CA 01'))), rdn(attribute(O, utf8('b'))))],
    ['with an attribute more in the same RDN', sequence(rdn(attribute(CN, utf8('Root CA 01')), attribute(O, utf8('b'))))],
    ['in no string type', nameWith(der(0x04, Buffer.from('Root CA 01')))],
    ['of nothing', EMPTY],
  ])('%s', (_, other) => expect(same(root, other)).toBe(false))
  test('RDNs in another order', () => {
    const [cn, o] = [rdn(attribute(CN, utf8('a'))), rdn(attribute(O, utf8('b')))]
    expect(same(sequence(cn, o), sequence(o, cn))).toBe(false)
  })
  test('two RDNs, and one of both', () => {
    const [cn, o] = [attribute(CN, utf8('a')), attribute(O, utf8('b'))]
    expect(same(sequence(rdn(cn), rdn(o)), sequence(rdn(cn, o)))).toBe(false)
  })
  test('letters beyond ASCII in another case', () => expect(same(nameWith(utf8('Ärger')), nameWith(utf8('ärger')))).toBe(false))
  test('bytes that are no text of their type, in another case', () => {
    const broken = (letter: string) => nameWith(der(0x0c, Buffer.from(letter), Buffer.of(0xff)))
    expect(same(broken('a'), broken('a'))).toBe(true)
    expect(same(broken('a'), broken('A'))).toBe(false)
  })
  test('a text that looks like the structure of another one', () =>
    expect(same(nameWith(utf8('a+0603550403=62')), sequence(rdn(attribute(CN, utf8('a')), attribute(CN, utf8('b')))))).toBe(
      false,
    ))
})

describe('what is no Name is itself alone', () => {
  const wrong: readonly (readonly [string, Buffer])[] = [
    ['no bytes', Buffer.alloc(0)],
    ['a value of an attribute is missing', sequence(rdn(sequence(oid(CN))))],
    ['a value too much', sequence(rdn(sequence(oid(CN), utf8('a'), utf8('b'))))],
    ['no OID', sequence(rdn(sequence(utf8('a'), utf8('b'))))],
    ['no SET', sequence(sequence(attribute(CN, utf8('a'))))],
    ['no SEQUENCE in it', sequence(rdn(rdn(oid(CN), utf8('a'))))],
    ['an RDN that ends too late', Buffer.from('300231053003', 'hex')],
    ['an attribute that ends too late', Buffer.from('30043102300a', 'hex')],
  ]
  test.each(wrong)('%s', (_, bytes) => expect(comparable(bytes)).toEqual(bytes))
})

test('the name of a maker as its CAs write it', () =>
  expect(same(named('STM TPM ECC Root CA 01'), named('STM TPM ECC ROOT CA 01'))).toBe(true))
