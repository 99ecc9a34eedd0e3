import { Null } from 'asn1js'
import { AlgorithmIdentifier } from 'pkijs'
import { describe, expect, test } from 'vitest'
import { isCertificate, extension as known, readCertificate, valueIn } from '../../attestation/certs/certificate.ts'
import { signatureHashOf } from '../../attestation/certs/signature_hash.ts'
import { readTpmSpecification } from '../../attestation/certs/tpm_specification.ts'
import { outcome, pairOf, unwrap } from './attester.ts'
import {
  certifyEk,
  der,
  dnsName,
  EK_EXTENSIONS,
  extension,
  extKeyUsage,
  makeCa,
  nameConstraints,
  named,
  sequence,
  subjectAltName,
  utf8,
} from './certificates.ts'

const root = makeCa(named('Root'))
const certificate = certifyEk(root, pairOf('P-256', 'ek').publicKey)

/** The same certificate with the length of its signed part in a byte more than it needs, which OpenSSL takes. */
function longer(): Buffer {
  const [head, length] = [certificate.subarray(4, 8), certificate.subarray(8)]
  expect([head[0], head[1]]).toEqual([0x30, 0x82])
  return der(0x30, Buffer.of(0x30, 0x83, 0), head.subarray(2), length)
}
/** With an extension that brings it to so many bytes. */
function ofSize(size: number): Buffer {
  const made = (filling: number) =>
    certifyEk(root, pairOf('P-256', 'ek').publicKey, {
      extensions: [...EK_EXTENSIONS, extension('1.2.3.4', false, Buffer.alloc(filling))],
    })
  return made(size - made(size - 500).length + size - 500)
}

describe('a certificate', () => {
  test('is read up to its limit, padding included', () => {
    const padded = (size: number) => Buffer.concat([certificate, Buffer.alloc(size - certificate.length)])
    expect(outcome(readCertificate(padded(8192)))).toBe('OK')
    expect(outcome(readCertificate(padded(8193)))).toBe('LIMIT')
    expect(unwrap(readCertificate(padded(8192))).der).toEqual(certificate)
  })
  test('is told from what is none up to the same limit', () => {
    const large = ofSize(9000)
    expect(isCertificate(large)).toBe(false)
    expect(isCertificate(ofSize(4000))).toBe(true)
  })
  test('in a form that is no DER is none, whatever OpenSSL takes', () => {
    expect(outcome(readCertificate(longer()))).toBe('BAD_ENCODING')
    expect(isCertificate(longer())).toBe(false)
  })
  test.each(['99999999999999Z', '20411301000000Z', '20410101000060Z', '204101010000.5Z', '2041010100+0100'])(
    'has times of the forms that RFC 5280 knows, of which %s is none',
    text => {
      const until = new Date('2060-01-01T00:00:00Z')
      const good = certifyEk(root, pairOf('P-256', 'ek').publicKey, { notAfter: until })
      const odd = Buffer.from(good.toString('latin1').replace('20600101000000Z', text), 'latin1')
      expect([good, odd].map(der => outcome(readCertificate(der)))).toEqual(['OK', 'BAD_ENCODING'])
    },
  )
  test('has the values of its extensions', () => {
    const read = unwrap(readCertificate(certificate))
    expect(valueIn(read, known.basicConstraints)?.cA).toBe(false)
    expect(valueIn(read, known.nameConstraints)).toBeUndefined()
    expect(read.sha256).toBe(read.x509.fingerprint256.replaceAll(':', '').toLowerCase())
  })
  test('has no value where an extension is not what it is taken for', () => {
    const odd = extension('2.5.29.17', true, Buffer.of(0x30, 0x02, 0x05, 0x00))
    expect(outcome(readCertificate(certifyEk(root, pairOf('P-256', 'ek').publicKey, { extensions: [odd] })))).toBe('BAD_ENCODING')
  })
})

describe('how much is read of a certificate that anybody may have made', () => {
  const [noCa = Buffer.alloc(0)] = EK_EXTENSIONS
  const read = (...extensions: Buffer[]) =>
    outcome(readCertificate(certifyEk(root, pairOf('P-256', 'ek').publicKey, { extensions: [noCa, ...extensions] })))
  const hosts = (count: number) => Array.from({ length: count }, () => dnsName('a'))
  const purposes = (count: number) => extKeyUsage(...Array.from({ length: count }, () => '1.2.3'))

  test('so many names, in all of its extensions together', () => {
    expect(read(subjectAltName(true, ...hosts(32)))).toBe('OK')
    expect(read(subjectAltName(true, ...hosts(33)))).toBe('LIMIT')
    expect(read(subjectAltName(true, ...hosts(16)), nameConstraints(hosts(15), []))).toBe('OK') // the subtrees have a tag of their own
    expect(read(subjectAltName(true, ...hosts(16)), nameConstraints(hosts(16), []))).toBe('LIMIT')
  })
  test('in whatever form they are', () => {
    const endless = Buffer.concat([Buffer.of(0x30, 0x80), ...hosts(16), Buffer.alloc(2)])
    expect(read(extension('2.5.29.17', true, endless))).toBe('OK')
    const more = Buffer.concat([Buffer.of(0x30, 0x80), ...hosts(32), Buffer.alloc(2)])
    expect(read(extension('2.5.29.17', true, more))).toBe('LIMIT')
  })
  test('so many elements in what is read of extensions', () => {
    expect(read(purposes(508))).toBe('OK') // beside two SEQUENCEs and the BOOLEAN of basicConstraints
    expect(read(purposes(512))).toBe('LIMIT')
    expect(read(extension('1.2.3', false, Buffer.alloc(3000, 5)))).toBe('OK')
  })
  test('so many elements beside', () => {
    const several = (count: number) => Array.from({ length: count }, (_, at) => extension(`1.2.${at}`, false, Buffer.of(5, 0)))
    expect(read(...several(150))).toBe('OK')
    expect(read(...several(170))).toBe('LIMIT')
  })
})

describe('what a signature is over a digest of', () => {
  const PSS = '1.2.840.113549.1.1.10'
  test.each([
    ['1.2.840.113549.1.1.11', 'sha256'],
    ['1.2.840.10045.4.1', 'sha1'],
    ['1.2.840.113549.1.1.14', undefined], // SHA-224
    [PSS, 'sha1'], // which is what leaving out says (RFC 4055 3.1)
  ])('%s: %s', (algorithmId, hash) => expect(signatureHashOf(new AlgorithmIdentifier({ algorithmId }))).toBe(hash))
  test('nothing, where the parameters cannot be read', () =>
    expect(signatureHashOf(new AlgorithmIdentifier({ algorithmId: PSS, algorithmParams: new Null() }))).toBeUndefined())
})

describe('the specification that a TPM claims', () => {
  const number = (...bytes: number[]) => der(0x02, Buffer.of(...bytes))
  const read = (bytes: Buffer) => readTpmSpecification(new Uint8Array(bytes).buffer)
  const huge = Array<number>(9).fill(0x7f)
  test('is a family, a level and a revision', () =>
    expect(read(sequence(utf8('2.0'), number(0), number(1, 0x3b)))).toEqual({ family: '2.0', level: 0, revision: 315 }))
  test.each([
    ['a level beyond all numbers', sequence(utf8('2.0'), number(...huge), number(0))],
    ['a revision beyond all numbers', sequence(utf8('2.0'), number(0), number(...huge))],
    ['no numbers', sequence(utf8('2.0'))],
    ['another type', utf8('2.0')],
    ['no bytes', Buffer.alloc(0)],
  ])('is not there with %s', (_, bytes) => expect(read(bytes)).toBeUndefined())
})
