import { describe, expect, test } from 'vitest'
import {
  CN,
  der,
  directoryName,
  dnsName,
  EK_EXTENSIONS,
  name,
  nameConstraints,
  named,
  O,
  oid,
  sequence,
  subjectAltName,
  textIn,
} from './certificates.ts'
import { ca, certificatesOf, chain, type Differences, hasOpenssl, judge, maker, openssl, tpm } from './chains.ts'

const constrained = (permitted: Buffer[], excluded: Buffer[]) => ({
  between: { extensions: [...ca, nameConstraints(permitted, excluded)] },
})
const withSubject = { leaf: { subject: named('TPM', 'Makers') } }
const withHost = { leaf: { extensions: [...EK_EXTENSIONS.slice(0, 3), subjectAltName(true, tpm, dnsName('tpm.example'))] } }

const withoutNames = { leaf: { subject: named('TPM'), extensions: EK_EXTENSIONS.slice(0, 3) } }
const mailed = sequence(der(0x31, sequence(oid('1.2.840.113549.1.9.1'), textIn('ia5', 'one@tpm.example'))))
const half = directoryName(name([[O, 'Makers']], [[CN, 'Other']]))
const more = directoryName(name([[O, 'Makers']], [[CN, 'TPM']], [[CN, 'One']]))
const [pair, riap] = [
  name([
    [O, 'Makers'],
    [CN, 'TPM'],
  ]),
  name([
    [CN, 'TPM'],
    [O, 'Makers'],
  ]),
]
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
  [
    'one attribute of an RDN is permitted',
    'NAME_CONSTRAINTS',
    { ...constrained([maker('Makers'), tpm], []), leaf: { subject: pair } },
  ],
  [
    'the attributes of an RDN are permitted in another order',
    'OK',
    { ...constrained([directoryName(riap), tpm], []), leaf: { subject: pair } },
  ],
  [
    'the attributes of an RDN are excluded in another order',
    'NAME_CONSTRAINTS',
    { ...constrained([], [directoryName(riap)]), leaf: { subject: pair } },
  ],
  [
    'the subject is excluded with other white space',
    'NAME_CONSTRAINTS',
    { ...constrained([], [maker('The  Makers')]), leaf: { subject: named('TPM', 'The\tMakers') } },
  ],
  [
    'the issuer is named with the attributes of an RDN in another order',
    'OK',
    { between: { subject: pair }, leaf: { issuer: riap } },
  ],
  [
    'the issuer is named with other white space',
    'OK',
    { between: { subject: named('A\tCA') }, leaf: { issuer: named('a  CA') } },
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

describe.skipIf(!hasOpenssl)('OpenSSL agrees', () => {
  test.each(names)('%s: %s', (_, expected, differences) => {
    const { leaf, between, anchors } = certificatesOf(differences)
    expect(openssl(leaf, between, { anchors, ...differences.trust })).toBe(expected === 'OK')
  })
  test.each(forms)('%s %s, subtree %s: %s', (...row) => {
    for (const { leaf, between, anchors, fine } of constrainedForms(row)) expect(openssl(leaf, between, { anchors })).toBe(fine)
  })
})
