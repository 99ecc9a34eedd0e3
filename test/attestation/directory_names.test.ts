import { AltName, RelativeDistinguishedNames } from 'pkijs'
import { describe, expect, test } from 'vitest'
import { directoryNames } from '../../attestation/certs/directory_names.ts'

/** DER: a tag and what is in it, which is short. */
const tlv = (tag: number, ...content: readonly Uint8Array[]) => {
  const bytes = Buffer.concat(content)
  if (bytes.length > 127) throw new Error('too long for a length of one byte')
  return Buffer.concat([Buffer.of(tag, bytes.length), bytes])
}
const attribute = (last: number, text: string) =>
  tlv(0x30, tlv(0x06, Buffer.of(0x67, 0x81, 0x05, 0x02, last)), tlv(0x0c, Buffer.from(text)))
const oneSet = tlv(0x30, tlv(0x31, attribute(1, 'id:49465800'), attribute(2, 'SLB 9670'), attribute(3, 'id:0755')))
const threeSets = tlv(
  0x30,
  tlv(0x31, attribute(1, 'id:49465800')),
  tlv(0x31, attribute(2, 'SLB 9670')),
  tlv(0x31, attribute(3, 'id:0755')),
)
const short = tlv(0x30, tlv(0x31, attribute(2, 'TPM')))
const directory = (name: Buffer) => tlv(0xa4, name)
const dns = tlv(0x82, Buffer.from('tpm.example'))

describe('directory names alone', () => {
  const cases: readonly (readonly [string, Buffer])[] = [
    ['of one RDN', tlv(0x30, directory(oneSet))],
    ['of three RDNs', tlv(0x30, directory(threeSets))],
    ['two of them', tlv(0x30, directory(short), directory(oneSet))],
    ['without an attribute', tlv(0x30, directory(tlv(0x30)))],
    ['none', tlv(0x30)],
  ]
  test.each(cases)('%s: are read as pkijs reads them', (_, der) => {
    const [read, reference] = [directoryNames(der), AltName.fromBER(new Uint8Array(der))]
    expect(JSON.stringify(read)).toBe(JSON.stringify(reference))
    for (const [at, { type, value }] of reference.altNames.entries()) {
      expect(read?.altNames[at]?.type).toBe(type)
      expect(value).toBeInstanceOf(RelativeDistinguishedNames)
      expect(read?.altNames[at]?.value.isEqual(value)).toBe(true)
    }
  })
})

describe('is left to pkijs:', () => {
  const cases: readonly (readonly [string, Buffer])[] = [
    ['another form of name', tlv(0x30, dns)],
    ['a directory name beside another form', tlv(0x30, directory(oneSet), dns)],
    ['two Names in one', tlv(0x30, tlv(0xa4, short, short))],
    ['no Name in one', tlv(0x30, tlv(0xa4))],
    ['a form that is built alike', tlv(0x30, tlv(0xa5, short))],
    ['the tag of another class', tlv(0x30, tlv(0x64, oneSet))],
    ['bytes after it', Buffer.concat([tlv(0x30, directory(oneSet)), Buffer.of(0)])],
    ['a SET', tlv(0x31, directory(oneSet))],
    ['half of it', tlv(0x30, directory(oneSet)).subarray(0, -1)],
    ['nothing', Buffer.alloc(0)],
  ]
  test.each(cases)('%s', (_, der) => {
    expect(directoryNames(der)).toBeUndefined()
  })
})

test.each([
  ['no Name in it', tlv(0x0c, Buffer.from('text'))],
  ['an attribute without a value', tlv(0x30, tlv(0x31, tlv(0x30, tlv(0x06, Buffer.of(0x55, 0x04, 0x03)))))],
])('a directory name with %s cannot be read', (_, name) => {
  expect(() => directoryNames(tlv(0x30, directory(name)))).toThrow(/schema|ASN/i)
})
