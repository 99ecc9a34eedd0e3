import { encode } from 'cborg'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type ExpectedDocument, formats, type ReferenceSet } from '#attestation'
import { verifyNitroDocument } from '../../attestation/formats/aws_nitro.ts'
import { readCbor } from '../../attestation/formats/cbor.ts'
import { outcome, unwrap } from './attester.ts'
import { basicConstraints, brainpool, certifyEk, keyUsage, makeCa, makeList, NOW, named } from './certificates.ts'
import { BINDING, type Document, nitroDocument, pcr, root } from './nitro_maker.ts'

const released: ReferenceSet = {
  name: 'released',
  pcrs: new Map([['sha384', new Map([0, 1, 2].map(index => [index, [pcr(index)]]))]]),
}
const expected: ExpectedDocument = {
  binding: BINDING,
  at: NOW,
  anchors: [root.certificate],
  references: [released],
  maxAgeSeconds: 60,
  allowDebug: false,
}
const judge = async (document: Document = {}, changes: Partial<ExpectedDocument> = {}) =>
  outcome(await verifyNitroDocument(nitroDocument(document), { ...expected, ...changes }))

const zeros = Buffer.alloc(48)
const withZero = new Map([0, 1, 2, 3, 4, 8].map(index => [index, Buffer.concat([Buffer.of(0), pcr(index).subarray(1)])]))
const debug = new Map([0, 1, 2].map(index => [index, zeros]))
const members = (changes: Record<string, unknown>): Document => ({ members: changes })
/** `{"nonce": ...}` once more behind the last member of the map */
const twice = (payload: Buffer) => {
  const more = Buffer.concat([
    Buffer.of((payload[0] ?? 0) + 1),
    payload.subarray(1),
    Buffer.from(encode('nonce')),
    Buffer.from(encode(BINDING)),
  ])
  return more
}
const GOOD_HEAD = Buffer.from(encode(new Map([[1, -35]])))
const envelope = (...parts: unknown[]): Document => ({ whole: () => Buffer.from(encode(parts)) })
const indefinite = (payload: Buffer) => Buffer.concat([Buffer.of(0xbf), payload.subarray(1), Buffer.of(0xff)])
const aDay = 86_400_000

const rows: readonly (readonly [string, string, Document, Partial<ExpectedDocument>?])[] = [
  ['a good document', 'OK', {}],
  ['with what the enclave adds', 'OK', members({ public_key: Buffer.from('key'), user_data: Buffer.from('data') })],
  ['optional members left out', 'OK', members({ public_key: undefined, user_data: undefined })],
  // the envelope
  ['nothing', 'BAD_ENCODING', { whole: () => Buffer.alloc(0) }],
  ['more than is read', 'LIMIT', { whole: document => Buffer.concat([document, Buffer.alloc(16_384)]) }],
  ['bytes after it', 'TRAILING_DATA', { whole: document => Buffer.concat([document, Buffer.of(0)]) }],
  ['a tag before it', 'BAD_ENCODING', { whole: document => Buffer.concat([Buffer.of(0xd2), document]) }],
  ['three parts', 'BAD_ENCODING', { whole: () => Buffer.from(encode([Buffer.of(0xa0), new Map(), Buffer.of(0xa0)])) }],
  [
    'an array of indefinite length',
    'BAD_ENCODING',
    { whole: document => Buffer.concat([Buffer.of(0x9f), document.subarray(1), Buffer.of(0xff)]) },
  ],
  ['a nest', 'LIMIT', { whole: () => Buffer.concat([Buffer.alloc(10_000, 0x81), Buffer.of(0)]) }],
  ['five parts', 'BAD_ENCODING', envelope(GOOD_HEAD, new Map(), Buffer.of(0xa0), Buffer.alloc(96), Buffer.alloc(96))],
  ['a head of text', 'BAD_ENCODING', envelope('head', new Map(), Buffer.of(0xa0), Buffer.alloc(96))],
  ['an open head that is no map', 'BAD_ENCODING', envelope(GOOD_HEAD, [], Buffer.of(0xa0), Buffer.alloc(96))],
  ['its payload elsewhere', 'BAD_ENCODING', envelope(GOOD_HEAD, new Map(), null, Buffer.alloc(96))],
  ['a signature of text', 'BAD_ENCODING', envelope(GOOD_HEAD, new Map(), Buffer.of(0xa0), 'signature')],
  ['a nest for a head', 'LIMIT', { head: Buffer.alloc(10, 0x81) }],
  ['a nest for a payload', 'LIMIT', { payload: () => Buffer.alloc(10, 0x81) }],
  ['ES256', 'UNSUPPORTED_ALG', { head: new Map([[1, -7]]) }],
  ['no algorithm', 'UNSUPPORTED_ALG', { head: new Map() }],
  [
    'more in the head',
    'UNSUPPORTED_ALG',
    {
      head: new Map([
        [1, -35],
        [4, -1],
      ]),
    },
  ],
  ['the algorithm unprotected', 'UNSUPPORTED_ALG', { head: new Map(), open: new Map([[1, -35]]) }],
  ['the algorithm in both heads', 'UNSUPPORTED_ALG', { open: new Map([[1, -35]]) }],
  ['a head that is no map', 'BAD_ENCODING', { head: Buffer.of(0x01) }],
  ['an empty head', 'BAD_ENCODING', { head: Buffer.alloc(0) }],
  // the payload
  ['a payload of indefinite length', 'BAD_ENCODING', { payload: indefinite }],
  ['a member twice', 'BAD_ENCODING', { payload: twice }],
  ['a member that is not known', 'BAD_ENCODING', members({ more: 1 })],
  [
    'a member whose name is a number',
    'BAD_ENCODING',
    { payload: payload => Buffer.concat([Buffer.of((payload[0] ?? 0) + 1), Buffer.of(1, 1), payload.subarray(1)]) },
  ],
  ['no map', 'BAD_ENCODING', { payload: () => Buffer.of(0x80) }],
  ['another digest', 'UNSUPPORTED_ALG', members({ digest: 'SHA256' })],
  ['no module', 'BAD_ENCODING', members({ module_id: undefined })],
  ['a module with a slash', 'BAD_ENCODING', members({ module_id: 'i-1/../2' })],
  ['no time', 'BAD_ENCODING', members({ timestamp: undefined })],
  ['a time that is no integer', 'BAD_ENCODING', members({ timestamp: 1.5 })],
  ['a time of zero', 'BAD_ENCODING', members({ timestamp: 0 })],
  ['a time before 1970', 'BAD_ENCODING', members({ timestamp: -1 })],
  ['a time beyond all calendars', 'BAD_ENCODING', members({ timestamp: 8_640_000_000_000_001 })],
  ['the last moment of the calendar', 'STALE_DOCUMENT', members({ timestamp: 8_640_000_000_000_000 })],
  ['PCR -1', 'BAD_ENCODING', members({ pcrs: new Map([[-1, pcr(0)]]) })],
  ['as much user data as is read', 'OK', members({ user_data: Buffer.alloc(1024) })],
  ['a bundle of which one is text', 'BAD_ENCODING', members({ cabundle: [root.certificate, 'x'] })],
  ['eight certificates, none of them the one', 'BAD_CHAIN', { bundle: Array.from({ length: 8 }, () => root) }],
  ['no PCRs', 'BAD_ENCODING', members({ pcrs: new Map() })],
  ['a PCR of 32 bytes', 'BAD_ENCODING', members({ pcrs: new Map([[0, Buffer.alloc(32, 1)]]) })],
  ['a PCR by name', 'BAD_ENCODING', members({ pcrs: new Map([['0', pcr(0)]]) })],
  ['PCR 32', 'BAD_ENCODING', members({ pcrs: new Map([[32, pcr(0)]]) })],
  ['no bundle', 'BAD_ENCODING', members({ cabundle: [] })],
  ['a bundle of text', 'BAD_ENCODING', members({ cabundle: ['x'] })],
  ['nine certificates', 'BAD_ENCODING', { bundle: Array.from({ length: 9 }, () => root) }],
  ['a certificate of text', 'BAD_ENCODING', members({ certificate: 'x' })],
  ['a certificate that is none', 'BAD_ENCODING', members({ certificate: Buffer.of(1) })],
  ['user data of text', 'BAD_ENCODING', members({ user_data: 'x' })],
  ['much user data', 'BAD_ENCODING', members({ user_data: Buffer.alloc(1025) })],
  // which kind
  ['a document of a NitroTPM', 'KIND', members({ pcrs: undefined, nitrotpm_pcrs: new Map([[4, pcr(4)]]) })],
  ['of both kinds', 'KIND', members({ nitrotpm_pcrs: new Map([[4, pcr(4)]]) })],
  // the path
  [
    'no root of ours',
    'BAD_CHAIN',
    {},
    { anchors: [makeCa(named('aws.nitro-enclaves', 'Amazon'), { kind: 'P-384', label: 'other' }).certificate] },
  ],
  ['a CA left out', 'BAD_CHAIN', { bundle: [root] }],
  ['a leaf that is over', 'CERT_EXPIRED', { leaf: { notAfter: new Date(NOW.getTime() - aDay) } }],
  ['a leaf of tomorrow', 'CERT_EXPIRED', { leaf: { notBefore: new Date(NOW.getTime() + aDay) } }],
  ['a leaf that certifies', 'BAD_CHAIN', { leaf: { extensions: [basicConstraints(true), keyUsage(0x84)] } }],
  ['a leaf that does not say whether it certifies', 'OK', { leaf: { extensions: [keyUsage(0x80)] } }],
  ['a leaf that encrypts', 'BAD_CHAIN', { leaf: { extensions: [basicConstraints(false), keyUsage(0x20)] } }],
  ['a leaf that does not say what for', 'BAD_CHAIN', { leaf: { extensions: [basicConstraints(false)] } }],
  ['a leaf on a curve that is not ours', 'UNSUPPORTED_ALG', { leaf: { spki: brainpool() } }],
  ['a leaf on P-256', 'UNSUPPORTED_ALG', { leaf: { key: 'P-256' } }],
  [
    'a revoked CA',
    'REVOKED',
    {},
    { revocation: 'soft', lists: [makeList(root, { revoked: [{ serial: Buffer.of(1) }], hash: 'sha384' })] },
  ],
  // the signature
  [
    'another signature',
    'SIGNATURE',
    { signature: signature => Buffer.from(signature.map((byte, at) => (at === 50 ? byte ^ 1 : byte))) },
  ],
  ['a signature of zeros', 'SIGNATURE', { signature: () => Buffer.alloc(96) }],
  ['a signature in DER', 'BAD_ENCODING', { signature: signature => Buffer.concat([Buffer.of(0x30, 0x60), signature]) }],
  // the question
  ['no nonce', 'NONCE_MISMATCH', members({ nonce: undefined })],
  ['another nonce', 'NONCE_MISMATCH', members({ nonce: Buffer.alloc(32) })],
  ['less of it', 'NONCE_MISMATCH', members({ nonce: BINDING.subarray(1) })],
  ['the nonce as user data', 'NONCE_MISMATCH', members({ nonce: undefined, user_data: BINDING })],
  // its age
  ['two minutes old, a minute more than wanted', 'STALE_DOCUMENT', members({ timestamp: NOW.getTime() - 120_001 })],
  ['as old as allowed', 'OK', members({ timestamp: NOW.getTime() - 120_000 })],
  ['of the next minute', 'OK', members({ timestamp: NOW.getTime() + 60_000 })],
  ['from the future', 'STALE_DOCUMENT', members({ timestamp: NOW.getTime() + 60_001 })],
  // who may look into it
  ['debug mode', 'DEBUG', members({ pcrs: debug })],
  ['a zero among the bytes of a PCR, which is no debug mode', 'PCR_POLICY', members({ pcrs: withZero })],
  [
    'one PCR of the image is zero',
    'DEBUG',
    members({
      pcrs: new Map([
        [0, pcr(0)],
        [1, pcr(1)],
        [2, zeros],
      ]),
    }),
  ],
  [
    'a PCR of the image is not there',
    'DEBUG',
    members({
      pcrs: new Map([
        [0, pcr(0)],
        [1, pcr(1)],
      ]),
    }),
  ],
  [
    'debug mode, allowed',
    'OK',
    members({ pcrs: debug }),
    { allowDebug: true, references: [{ name: 'any', pcrs: new Map([['sha384', new Map([[0, [zeros]]])]]) }] },
  ],
  // what it is
  [
    'another image',
    'PCR_POLICY',
    members({
      pcrs: new Map([
        [0, pcr(7)],
        [1, pcr(1)],
        [2, pcr(2)],
      ]),
    }),
  ],
  [
    'reference values for a PCR that it lacks',
    'PCR_NOT_QUOTED',
    {},
    { references: [{ name: 'signed', pcrs: new Map([['sha384', new Map([[7, [pcr(7)]]])]]) }] },
  ],
  [
    'reference values of another bank',
    'PCR_NOT_QUOTED',
    {},
    { references: [{ name: 'tpm', pcrs: new Map([['sha256', new Map([[0, [Buffer.alloc(32, 1)]]])]]) }] },
  ],
  ['no reference values', 'PCR_POLICY', {}, { references: [] }],
]

describe('documents of AWS Nitro Enclaves', () => {
  for (const [what, code, document, changes] of rows)
    test(`${what}: ${code}`, async () => expect(await judge(document, changes)).toBe(code))

  test('say whose they are and what runs', async () => {
    const document = nitroDocument({ members: { public_key: Buffer.from('key'), user_data: Buffer.from('data') } })
    expect(unwrap(await verifyNitroDocument(document, expected))).toEqual({
      machine: 'i-0123456789abcdef0-enc0123456789abcdef',
      madeAt: new Date(NOW.getTime() - 1000),
      debug: false,
      pcrs: new Map([['sha384', new Map([0, 1, 2, 3, 4, 8].map(index => [index, pcr(index)]))]]),
      references: ['released'],
      publicKey: Buffer.from('key'),
      userData: Buffer.from('data'),
    })
  })

  test('are signed whole: no byte can be another one', async () => {
    const document = nitroDocument()
    const check = async (at: number, bit: number) => {
      const changed = Buffer.from(document)
      changed[at] = (changed[at] ?? 0) ^ (1 << bit)
      // the certificates in it are under signatures of their own
      expect(outcome(await verifyNitroDocument(changed, expected))).not.toBe('OK')
    }
    await fc.assert(fc.asyncProperty(fc.nat(document.length - 1), fc.nat(7), check), { numRuns: 150 })
  })

  test('give a verdict whatever they are', async () => {
    const any = async (bytes: Uint8Array) => void (await verifyNitroDocument(bytes, expected))
    await fc.assert(fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), any))
  })

  test('the certificate of a TPM signs none', async () => {
    const ek = certifyEk(root, (await import('./attester.ts')).pairOf('P-384', 'nitro leaf').publicKey, { hash: 'sha384' })
    expect(await judge({ members: { certificate: ek } })).toBe('BAD_CHAIN')
  })
})

describe('the registry of formats', () => {
  test('has every format by its name, and what judges its documents', () => {
    expect([...formats.keys()]).toEqual(['tpm2-quote', 'aws-nitro'])
    for (const [name, format] of formats) expect([format.name, format.title]).toEqual([name, expect.any(String)])
    expect(formats.get('aws-nitro')?.document).toBe(verifyNitroDocument)
  })
})

describe('CBOR in its one form', () => {
  const limits = { bytes: 100, depth: 3 }
  const read = (hex: string) => outcome(readCbor(Buffer.from(hex, 'hex'), limits))
  test.each([
    ['00', 'OK'],
    ['1817', 'BAD_ENCODING'], // 23 in two bytes
    ['190017', 'BAD_ENCODING'],
    ['5800', 'BAD_ENCODING'], // a length in two bytes
    ['a201000100', 'BAD_ENCODING'], // a key twice
    ['9fff', 'BAD_ENCODING'],
    ['5f4100ff', 'BAD_ENCODING'],
    ['f7', 'BAD_ENCODING'],
    ['f97e00', 'BAD_ENCODING'],
    ['f97c00', 'BAD_ENCODING'],
    ['c000', 'BAD_ENCODING'],
    ['ff', 'BAD_ENCODING'],
    ['61ff', 'BAD_ENCODING'], // text that is none
    ['0000', 'TRAILING_DATA'],
    ['81818100', 'OK'],
    ['8181818100', 'LIMIT'],
    ['a100a100a100a10000', 'LIMIT'],
    ['8380808180', 'OK'],
    ['a20000018180', 'OK'],
    ['a2000001818180', 'LIMIT'],
    [`5862${'00'.repeat(98)}`, 'OK'],
    ['8381808080', 'OK'],
    ['9affffffff00', 'BAD_ENCODING'],
    ['00'.repeat(101), 'LIMIT'],
  ])('%s: %s', (hex, code) => expect(read(hex)).toBe(code))
})
