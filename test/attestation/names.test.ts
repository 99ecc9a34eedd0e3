import { describe, expect, test } from 'vitest'
import { comparable, issuerOfList, namesOf } from '../../attestation/certs/names.ts'
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
    ['in no string type, in UTF-16', nameWith(der(0x04, Buffer.from('Root CA 01', 'utf16le').swap16()))],
    ['with a mark of the order of bytes', nameWith(utf8('\ufeffRoot CA 01'))],
    ['with one in UTF-16', nameWith(textIn('bmp', '\ufeffRoot CA 01'))],
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
  test('halves of a surrogate pair', () => {
    const half = (last: number) => nameWith(der(0x1e, Buffer.of(0xd8, last)))
    expect(same(half(0), half(0))).toBe(true)
    expect(same(half(0), half(1))).toBe(false)
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
    ['an attribute that ends in the next RDN', Buffer.from('3015310730110603550403310a300806035504030c0161', 'hex')],
  ]
  test.each(wrong)('%s', (_, bytes) => expect(comparable(bytes)).toEqual(bytes))
})

describe('the Names of what was issued', () => {
  const [one, other] = [nameWith(utf8('One')), nameWith(utf8('Other'))]
  const [number, time, version] = [Buffer.of(2, 1, 7), sequence(), der(0xa0, Buffer.of(2, 1, 2))]
  const certificate = (...fields: Buffer[]) => namesOf(sequence(sequence(...fields)))
  const list = (...fields: Buffer[]) => issuerOfList(sequence(sequence(...fields)))
  const names = { issuer: comparable(one), subject: comparable(other) }

  test('are found with a version before them and without', () => {
    expect(certificate(version, number, sequence(), one, time, other)).toEqual(names)
    expect(certificate(number, sequence(), one, time, other)).toEqual(names)
    expect(list(Buffer.of(2, 1, 1), sequence(), one)).toEqual(names.issuer)
    expect(list(sequence(), one)).toEqual(names.issuer)
  })
  test('are not there where something else is', () => {
    expect(namesOf(Buffer.alloc(0))).toBeUndefined()
    expect(issuerOfList(Buffer.alloc(0))).toBeUndefined()
    expect(certificate(number, sequence(), der(0x31), time, other)).toBeUndefined()
    expect(certificate(number, sequence(), one, time, der(0x31))).toBeUndefined()
    expect(certificate(number, sequence(), one, time)).toBeUndefined()
    expect(list(sequence(), der(0x31))).toBeUndefined()
    expect(list(sequence())).toBeUndefined()
  })
})

test('the name of a maker as its CAs write it', () =>
  expect(same(named('STM TPM ECC Root CA 01'), named('STM TPM ECC ROOT CA 01'))).toBe(true))
