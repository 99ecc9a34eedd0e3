import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isCertificate, readCertificate } from '../../attestation/certs/certificate.ts'
import { type Trust, validatePath } from '../../attestation/certs/path.ts'
import { outcome, pairOf } from './attester.ts'
import {
  authorityKey,
  basicConstraints,
  type Ca,
  type CaOptions,
  CN,
  certifyEk,
  der,
  directoryName,
  dnsName,
  EK_EXTENSIONS,
  EK_PURPOSE,
  extension,
  extKeyUsage,
  type Fields,
  INFINEON,
  keyIdOf,
  keyUsage,
  makeCa,
  makeList,
  NOW,
  name,
  nameConstraints,
  named,
  namedIn,
  O,
  oid,
  pem,
  sequence,
  subjectAltName,
  subjectKey,
  textIn,
  tpmName,
} from './certificates.ts'
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

/** What `openssl verify` says of the same path, with its floor for algorithms low. */
function openssl(leaf: Buffer, intermediates: readonly Buffer[], { anchors = [], at = NOW }: Partial<Trust>): boolean {
  const folder = mkdtempSync(join(tmpdir(), 'path-'))
  const write = (file: string, ders: readonly Uint8Array[]) =>
    writeFileSync(join(folder, file), ders.map(one => pem(one)).join(''))
  write('leaf', [leaf])
  write('between', intermediates)
  write('anchors', anchors)
  const files = ['-CAfile', 'anchors', ...(intermediates.length > 0 ? ['-untrusted', 'between'] : []), 'leaf']
  const options = ['-partial_chain', '-auth_level', '0', '-attime', String(at.getTime() / 1000)]
  const { status } = spawnSync('openssl', ['verify', ...options, ...files], { cwd: folder })
  rmSync(folder, { recursive: true })
  return status === 0
}

const hasOpenssl = spawnSync('openssl', ['version']).status === 0
if (!hasOpenssl) console.error('no openssl on the path: nothing to compare paths with')

async function judge(leaf: Buffer, intermediates: readonly Buffer[], trust: Partial<Trust>): Promise<string> {
  const read = readCertificate(leaf)
  if (!read.ok) return read.code
  const verdict = await validatePath(read.value, intermediates, { anchors: [], at: NOW, ...trust })
  if (!verdict.ok) expect(verdict.detail).not.toMatch(/ $/) // says which certificate, and what of it
  return outcome(verdict)
}

const key = pairOf('rsa-2048', 'ek').publicKey
const root = makeCa(named('Root'))
const middle = makeCa(named('Intermediate'), {}, root)

/** A path through a root and an intermediate that differ from good ones in these ways. */
function certificatesOf({ top = {}, between = {}, leaf = {} }: Differences) {
  const above = makeCa(named('Root'), top)
  const below = makeCa(named('Intermediate'), between, above)
  return { leaf: certifyEk(below, key, leaf), between: [below.certificate], anchors: [above.certificate] }
}

async function chain(differences: Differences): Promise<string> {
  const { leaf, between, anchors } = certificatesOf(differences)
  return judge(leaf, between, { anchors, ...differences.trust })
}
type Differences = { top?: CaOptions; between?: CaOptions; leaf?: Partial<Fields>; trust?: Partial<Trust> }

const past = new Date('2021-01-01T00:00:00Z')
const future = new Date('2030-01-01T00:00:00Z')
const unknown = extension('1.2.3.4', true, Buffer.of(5, 0))
const ca = [basicConstraints(true), keyUsage(0x06)]

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

const maker = (organization: string) => directoryName(name([[O, organization]]))
const constrained = (permitted: Buffer[], excluded: Buffer[]) => ({
  between: { extensions: [...ca, nameConstraints(permitted, excluded)] },
})
const tpm = directoryName(tpmName(INFINEON))
const withSubject = { leaf: { subject: named('TPM', 'Makers') } }
const withHost = { leaf: { extensions: [...EK_EXTENSIONS.slice(0, 3), subjectAltName(true, tpm, dnsName('tpm.example'))] } }

const withoutNames = { leaf: { subject: named('TPM'), extensions: EK_EXTENSIONS.slice(0, 3) } }
const mailed = sequence(der(0x31, sequence(oid('1.2.840.113549.1.9.1'), textIn('ia5', 'one@tpm.example'))))
const half = directoryName(name([[O, 'Makers']], [[CN, 'Other']]))
const more = directoryName(name([[O, 'Makers']], [[CN, 'TPM']], [[CN, 'One']]))
const mailHost = der(0x81, Buffer.from('tpm.example'))

const names: readonly (readonly [string, string, Differences])[] = [
  [
    'the subject is permitted, but not the alternative name',
    'NAME_CONSTRAINTS',
    { ...constrained([maker('Makers')], []), ...withSubject },
  ],
  ['both are permitted', 'OK', { ...constrained([maker('Makers'), tpm], []), ...withSubject }],
  ['the alternative name alone, which is all there is', 'OK', constrained([tpm], [])],
  ['another alternative name', 'NAME_CONSTRAINTS', constrained([maker('Others')], [])],
  ['the alternative name is excluded', 'NAME_CONSTRAINTS', constrained([], [tpm])],
  ['the subject is excluded', 'NAME_CONSTRAINTS', { ...constrained([], [maker('Makers')]), ...withSubject }],
  ['in other letters', 'NAME_CONSTRAINTS', { ...constrained([], [maker('MAKERS')]), ...withSubject }],
  ['another subject is excluded', 'OK', { ...constrained([], [maker('Others')]), ...withSubject }],
  [
    'hosts are constrained and there is one of another domain',
    'NAME_CONSTRAINTS',
    { ...constrained([dnsName('other')], []), ...withHost },
  ],
  ['half of a name is permitted', 'NAME_CONSTRAINTS', { ...constrained([half, tpm], []), ...withSubject }],
  ['more than the name is permitted', 'NAME_CONSTRAINTS', { ...constrained([more, tpm], []), ...withSubject }],
  ['half of a name is excluded', 'OK', { ...constrained([], [half]), ...withSubject }],
  ['no alternative name, and the subject is permitted', 'OK', { ...constrained([maker('Makers')], []), ...withoutNames }],
  [
    'an address in the subject is permitted',
    'OK',
    { ...constrained([directoryName(mailed), mailHost, tpm], []), leaf: { subject: mailed } },
  ],
  ['an address in the subject is excluded', 'NAME_CONSTRAINTS', { ...constrained([], [mailHost]), leaf: { subject: mailed } }],
  [
    'the subject is excluded, though it is that of its issuer',
    'NAME_CONSTRAINTS',
    { ...constrained([], [directoryName(named('Intermediate'))]), leaf: { subject: named('Intermediate') } },
  ],
  [
    'a CA below is excluded',
    'NAME_CONSTRAINTS',
    { top: { extensions: [...ca, nameConstraints([], [directoryName(named('Intermediate'))])] } },
  ],
  ['hosts are constrained and there is none', 'OK', constrained([dnsName('example')], [])],
  ['hosts are excluded and there is one', 'NAME_CONSTRAINTS', { ...constrained([], [dnsName('example')]), ...withHost }],
]

describe('constraints on names', () => {
  test.each(names)('%s: %s', async (_, expected, differences) => expect(await chain(differences)).toBe(expected))
})

const general = {
  mailbox: (text: string) => der(0x81, Buffer.from(text)),
  host: dnsName,
  uri: (text: string) => der(0x86, Buffer.from(text)),
  address: (hex: string) => der(0x87, Buffer.from(hex, 'hex')),
  registered: (hex: string) => der(0x88, Buffer.from(hex, 'hex')),
}
/** A form of name, one in a certificate, a subtree, and whether the one is in the other: undefined where OpenSSL and we cannot tell. */
const forms: readonly (readonly [keyof typeof general, string, string, boolean | undefined])[] = [
  ['host', 'tpm.example', 'example', true],
  ['host', 'tpm.example', 'tpm.example', true],
  ['host', 'TPM.Example', 'example', true],
  ['host', 'tpm.example', '.example', true],
  ['host', 'example', '.example', false],
  ['host', 'badexample', 'example', false],
  ['host', 'example', 'tpm.example', false],
  ['host', 'tpm.example', '', true],
  ['mailbox', 'one@tpm.example', 'one@tpm.example', true],
  ['mailbox', 'one@TPM.example', 'one@tpm.example', true],
  ['mailbox', 'One@tpm.example', 'one@tpm.example', false],
  ['mailbox', 'one@other.example', 'one@tpm.example', false],
  ['mailbox', 'one@tpm.example', 'tpm.example', true],
  ['mailbox', 'one@tpm.example', 'example', false],
  ['mailbox', 'one@tpm.example', '.example', true],
  ['mailbox', 'one@example', '.example', false],
  ['mailbox', 'nobody', 'example', undefined],
  ['uri', 'https://tpm.example/x', 'tpm.example', true],
  ['uri', 'https://TPM.example:8443', 'tpm.example', true],
  ['uri', 'https://tpm.example/x', 'example', false],
  ['uri', 'https://tpm.example/x', '.example', true],
  ['uri', 'https://other/?@tpm.example', 'tpm.example', false],
  ['uri', 'urn:uuid:1', 'example', undefined],
  ['address', '0a000001', '0a000000ff000000', true],
  ['address', '0b000001', '0a000000ff000000', false],
  ['address', '0a000001', '0a00000000000000', true],
  ['address', `${'0'.repeat(31)}1`, '0a00000000000000', false],
  ['address', `20${'0'.repeat(29)}1`, `20${'0'.repeat(30)}ff${'0'.repeat(30)}`, true],
  ['address', '0a0000', '0a000000ff000000', undefined],
  ['address', '0a000001', '0a000000', undefined],
  ['registered', '2a0304', '2a0304', undefined],
]

/** Certificates with such a name below a CA with such a subtree, permitted and excluded, and whether that is a valid path. */
function constrainedForms([form, given, base, within]: (typeof forms)[number]) {
  const extensions = [...EK_EXTENSIONS.slice(0, 3), subjectAltName(true, tpm, general[form](given))]
  return [
    { ...certificatesOf({ ...constrained([general[form](base)], []), leaf: { extensions } }), fine: within === true },
    {
      ...certificatesOf({ ...constrained([], [general[form](base)]), leaf: { extensions, subject: named('TPM') } }),
      fine: within === false,
    },
  ]
}

describe('constraints on names of other forms', () => {
  test.each(forms)('%s %s, subtree %s: %s', async (...row) => {
    for (const { leaf, between, anchors, fine } of constrainedForms(row))
      expect(await judge(leaf, between, { anchors })).toBe(fine ? 'OK' : 'NAME_CONSTRAINTS')
  })
})

describe('the search', () => {
  const leaf = certifyEk(middle, key)
  const anchors = [root.certificate]

  test('an anchor that signed the certificate itself', async () => {
    expect(await judge(certifyEk(root, key), [], { anchors })).toBe('OK')
  })
  test('an anchor that is not self-signed', async () => {
    expect(await judge(leaf, [], { anchors: [middle.certificate] })).toBe('OK')
  })
  test('intermediates are not trusted', async () => {
    expect(await judge(leaf, [middle.certificate, root.certificate], { anchors: [] })).toBe('BAD_CHAIN')
  })
  test('one name, two keys: the right one is found, wherever it stands', async () => {
    const renewed = makeCa(named('Intermediate'), { label: 'renewed' }, root)
    for (const between of [
      [renewed.certificate, middle.certificate],
      [middle.certificate, renewed.certificate],
    ])
      expect(await judge(leaf, between, { anchors })).toBe('OK')
  })
  test('a valid path counts, though another one is not', async () => {
    const expired = makeCa(named('Intermediate'), { notAfter: past }, root)
    expect(await judge(leaf, [expired.certificate, middle.certificate], { anchors })).toBe('OK')
    expect(await judge(leaf, [expired.certificate], { anchors })).toBe('CERT_EXPIRED')
  })
  test('an endorsement certificate certifies nothing', async () => {
    const ek = pairOf('P-256', 'ek-signs')
    const subject = named('EK')
    const fake: Ca = {
      subject,
      private: ek.privateKey,
      spki: ek.publicKey.export({ type: 'spki', format: 'der' }),
      certificate: certifyEk(middle, ek.publicKey, { subject }),
    }
    expect(await judge(certifyEk(fake, key), [fake.certificate, middle.certificate], { anchors })).toBe('BAD_CHAIN')
  })
  test('CAs that sign each other make no loop', async () => {
    const [one, other] = [makeCa(named('One')), makeCa(named('Other'))]
    const crossed = [makeCa(named('One'), {}, other), makeCa(named('Other'), {}, one)].map(({ certificate }) => certificate)
    expect(await judge(certifyEk(one, key), crossed, { anchors })).toBe('BAD_CHAIN')
    expect(await judge(certifyEk(one, key), crossed, { anchors: [other.certificate] })).toBe('OK')
  })
  test('six certificates and no more', async () => {
    const path = [root]
    for (const place of [1, 2, 3, 4, 5]) path.push(makeCa(named(`CA ${place}`), {}, path.at(-1)))
    const between = path.slice(1).map(({ certificate }) => certificate)
    const [fifth, sixth] = path.slice(-2)
    expect(await judge(certifyEk(fifth ?? root, key), between, { anchors })).toBe('OK')
    expect(await judge(certifyEk(sixth ?? root, key), between, { anchors })).toBe('BAD_CHAIN')
  })
  test('many intermediates, and many of one name, are refused at once', async () => {
    expect(await judge(leaf, Array<Buffer>(200).fill(middle.certificate), { anchors })).toBe('LIMIT')
    const alike = [1, 2, 3, 4, 5, 6, 7, 8].map(serial =>
      makeCa(named('Intermediate'), { serial: Buffer.of(serial), issuer: named('Intermediate') }, middle),
    )
    expect(
      await judge(
        leaf,
        alike.map(({ certificate }) => certificate),
        { anchors },
      ),
    ).toBe('LIMIT')
  })
  test('self-issued certificates do not count for the length', async () => {
    const top = makeCa(named('Top'), { extensions: [basicConstraints(true, 0), keyUsage(0x06)] })
    const next = makeCa(named('Top'), { label: 'next' }, top)
    expect(await judge(certifyEk(next, key), [next.certificate], { anchors: [top.certificate] })).toBe('OK')
  })
  test('self-issued certificates are under no constraints on names', async () => {
    const extensions = [...ca, nameConstraints([], [directoryName(named('Top'))])]
    const top = makeCa(named('Top'), { extensions })
    const next = makeCa(named('Top'), { label: 'next' }, top)
    expect(await judge(certifyEk(next, key), [next.certificate], { anchors: [top.certificate] })).toBe('OK')
  })
  test('an anchor of which something cannot be read certifies nobody', async () => {
    const odd = makeCa(named('Root'), { extensions: [...ca, ca[0] as Buffer] })
    expect(await judge(certifyEk(odd, key), [], { anchors: [odd.certificate] })).toBe('BAD_CHAIN')
    expect(await judge(certifyEk(root, key), [], { anchors: [odd.certificate, root.certificate] })).toBe('OK')
  })
  test('what is a certificate is told without reading all of it', () => {
    const [good] = anchors as [Buffer]
    expect([good, leaf].map(isCertificate)).toEqual([true, true])
    const bad = [
      Buffer.alloc(0),
      Buffer.of(0x30, 0),
      good.subarray(1),
      good.subarray(0, -1),
      Buffer.concat([good, Buffer.of(0)]),
      makeList(root),
    ]
    expect(bad.map(isCertificate)).toEqual(bad.map(() => false))
  })
  test('an anchor that is none is our own mistake', async () => {
    await expect(judge(leaf, [], { anchors: [Buffer.of(1)] })).rejects.toThrow('a trust anchor is not a certificate')
  })
})

/** Where we are stricter than RFC 5280 by intention, or laxer because we were told to. */
const ourOwn = ({
  expected,
  what,
  trust = {},
}: {
  expected: string
  what: string
  trust?: Partial<Trust> | undefined
}): boolean =>
  ['WEAK_HASH', 'WEAK_KEY', 'UNSUPPORTED_ALG'].includes(expected) ||
  /^hosts are .* there is one$/.test(what) ||
  trust.allowExpiredLeaf === true
const comparable = [...rules, ...names].filter(([what, expected, { trust }]) => !ourOwn({ what, expected, trust }))

describe.skipIf(!hasOpenssl)('OpenSSL agrees', () => {
  test.each(comparable)('%s: %s', (_, expected, differences) => {
    const { leaf, between, anchors } = certificatesOf(differences)
    expect(openssl(leaf, between, { anchors, ...differences.trust })).toBe(expected === 'OK')
  })
  test.each(forms)('%s %s, subtree %s: %s', (...row) => {
    for (const { leaf, between, anchors, fine } of constrainedForms(row)) expect(openssl(leaf, between, { anchors })).toBe(fine)
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

  test('whatever is wrong with it', { timeout: 120_000 }, async () => {
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
