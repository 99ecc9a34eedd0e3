import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { admitEk, type EkRules, nameOf, qualifiedNameOf, verifyEk } from '#attestation'
import { type Area, outcome, pairOf, unwrap } from './attester.ts'
import {
  authorityKey,
  basicConstraints,
  brainpool,
  type Ca,
  CN,
  certifyEk,
  der,
  directoryName,
  dnsName,
  EK_EXTENSIONS,
  EK_PURPOSE,
  EMPTY,
  extension,
  extKeyUsage,
  type Fields,
  INFINEON,
  keyUsage,
  makeCa,
  NOW,
  name,
  named,
  oid,
  san,
  sequence,
  subjectAltName,
  tpmName,
  utf8,
} from './certificates.ts'
import { ekAreaOf, highRange } from './endorsed.ts'

const infineon = makeCa(named('Infineon OPTIGA(TM) RSA Root CA', 'Infineon Technologies AG'))
const nobody = makeCa(named('Root', 'Some Operator'))
const swtpm = makeCa(name([[CN, 'swtpm-localca']]))
const issuing = makeCa(named('Infineon OPTIGA(TM) RSA Manufacturing CA', 'Infineon Technologies AG'), {}, infineon)
const foreign = makeCa(named('STM TPM EK Intermediate CA', 'STMicroelectronics NV'), {}, nobody)
const lookalike = makeCa(named('STMicroelectronics', 'Some Operator'))
const ek = pairOf('rsa-2048', 'ek').publicKey
const SWTPM = ['id:00001014', 'swtpm', 'id:20240125'] as const

type Change = {
  readonly ca?: Ca
  readonly fields?: Partial<Fields>
  readonly area?: Partial<Area>
  readonly rules?: Partial<EkRules>
  /** in place of the certificate, or what is added to it */
  readonly certificate?: Buffer
  readonly tail?: Buffer
  readonly intermediates?: readonly Buffer[]
}

async function judge({
  ca = infineon,
  fields = {},
  area = {},
  rules = {},
  certificate,
  tail = Buffer.alloc(0),
  intermediates,
}: Change): Promise<string> {
  const bytes = Buffer.concat([certificate ?? certifyEk(ca, ek, fields), tail])
  const evidence = { certificate: bytes, public: ekAreaOf(ek, area), ...(intermediates && { intermediates }) }
  return outcome(await verifyEk(evidence, { anchors: [ca.certificate], at: NOW, allowTestTpms: false, ...rules }))
}

const [noCa = EMPTY, usage = EMPTY, purpose = EMPTY, alternative = EMPTY] = EK_EXTENSIONS
const withSan = (...names: Buffer[]) => ({ fields: { extensions: [noCa, usage, purpose, subjectAltName(true, ...names)] } })
const from = (tpm: readonly [string, string, string]) => ({ fields: { extensions: [noCa, usage, purpose, san(tpm)] } })
const extensions = (...list: Buffer[]) => ({ fields: { extensions: list } })
const strict = { rules: { strictProfile: true } }
const good = unwrap(admitEk(ekAreaOf(ek)))

/** tcg-at-tpmVersion, -Manufacturer, -Model */
const ATTRIBUTES = ['2.23.133.2.3', '2.23.133.2.1', '2.23.133.2.2']

const cases: readonly (readonly [string, string, Change])[] = [
  ['a good certificate', 'OK', {}],
  ['padded with 0xff', 'OK', { tail: Buffer.alloc(431, 0xff) }],
  ['padded with 0x00', 'OK', { tail: Buffer.alloc(3) }],
  ['padded with both', 'TRAILING_DATA', { tail: Buffer.of(0, 0xff) }],
  ['followed by anything else', 'TRAILING_DATA', { tail: Buffer.of(0x11) }],
  ['longer than read', 'LIMIT', { tail: Buffer.alloc(8192) }],
  ['none', 'NO_EK_CERT', { certificate: Buffer.alloc(0) }],
  ['no DER', 'BAD_ENCODING', { certificate: Buffer.of(1, 2, 3) }],
  ['indefinite length', 'BAD_ENCODING', { certificate: Buffer.of(0x30, 0x80, 0, 0) }],
  ['of another key', 'EK_MISMATCH', { certificate: certifyEk(infineon, pairOf('rsa-2048', 'other').publicKey) }],
  ['of a key of another kind', 'EK_MISMATCH', { certificate: certifyEk(infineon, pairOf('P-256', 'ek').publicKey) }],
  ['of a key on a curve that is not ours', 'UNSUPPORTED_ALG', { fields: { spki: brainpool() } }],
  ['v1', 'EK_CERTIFICATE', { fields: { version: 0 } }],
  ['serial number zero', 'EK_CERTIFICATE', { fields: { serial: Buffer.of(0) } }],
  ['negative serial number', 'EK_CERTIFICATE', { fields: { serial: Buffer.of(0x80) } }],
  ['empty issuer', 'EK_CERTIFICATE', { fields: { issuer: EMPTY } }],
  ['no purpose', 'EKU', extensions(noCa, usage, alternative)],
  ['purpose of a server', 'EKU', extensions(noCa, usage, alternative, extKeyUsage('1.3.6.1.5.5.7.3.1'))],
  ['any purpose', 'EKU', extensions(noCa, usage, alternative, extKeyUsage('2.5.29.37.0'))],
  ['another purpose beside', 'OK', extensions(noCa, usage, alternative, extKeyUsage('1.3.6.1.5.5.7.3.1', EK_PURPOSE))],
  ['a CA', 'EK_CERTIFICATE', extensions(basicConstraints(true), usage, purpose, alternative)],
  ['no basicConstraints', 'EK_CERTIFICATE', extensions(usage, purpose, alternative)],
  ['a key that signs', 'EK_CERTIFICATE', extensions(noCa, keyUsage(0x80), purpose, alternative)],
  ['a key that certifies', 'EK_CERTIFICATE', extensions(noCa, keyUsage(0x24), purpose, alternative)],
  ['no keyUsage', 'OK', extensions(noCa, purpose, alternative)],
  ['keyAgreement for RSA', 'OK', extensions(noCa, keyUsage(0x08), purpose, alternative)],
  ['no key identifier, strictly', 'EK_CERTIFICATE', strict],
  ['all of the profile', 'OK', { ...strict, ...extensions(...EK_EXTENSIONS, authorityKey(Buffer.of(1))) }],
  [
    'keyAgreement for RSA, strictly',
    'EK_CERTIFICATE',
    { ...strict, ...extensions(noCa, keyUsage(0x08), purpose, alternative, authorityKey(Buffer.of(1))) },
  ],
  ['no alternative name', 'EK_CERTIFICATE', extensions(noCa, usage, purpose)],
  ['a host for a name', 'EK_CERTIFICATE', withSan(dnsName('tpm.example'))],
  ['a host beside', 'OK', withSan(dnsName('tpm.example'), directoryName(tpmName(INFINEON)))],
  ['two TPMs', 'EK_CERTIFICATE', withSan(directoryName(tpmName(INFINEON)), directoryName(tpmName(INFINEON)))],
  ['maker, model and version in one RDN', 'OK', withSan(directoryName(tpmName(INFINEON, true)))],
  ['no model', 'EK_CERTIFICATE', withSan(directoryName(name([['2.23.133.2.1', 'id:49465800']], [['2.23.133.2.3', 'id:1']])))],
  [
    'two models',
    'EK_CERTIFICATE',
    withSan(
      directoryName(name([['2.23.133.2.2', 'one']], ...INFINEON.map((value, at) => [[`2.23.133.2.${at + 1}`, value]] as const))),
    ),
  ],
  ['a maker in words', 'EK_CERTIFICATE', from(['Infineon', 'SLB9672', 'id:0F0A'])],
  ['empty subject, name not critical', 'EK_CERTIFICATE', extensions(noCa, usage, purpose, san(INFINEON, false))],
  [
    'a subject, name not critical',
    'OK',
    { fields: { subject: named('TPM'), extensions: [noCa, usage, purpose, san(INFINEON, false)] } },
  ],
  ['another maker under this root', 'MAKER_MISMATCH', from(['id:53544D20', 'ST33', 'id:1'])],
  ['any maker under a root of nobody', 'OK', { ca: nobody, ...from(['id:53544D20', 'ST33', 'id:1']) }],
  ['a maker in no registry', 'MAKER_MISMATCH', { ca: nobody, ...from(['id:41424344', 'X', 'id:1']) }],
  [
    'a maker in no registry, allowed',
    'OK',
    { ca: nobody, ...from(['id:41424344', 'X', 'id:1']), rules: { allowedMakers: ['id:41424344'] } },
  ],
  ['a maker that is not allowed', 'MAKER_MISMATCH', { rules: { allowedMakers: ['id:53544D20'] } }],
  ['a maker that is, in other letters', 'OK', { rules: { allowedMakers: ['ID:49465800'] } }],
  ['swtpm under its CA', 'MAKER_MISMATCH', { ca: swtpm, ...from(SWTPM) }],
  ['swtpm, allowed', 'OK', { ca: swtpm, ...from(SWTPM), rules: { allowTestTpms: true } }],
  ['swtpm that says it is hardware', 'MAKER_MISMATCH', { ca: swtpm, ...from(INFINEON) }],
  ['swtpm under another CA', 'MAKER_MISMATCH', { ca: nobody, ...from(['id:49465800', 'swtpm', 'id:1']) }],
  ['a simulator', 'MAKER_MISMATCH', { ca: nobody, ...from(['id:FFFFF1D0', 'X', 'id:1']) }],
  [
    'an allowed maker is no allowance for software',
    'MAKER_MISMATCH',
    { ca: swtpm, ...from(SWTPM), rules: { allowedMakers: ['id:00001014'] } },
  ],
  ['an RSAES-OAEP key with a parameter, as old TPMs have it', 'OK', { fields: { spki: oaepKey(Buffer.from('TCPA')) } }],
  ['an RSAES-OAEP key that is none', 'UNSUPPORTED_ALG', { fields: { spki: oaepKey(Buffer.alloc(0), Buffer.of(1)) } }],
  ['until 9999-12-31', 'OK', { fields: { notAfter: new Date('9999-12-31T23:59:59Z') } }],
  [
    'maker, model and version in one RDN, in another order than DER has',
    'OK',
    withSan(
      directoryName(name([INFINEON[2], INFINEON[0], INFINEON[1]].map((value, at) => [ATTRIBUTES[at] ?? '', value] as const))),
    ),
  ],
  ['an attribute certificate of the platform', 'BAD_ENCODING', { certificate: attributeCertificate() }],
  ['no anchor', 'BAD_CHAIN', { rules: { anchors: [] } }],
  ['a kind that is not wanted', 'EK_TEMPLATE', { rules: { ekTypes: ['p-256', 'p-384'] } }],
  ['a kind that is', 'OK', { rules: { ekTypes: ['rsa-2048'] } }],
  ['off the template', 'EK_TEMPLATE', { area: { authPolicy: Buffer.alloc(32) } }],
  ['a prime in common with another TPM', 'WEAK_KEY', { rules: { enrolledModuli: [withItsPrime()] } }],
  ['signed over a SHA-1 digest', 'WEAK_HASH', { fields: { hash: 'sha1' } }],
  [
    'signed so, by a maker who may',
    'OK',
    { fields: { hash: 'sha1' }, rules: { sha1Makers: ['id:53544D20', 'id:4946580a', 'id:49465800'] } },
  ],
  ['signed so, by a maker who may, in other letters', 'OK', { fields: { hash: 'sha1' }, rules: { sha1Makers: ['ID:49465800'] } }],
  ['signed so, where another maker may', 'WEAK_HASH', { fields: { hash: 'sha1' }, rules: { sha1Makers: ['id:53544D20'] } }],
  ['a subject that is called as another maker', 'OK', { fields: { subject: named('TPM', 'STMicroelectronics NV') } }],
  ['a CA of nobody with the name of a maker beside', 'OK', { ca: lookalike }],
  [
    'a CA between that came along',
    'OK',
    { ca: issuing, rules: { anchors: [infineon.certificate] }, intermediates: [issuing.certificate] },
  ],
  ['a CA between that did not', 'BAD_CHAIN', { ca: issuing, rules: { anchors: [infineon.certificate] } }],
  [
    'a CA between of another maker',
    'MAKER_MISMATCH',
    { ca: foreign, rules: { anchors: [nobody.certificate] }, intermediates: [foreign.certificate] },
  ],
  ['its own modulus, enrolled before', 'OK', { rules: { enrolledModuli: [modulus(), modulus()] } }],
]

/** id-RSAES-OAEP with a label in its parameters (RFC 4055 4.1), around a PKCS #1 key. */
function oaepKey(label: Buffer, key: Uint8Array = ek.export({ type: 'pkcs1', format: 'der' })): Buffer {
  const source = der(0xa2, sequence(oid('1.2.840.113549.1.1.9'), der(0x04, label)))
  return sequence(sequence(oid('1.2.840.113549.1.1.7'), sequence(source)), der(0x03, Buffer.of(0), key))
}

/** AttributeCertificate (RFC 5755 4.1): version, holder, issuer and so on, but no key. */
function attributeCertificate(): Buffer {
  const algorithm = sequence(oid('1.2.840.10045.4.3.2'))
  const info = sequence(der(0x02, Buffer.of(1)), der(0xa0, sequence()), der(0xa0, sequence()), algorithm, der(0x02, Buffer.of(7)))
  return sequence(info, algorithm, der(0x03, Buffer.alloc(65)))
}

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')

function modulus(): Buffer {
  return good.public.kind === 'rsa' ? good.public.modulus : Buffer.alloc(0)
}

/** Three times a prime of the modulus. */
function withItsPrime(): Buffer {
  const { p } = pairOf('rsa-2048', 'ek').privateKey.export({ format: 'jwk' })
  const prime = BigInt(`0x${Buffer.from(p ?? '', 'base64url').toString('hex')}`)
  return Buffer.from((3n * prime).toString(16).padStart(258, '0'), 'hex')
}

describe('an endorsement key and its certificate', () => {
  test.each(cases)('%s: %s', async (_, expected, change) => expect(await judge(change)).toBe(expected))

  test('what is known of an accepted one', async () => {
    const specification = sequence(utf8('2.0'), Buffer.of(2, 1, 0), Buffer.of(2, 2, 0, 138)) // family, level, revision
    const attributes = sequence(sequence(oid('2.23.133.2.16'), der(0x31, specification)))
    const bytes = certifyEk(infineon, ek, { extensions: [...EK_EXTENSIONS, extension('2.5.29.9', false, attributes)] })
    const verified = unwrap(
      await verifyEk(
        { certificate: Buffer.concat([bytes, Buffer.alloc(10, 0xff)]), public: ekAreaOf(ek) },
        { anchors: [infineon.certificate], at: NOW, allowTestTpms: false },
      ),
    )
    expect(verified).toMatchObject({
      id: good.id,
      kind: 'rsa-2048',
      manufacturer: 'id:49465800',
      model: 'SLB9672',
      version: 'id:0F0A',
      specification: { family: '2.0', level: 0, revision: 138 },
      notAfter: new Date('2040-01-01T00:00:00Z'),
      certificateSha256: sha256(bytes),
      anchorSha256: sha256(infineon.certificate),
      revocation: 'unchecked',
      until: new Date('2040-01-01T00:00:00Z'),
    })
    expect(verified.key.public).toEqual(good.public)
  })

  test('primes are compared with those of the fleet for what leads to an anchor alone', async () => {
    const fleet = function* (): Generator<Uint8Array> {
      yield expect.unreachable('somebody unknown had all keys looked at')
    }
    const evidence = { certificate: certifyEk(nobody, ek), public: ekAreaOf(ek) }
    const rules = { anchors: [infineon.certificate], at: NOW, allowTestTpms: false, enrolledModuli: fleet() }
    expect(outcome(await verifyEk(evidence, rules))).toBe('BAD_CHAIN')
  })

  test('one of an elliptic curve, which has no primes, and that says nothing of its specification', async () => {
    const { publicKey } = pairOf('P-256', 'ek')
    const certificate = certifyEk(issuing, publicKey)
    const evidence = { certificate, public: ekAreaOf(publicKey), intermediates: [issuing.certificate] }
    const rules = { anchors: [infineon.certificate], at: NOW, allowTestTpms: false, enrolledModuli: [modulus(), withItsPrime()] }
    const verified = unwrap(await verifyEk(evidence, rules))
    expect(verified).toMatchObject({ kind: 'p-256', anchorSha256: sha256(infineon.certificate) })
    expect(verified.path.map(der => Buffer.from(der))).toEqual([certificate, issuing.certificate, infineon.certificate])
    expect(verified).not.toHaveProperty('specification')
  })
})

type Template = readonly [
  what: string,
  expected: string,
  kind: 'rsa-2048' | 'rsa-3072' | 'P-256' | 'P-384',
  changes: Partial<Area>,
]
const templates: readonly Template[] = [
  ['L-1', 'rsa-2048', 'rsa-2048', {}],
  ['L-2', 'p-256', 'P-256', {}],
  ['H-1', 'rsa-2048', 'rsa-2048', highRange],
  ['H-2', 'p-256', 'P-256', highRange],
  ['H-3', 'p-384', 'P-384', {}],
  ['RSA-3072', 'EK_TEMPLATE', 'rsa-3072', {}],
  ['the policy of L with the attributes of H', 'EK_TEMPLATE', 'rsa-2048', { attributes: highRange.attributes }],
  ['the attributes of L with the policy of H', 'EK_TEMPLATE', 'rsa-2048', { authPolicy: highRange.authPolicy }],
  ['no policy', 'EK_TEMPLATE', 'P-256', { authPolicy: Buffer.alloc(0) }],
  ['a key that signs', 'EK_TEMPLATE', 'P-256', { attributes: 0x000700b2 }],
  ['a scheme', 'EK_TEMPLATE', 'rsa-2048', { scheme: [0x0014, 0x000b] }],
  ['no cipher', 'EK_TEMPLATE', 'rsa-2048', { symmetric: [0x0010] }],
  ['a longer key of the cipher', 'EK_TEMPLATE', 'rsa-2048', { symmetric: [0x0006, 256, 0x0043] }],
  ['SHA-1 for the Name', 'EK_TEMPLATE', 'rsa-2048', { nameAlg: 0x0004 }],
  ['SHA-384 for the Name', 'EK_TEMPLATE', 'P-256', { nameAlg: 0x000c }],
  ['SHA-256 for the Name of a longer key', 'EK_TEMPLATE', 'P-384', { nameAlg: 0x000b }],
  ['H-3 with the policy of H-2', 'EK_TEMPLATE', 'P-384', { authPolicy: highRange.authPolicy }],
  ['another mode of the cipher', 'EK_TEMPLATE', 'rsa-2048', { symmetric: [0x0006, 128, 0x0040] }],
  ['a key derivation', 'EK_TEMPLATE', 'P-256', { details: [0x0003, 0x0020, 0x000b] }],
]

describe('templates', () => {
  test.each(templates)('%s: %s', (_, expected, kind, changes) => {
    const verdict = admitEk(ekAreaOf(pairOf(kind, 'ek').publicKey, changes))
    expect(verdict.ok ? verdict.value.kind : verdict.code).toBe(expected)
  })

  test('the id is the digest of the canonical key, whatever the template', () => {
    const spki = ek.export({ type: 'spki', format: 'der' })
    expect(good.id).toBe(`sha256-${createHash('sha256').update(spki).digest('hex')}`)
    expect(good.qualifiedName).toEqual(qualifiedNameOf('endorsement', nameOf(ekAreaOf(ek))))
    const { attributes } = highRange
    const odd = admitEk(ekAreaOf(ek, { attributes: 0x000000b2 }))
    expect(odd).toHaveProperty('detail', expect.stringContaining('TPMA_OBJECT 0x000000b2, sha256 and authPolicy 8371'))
    expect(odd).toHaveProperty('detail', expect.stringMatching(/ on rsa-2048$/))
    expect(admitEk(ekAreaOf(ek, { attributes }))).toHaveProperty('detail', expect.stringContaining('0x000300f2'))
    expect(unwrap(admitEk(ekAreaOf(ek, highRange))).id).toBe(good.id)
    expect(good.id).toMatch(/^sha256-[0-9a-f]{64}$/)
  })
})
