import { describe, expect, test } from 'vitest'
import { type ProfileRules, readEkCertificate } from '../../attestation/certs/ek_certificate.ts'
import { outcome, pairOf, unwrap } from './attester.ts'
import {
  authorityKey,
  basicConstraints,
  certifyEk,
  der,
  directoryName,
  EK_EXTENSIONS,
  EK_PURPOSE,
  extension,
  extKeyUsage,
  type Fields,
  INFINEON,
  keyUsage,
  makeCa,
  named,
  oid,
  san,
  sequence,
  subjectAltName,
  utf8,
} from './certificates.ts'

const root = makeCa(named('Root'))
const rsa = pairOf('rsa-2048', 'ek').publicKey
const p256 = pairOf('P-256', 'ek').publicKey
const read = (fields: Partial<Fields>, key = rsa, rules?: ProfileRules) => readEkCertificate(certifyEk(root, key, fields), rules)
const [noCa, , purpose, alternative] = EK_EXTENSIONS as [Buffer, Buffer, Buffer, Buffer]

describe('the serial number of an endorsement certificate', () => {
  test.each<readonly [string, string]>([
    ['00', 'EK_CERTIFICATE'],
    ['80', 'EK_CERTIFICATE'],
    ['7f', 'OK'],
    ['0080', 'OK'],
    ['0100', 'OK'],
  ])('%s: %s', (hex, expected) => expect(outcome(read({ serial: Buffer.from(hex, 'hex') }))).toBe(expected))
})

describe('the use of its key', () => {
  const uses = [
    // bits, as most makers have them, of an RSA key by the profile, of an ECC key by the profile
    [0x20, 'OK', 'OK', 'EK_CERTIFICATE'],
    [0x08, 'OK', 'EK_CERTIFICATE', 'OK'],
    [0x28, 'OK', 'EK_CERTIFICATE', 'EK_CERTIFICATE'],
    [0x04, 'EK_CERTIFICATE', 'EK_CERTIFICATE', 'EK_CERTIFICATE'],
    [0x24, 'EK_CERTIFICATE', 'EK_CERTIFICATE', 'EK_CERTIFICATE'],
    [0x0c, 'EK_CERTIFICATE', 'EK_CERTIFICATE', 'EK_CERTIFICATE'],
    [0x80, 'EK_CERTIFICATE', 'EK_CERTIFICATE', 'EK_CERTIFICATE'],
    [undefined, 'OK', 'EK_CERTIFICATE', 'EK_CERTIFICATE'],
  ] as const
  test.each(uses)('%i: %s, strictly %s with RSA and %s with ECC', (bits, ordinary, ofRsa, ofEcc) => {
    const usage = bits === undefined ? [] : [keyUsage(bits)]
    const extensions = [noCa, ...usage, purpose, alternative, authorityKey(Buffer.of(1))]
    const strict = { strictProfile: true }
    expect(outcome(read({ extensions }))).toBe(ordinary)
    expect([outcome(read({ extensions }, rsa, strict)), outcome(read({ extensions }, p256, strict))]).toEqual([ofRsa, ofEcc])
    expect(outcome(read({ extensions: extensions.slice(0, -1) }, rsa, strict))).toBe('EK_CERTIFICATE')
  })
})

test('a key that is said to be for nothing is not one for decrypting', () => {
  const nothing = extension('2.5.29.15', true, der(0x03, Buffer.of(0)))
  expect(outcome(read({ extensions: [noCa, nothing, purpose, alternative] }))).toBe('EK_CERTIFICATE')
})

test('its purpose is said in words when it is another one', () => {
  const others = extKeyUsage('1.2.3', '1.2.4')
  expect(read({ extensions: [noCa, others, alternative] })).toHaveProperty(
    'detail',
    expect.stringContaining('1.2.3 1.2.4, wanted'),
  )
  expect(read({ extensions: [noCa, alternative] })).toHaveProperty('detail', expect.stringContaining('is not there, wanted'))
  const ca = [basicConstraints(true), extKeyUsage(EK_PURPOSE), alternative]
  expect(outcome(read({ extensions: ca }))).toBe('EK_CERTIFICATE')
})

describe('the TPM that it names', () => {
  const [maker, model, version] = INFINEON
  const attribute = (type: string, value: Uint8Array) => der(0x31, sequence(oid(type), value))
  const naming = (...attributes: Buffer[]) => ({
    extensions: [noCa, purpose, subjectAltName(true, directoryName(sequence(...attributes)))],
  })
  const whole = (ofMaker: Uint8Array, ofModel: Uint8Array, ofVersion: Uint8Array) =>
    naming(attribute('2.23.133.2.1', ofMaker), attribute('2.23.133.2.2', ofModel), attribute('2.23.133.2.3', ofVersion))

  test.each<readonly [string, string, Partial<Fields>]>([
    ['all of it', 'OK', whole(utf8(maker), utf8(model), utf8(version))],
    ['an empty model', 'EK_CERTIFICATE', whole(utf8(maker), utf8(''), utf8(version))],
    ['a model of one letter', 'OK', whole(utf8(maker), utf8('X'), utf8(version))],
    ['an empty version', 'EK_CERTIFICATE', whole(utf8(maker), utf8(model), utf8(''))],
    ['a model that is no text', 'EK_CERTIFICATE', whole(utf8(maker), Buffer.of(2, 1, 7), utf8(version))],
    ['no maker', 'EK_CERTIFICATE', naming(attribute('2.23.133.2.2', utf8(model)), attribute('2.23.133.2.3', utf8(version)))],
    ['no version', 'EK_CERTIFICATE', naming(attribute('2.23.133.2.1', utf8(maker)), attribute('2.23.133.2.2', utf8(model)))],
    ['a digit too few', 'EK_CERTIFICATE', whole(utf8('id:4946580'), utf8(model), utf8(version))],
    ['a digit too many', 'EK_CERTIFICATE', whole(utf8('id:494658000'), utf8(model), utf8(version))],
    ['something before the id', 'EK_CERTIFICATE', whole(utf8('an id:49465800'), utf8(model), utf8(version))],
    ['nothing at all', 'EK_CERTIFICATE', naming()],
  ])('%s: %s', (_, expected, fields) => expect(outcome(read(fields))).toBe(expected))

  test('is known by its id in capitals, and by what it claims', () => {
    const specification = sequence(utf8('2.0'), Buffer.of(2, 1, 0), Buffer.of(2, 1, 99))
    const claims = (type: string, ...values: Buffer[]) =>
      extension('2.5.29.9', false, sequence(sequence(oid(type), der(0x31, ...values))))
    const known = (...extra: Buffer[]) => unwrap(read({ extensions: [noCa, purpose, san(['id:4d534654', 'a', 'b']), ...extra] }))
    expect(known()).toMatchObject({ manufacturer: 'id:4D534654', model: 'a', version: 'b' })
    expect(known().key.equals(rsa)).toBe(true)
    expect(known()).not.toHaveProperty('specification')
    expect(known(claims('1.2.3', specification))).not.toHaveProperty('specification')
    expect(known(claims('2.23.133.2.16'))).not.toHaveProperty('specification')
    expect(known(claims('2.23.133.2.16', utf8('2.0')))).not.toHaveProperty('specification')
    expect(known(claims('2.23.133.2.16', specification))).toHaveProperty('specification', {
      family: '2.0',
      level: 0,
      revision: 99,
    })
  })

  test('may stand beside an empty subject when it is critical', () => {
    const extensions = (critical: boolean) => ({ extensions: [noCa, purpose, san(INFINEON, critical)] })
    expect(outcome(read(extensions(true)))).toBe('OK')
    expect(outcome(read(extensions(false)))).toBe('EK_CERTIFICATE')
    expect(outcome(read({ ...extensions(false), subject: named('TPM') }))).toBe('OK')
  })
})
