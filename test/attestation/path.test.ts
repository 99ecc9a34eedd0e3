import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { pairOf } from './attester.ts'
import {
  authorityKey,
  basicConstraints,
  type CaOptions,
  certifyEk,
  der,
  directoryName,
  EK_EXTENSIONS,
  EK_PURPOSE,
  extension,
  extKeyUsage,
  type Fields,
  keyIdOf,
  keyUsage,
  makeCa,
  NOW,
  nameConstraints,
  named,
  namedIn,
  subjectKey,
} from './certificates.ts'
import {
  ca,
  certificatesOf,
  chain,
  type Differences,
  future,
  hasOpenssl,
  judge,
  key,
  maker,
  openssl,
  past,
  root,
  tpm,
  unknown,
} from './chains.ts'
import { counted, present, readBytes, readJson } from './vectors.ts'

type Case = {
  readonly id: string
  readonly chain: string[]
  readonly trustAnchor: string
  readonly verifyAt: string
  readonly expected_code: string
}

describe.skipIf(!present)('chains of attackers', () => {
  const count = counted('x509-chain')
  test.each(readJson<{ cases: Case[] }>('x509-chain/cases.json', { cases: [] }).cases)('$id: $expected_code', async one => {
    const [leaf = Buffer.alloc(0), ...between] = one.chain.map(file => readBytes(`x509-chain/${file}`))
    const trust = { anchors: [readBytes(`x509-chain/${one.trustAnchor}`)], at: new Date(one.verifyAt) }
    expect(await judge(leaf, between, trust)).toBe(one.expected_code)
    if (one.id === 'X-leaf-expired') expect(await judge(leaf, between, { ...trust, allowExpiredLeaf: true })).toBe('OK')
    count()
  })
})

const shortKey = pairOf('rsa-1024', 'short').publicKey.export({ type: 'spki', format: 'der' })

/** An authorityKeyIdentifier that names the certificate of the issuer by who issued that, and its number. */
function issuedBy(issuer: Buffer, serial: number): Differences {
  const value = der(0x30, der(0xa1, directoryName(issuer)), der(0x82, Buffer.of(serial)))
  return { leaf: { extensions: [...EK_EXTENSIONS, extension('2.5.29.35', false, value)] } }
}

const rules: readonly (readonly [string, string, Differences])[] = [
  ['a good path', 'OK', {}],
  ['P-384 and RSA above', 'OK', { top: { kind: 'P-384', hash: 'sha384' }, between: { kind: 'rsa-2048', hash: 'sha384' } }],
  ['its issuer as a PrintableString', 'OK', { leaf: { issuer: namedIn('printable', 'Intermediate') } }],
  ['its issuer as a BMPString', 'OK', { leaf: { issuer: namedIn('bmp', 'Intermediate') } }],
  ['its issuer in other letters and more space', 'OK', { leaf: { issuer: named(' INTERMEDIATE', 'makers ') } }],
  ['its issuer with another letter', 'BAD_CHAIN', { leaf: { issuer: named('Intermediat3') } }],
  ['the issuer of a CA as an IA5String', 'OK', { between: { issuer: namedIn('ia5', 'Root') } }],
  ['for ever', 'OK', { leaf: { notAfter: new Date('9999-12-31T23:59:59Z') } }],
  ['the certificate expired', 'CERT_EXPIRED', { leaf: { notAfter: past } }],
  ['from now on', 'OK', { leaf: { notBefore: NOW } }],
  ['until now', 'CERT_EXPIRED', { leaf: { notAfter: NOW } }],
  ['without extensions', 'OK', { leaf: { subject: named('TPM'), extensions: [] } }],
  ['the certificate not yet valid', 'CERT_EXPIRED', { leaf: { notBefore: future } }],
  ['not yet valid is no matter of its age', 'CERT_EXPIRED', { leaf: { notBefore: future }, trust: { allowExpiredLeaf: true } }],
  ['an expired certificate, allowed', 'OK', { leaf: { notAfter: past }, trust: { allowExpiredLeaf: true } }],
  ['an expired CA, which is never', 'CERT_EXPIRED', { between: { notAfter: past }, trust: { allowExpiredLeaf: true } }],
  ['an expired anchor', 'CERT_EXPIRED', { top: { notAfter: past } }],
  ['a CA that is none', 'NOT_A_CA', { between: { extensions: [basicConstraints(false), keyUsage(0x06)] } }],
  ['a CA without basicConstraints', 'NOT_A_CA', { between: { extensions: [keyUsage(0x06)] } }],
  ['a CA whose key is for other uses', 'NOT_A_CA', { between: { extensions: [basicConstraints(true), keyUsage(0x82)] } }],
  ['a CA without keyUsage', 'OK', { between: { extensions: [basicConstraints(true)] } }],
  ['a CA for endorsement keys alone', 'OK', { between: { extensions: [...ca, extKeyUsage(EK_PURPOSE)] } }],
  ['an anchor that is no CA', 'NOT_A_CA', { top: { extensions: [] } }],
  ['no room for the intermediate', 'PATH_LEN', { top: { extensions: [basicConstraints(true, 0), keyUsage(0x06)] } }],
  ['room for just it', 'OK', { top: { extensions: [basicConstraints(true, 1), keyUsage(0x06)] } }],
  [
    'an unknown critical extension in the certificate',
    'UNKNOWN_CRITICAL_EXT',
    { leaf: { extensions: [...EK_EXTENSIONS, unknown] } },
  ],
  ['in a CA', 'UNKNOWN_CRITICAL_EXT', { between: { extensions: [...ca, unknown] } }],
  ['in the anchor', 'UNKNOWN_CRITICAL_EXT', { top: { extensions: [...ca, unknown] } }],
  [
    'the same extension twice',
    'BAD_ENCODING',
    { leaf: { extensions: [...EK_EXTENSIONS, EK_EXTENSIONS[1] ?? ca[1]] as Buffer[] } },
  ],
  ['a value that is not of its type', 'BAD_ENCODING', { leaf: { extensions: [extension('2.5.29.19', true, Buffer.of(5, 0))] } }],
  ['SHA-1 below the anchor', 'WEAK_HASH', { leaf: { hash: 'sha1' } }],
  ['SHA-1, allowed', 'OK', { leaf: { hash: 'sha1' }, trust: { allowSha1: true } }],
  ['MD5, never allowed', 'WEAK_HASH', { between: { kind: 'rsa-2048' }, leaf: { hash: 'md5' }, trust: { allowSha1: true } }],
  ['SHA-1 in the signature of the anchor, which means nothing', 'OK', { top: { hash: 'sha1' } }],
  ['SHA-224 in the signature of the anchor', 'OK', { top: { hash: 'sha224' } }],
  ['a short key that issued nothing', 'OK', { leaf: { spki: shortKey } }],
  ['a CA with a short key', 'WEAK_KEY', { between: { kind: 'rsa-1024' } }],
  ['a signature over SHA-224', 'UNSUPPORTED_ALG', { leaf: { hash: 'sha224' } }],
  ['RSASSA-PSS', 'OK', { between: { kind: 'rsa-2048' }, leaf: { pss: true } }],
  ['RSASSA-PSS with SHA-1', 'WEAK_HASH', { between: { kind: 'rsa-2048' }, leaf: { pss: true, hash: 'sha1' } }],
  ['two signature algorithms', 'BAD_CHAIN', { leaf: { signatureAlgorithm: Buffer.from('300a06082a8648ce3d040303', 'hex') } }],
  [
    'key identifiers that fit',
    'OK',
    {
      between: { extensions: [...ca, subjectKey(keyIdOf(root))] },
      leaf: { extensions: [...EK_EXTENSIONS, authorityKey(keyIdOf(root))] },
    },
  ],
  [
    'key identifiers that differ',
    'BAD_CHAIN',
    {
      between: { extensions: [...ca, subjectKey(Buffer.of(1))] },
      leaf: { extensions: [...EK_EXTENSIONS, authorityKey(Buffer.of(2))] },
    },
  ],
  ['the certificate of the issuer named', 'OK', issuedBy(named('Root'), 1)],
  ['in another string type', 'OK', issuedBy(namedIn('printable', 'Root'), 1)],
  ['another one with its name', 'BAD_CHAIN', issuedBy(named('Root'), 2)],
  ['another one with its number', 'BAD_CHAIN', issuedBy(named('Other'), 1)],
  ['no anchor', 'BAD_CHAIN', { trust: { anchors: [] } }],
  ['another anchor', 'BAD_CHAIN', { trust: { anchors: [makeCa(named('Other')).certificate] } }],
  [
    'an anchor with the same name and another key',
    'BAD_CHAIN',
    { trust: { anchors: [makeCa(named('Root'), { label: 'other' }).certificate] } },
  ],
]

describe('rules of a path', () => {
  test.each(rules)('%s: %s', async (_, expected, differences) => expect(await chain(differences)).toBe(expected))
})

/** Where we are stricter than RFC 5280 by intention, or laxer because we were told to. */
const ourOwn = (expected: string, { trust }: Differences): boolean =>
  ['WEAK_HASH', 'WEAK_KEY', 'UNSUPPORTED_ALG'].includes(expected) || trust?.allowExpiredLeaf === true
const comparable = rules.filter(([, expected, differences]) => !ourOwn(expected, differences))

describe.skipIf(!hasOpenssl)('OpenSSL agrees', () => {
  test.each(comparable)('%s: %s', (_, expected, differences) => {
    const { leaf, between, anchors } = certificatesOf(differences)
    expect(openssl(leaf, between, { anchors, ...differences.trust })).toBe(expected === 'OK')
  })
})

/** Ways in which a certificate can be better or worse than another one. */
const leaves: readonly Partial<Fields>[] = [
  {},
  { notAfter: past },
  { notBefore: future },
  { notAfter: new Date('9999-12-31T23:59:59Z') },
  { extensions: [...EK_EXTENSIONS, unknown] },
  { extensions: [...EK_EXTENSIONS, authorityKey(keyIdOf(root))] },
  { extensions: [...EK_EXTENSIONS, authorityKey(Buffer.of(7))] },
  { subject: named('TPM', 'Makers') },
  { subject: named('TPM', 'Others') },
  { issuer: named('Intermediate', 'Others') },
  { issuer: namedIn('printable', 'intermediate') },
]
const authorities: readonly CaOptions[] = [
  {},
  { notAfter: past },
  { extensions: [] },
  { extensions: [basicConstraints(true)] },
  { extensions: [basicConstraints(false), keyUsage(0x06)] },
  { extensions: [basicConstraints(true), keyUsage(0x02)] },
  { extensions: [basicConstraints(true, 0), keyUsage(0x06)] },
  { extensions: [basicConstraints(true, 1), keyUsage(0x06)] },
  { extensions: [...ca, unknown] },
  { extensions: [...ca, subjectKey(keyIdOf(root))] },
  { extensions: [...ca, nameConstraints([], [maker('Others')])] },
  { extensions: [...ca, nameConstraints([maker('Makers'), tpm], [])] },
  { kind: 'rsa-2048' },
  { kind: 'P-384', hash: 'sha384' },
]

describe.skipIf(!hasOpenssl)('OpenSSL agrees on any chain', () => {
  const chains = fc.record({
    leaf: fc.constantFrom(...leaves),
    between: fc.array(fc.constantFrom(...authorities), { maxLength: 3 }),
    top: fc.constantFrom(...authorities),
    // one CA that is not sent, one that signed with another key, or none of this
    left: fc.option(fc.nat(2)),
    forged: fc.option(fc.nat(2)),
  })

  test('whatever is wrong with it', async () => {
    const outcomes = new Map<boolean, number>()
    const check = async ({ leaf, between, top, left, forged }: typeof chains extends fc.Arbitrary<infer T> ? T : never) => {
      const path = [makeCa(named('Root'), top)]
      for (const [at, options] of between.entries()) {
        const above = path.at(-1) ?? root
        const signer = forged === at ? { ...above, private: pairOf('P-256', 'forger').privateKey } : above
        path.push(makeCa(named(at === between.length - 1 ? 'Intermediate' : `CA ${at}`), options, signer))
      }
      const certificate = certifyEk(path.at(-1) ?? root, key, leaf)
      const sent = path.slice(1).flatMap((one, at) => (at === left ? [] : [one.certificate]))
      const anchors = [path[0]?.certificate ?? root.certificate]
      const ours = (await judge(certificate, sent, { anchors })) === 'OK'
      outcomes.set(ours, (outcomes.get(ours) ?? 0) + 1)
      expect(openssl(certificate, sent, { anchors })).toBe(ours)
    }
    await fc.assert(fc.asyncProperty(chains, check), { numRuns: 150 })
    expect(Math.min(outcomes.get(true) ?? 0, outcomes.get(false) ?? 0)).toBeGreaterThan(0)
  })
})
