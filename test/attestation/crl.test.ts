import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { readRevocationList } from '#attestation'
import { readCertificate } from '../../attestation/certs/certificate.ts'
import { serialOf } from '../../attestation/certs/crl.ts'
import { elementAt, after as following } from '../../attestation/certs/der.ts'
import { lookUpAgain } from '../../attestation/certs/known_path.ts'
import { validatePath } from '../../attestation/certs/path.ts'
import type { RevocationPolicy } from '../../attestation/certs/revocation.ts'
import { outcome, pairOf, unwrap } from './attester.ts'
import {
  basicConstraints,
  CN,
  certifyEk,
  der,
  directoryName,
  distributionPoint,
  EK_EXTENSIONS,
  extension,
  issuingPoint,
  keyUsage,
  type ListFields,
  listedAt,
  makeCa,
  makeList,
  NOW,
  named,
  namedIn,
  oid,
  pem,
  sequence,
  utf8,
} from './certificates.ts'

const root = makeCa(named('Root'))
const middle = makeCa(named('Intermediate'), { serial: Buffer.of(0x77) }, root)
const serial = Buffer.from('00f00d', 'hex')
const place = 'http://crl.example/leaves.crl'
const leaf = certifyEk(middle, pairOf('rsa-2048', 'ek').publicKey, {
  serial,
  extensions: [...EK_EXTENSIONS, distributionPoint(place)],
})
const past = new Date('2026-05-02T00:00:00Z')
const future = new Date('2026-06-02T00:00:00Z')
const ofRoot = makeList(root)

async function judged(lists: readonly Buffer[], revocation: RevocationPolicy = 'hard', at = NOW) {
  const trust = { anchors: [root.certificate], at, revocation, lists }
  return validatePath(unwrap(readCertificate(leaf)), [middle.certificate], trust)
}

const onlyUsers = der(0x81, Buffer.of(0xff))
const onlyCas = der(0x82, Buffer.of(0xff))
const TRUE = Buffer.of(0xff)
const uri = (where: string) => der(0x86, Buffer.from(where))
const listed = { revoked: [{ serial }] }

/** What the list of the intermediate is like, beside a good one of the root: what comes of it under `hard` and under `soft`. */
const rows: readonly (readonly [string, Partial<ListFields>, hard: string, soft: string])[] = [
  ['empty', {}, 'OK', 'OK'],
  ['with the certificate', listed, 'REVOKED', 'REVOKED'],
  ['with another one', { revoked: [{ serial: Buffer.of(0x0d) }] }, 'OK', 'OK'],
  [
    'with ten thousand, the certificate last',
    {
      revoked: [...Array.from({ length: 10_000 }, (_, n) => ({ serial: Buffer.of(0x70, n >> 8, n & 0xff) })), ...listed.revoked],
    },
    'REVOKED',
    'REVOKED',
  ],
  [
    'on hold',
    { revoked: [{ serial, extensions: [extension('2.5.29.21', false, der(0x0a, Buffer.of(6)))] }] },
    'REVOKED',
    'REVOKED',
  ],
  ['with its issuer in another string type', { ...listed, issuer: namedIn('printable', 'INTERMEDIATE') }, 'REVOKED', 'REVOKED'],
  ['with its issuer in other white space', { ...listed, issuer: named('\tIntermediate ') }, 'REVOKED', 'REVOKED'],
  ['outdated', { nextUpdate: past }, 'NO_CRL', 'OK'],
  ['outdated, with the certificate', { ...listed, nextUpdate: past }, 'REVOKED', 'REVOKED'],
  ['of tomorrow', { thisUpdate: future }, 'NO_CRL', 'OK'],
  ['without an end', { nextUpdate: undefined }, 'NO_CRL', 'OK'],
  ['of another CA', { issuer: named('Other') }, 'NO_CRL', 'OK'],
  ['over SHA-1', { hash: 'sha1' }, 'NO_CRL', 'OK'],
  ['for certificates of users', { extensions: [issuingPoint(onlyUsers)] }, 'OK', 'OK'],
  ['for certificates of CAs', { extensions: [issuingPoint(onlyCas)], ...listed }, 'NO_CRL', 'OK'],
  ['for the place that the certificate names', { extensions: [issuingPoint(listedAt(place))], ...listed }, 'REVOKED', 'REVOKED'],
  [
    'for several places',
    { extensions: [issuingPoint(der(0xa0, der(0xa0, uri('http://x/'), uri(place))))], ...listed },
    'REVOKED',
    'REVOKED',
  ],
  [
    'for a host that is called like the place',
    { extensions: [issuingPoint(der(0xa0, der(0xa0, der(0x82, Buffer.from(place)))))], ...listed },
    'NO_CRL',
    'OK',
  ],
  [
    'for a place in a directory',
    { extensions: [issuingPoint(der(0xa0, der(0xa0, directoryName(named('CRL')))))], ...listed },
    'NO_CRL',
    'OK',
  ],
  ['that begins and ends now', { thisUpdate: NOW, nextUpdate: NOW }, 'NO_CRL', 'OK'],
  ['that begins now', { thisUpdate: NOW }, 'OK', 'OK'],
  ['that ends now', { nextUpdate: NOW }, 'NO_CRL', 'OK'],
  ['for another place', { extensions: [issuingPoint(listedAt('http://other.example/'))], ...listed }, 'NO_CRL', 'OK'],
]

describe('what a list says', () => {
  test.each(rows)('%s', async (_, fields, hard, soft) => {
    const lists = [makeList(middle, fields), ofRoot]
    expect(outcome(await judged(lists))).toBe(hard)
    expect(outcome(await judged(lists, 'soft'))).toBe(soft)
    expect(outcome(await judged(lists, 'off'))).toBe('OK')
  })

  test('counts when the CA has signed it and may sign lists', async () => {
    const stranger = makeCa(named('Intermediate'), { label: 'stranger' })
    const forged = makeList({ ...middle, private: stranger.private }, listed)
    expect(outcome(await judged([forged, makeList(middle), ofRoot]))).toBe('OK')
    expect(outcome(await judged([forged, ofRoot]))).toBe('NO_CRL')
    const mute = makeCa(named('Intermediate'), { extensions: [basicConstraints(true), keyUsage(0x04)] }, root)
    const trust = { anchors: [root.certificate], at: NOW, revocation: 'hard', lists: [makeList(mute), ofRoot] } as const
    expect(outcome(await validatePath(unwrap(readCertificate(leaf)), [mute.certificate], trust))).toBe('NO_CRL')
  })

  test('is wanted of every CA of the path, and of the anchor as of any other', async () => {
    const list = makeList(middle)
    expect(outcome(await judged([list]))).toBe('NO_CRL')
    expect(outcome(await judged([ofRoot]))).toBe('NO_CRL')
    expect(outcome(await judged([list, makeList(root, { revoked: [{ serial: Buffer.of(0x77) }] })]))).toBe('REVOKED')
  })

  test('is the worst of all that are at hand, and holds until the first of the best ends', async () => {
    const newer = makeList(middle, { nextUpdate: new Date('2026-08-01T00:00:00Z') })
    const accepted = unwrap(await judged([makeList(middle), newer, ofRoot]))
    expect(accepted).toMatchObject({ revocation: 'checked', until: new Date('2026-07-01T00:00:00Z') })
    expect(outcome(await judged([newer, makeList(middle, listed), ofRoot]))).toBe('REVOKED')
    expect(unwrap(await judged([newer], 'soft'))).toMatchObject({ revocation: 'unknown' })
    expect(unwrap(await judged([newer], 'off'))).toMatchObject({
      revocation: 'unchecked',
      until: new Date('2040-01-01T00:00:00Z'),
    })
  })

  test('of the first to end counts, whichever CA that is of', async () => {
    const [july, august] = [new Date('2026-07-01T00:00:00Z'), new Date('2026-08-01T00:00:00Z')]
    const ending = (ofMiddle: Date, ofOthers: Date) =>
      judged([makeList(middle, { nextUpdate: ofMiddle }), makeList(root, { nextUpdate: ofOthers })])
    expect(unwrap(await ending(july, august))).toMatchObject({ until: july })
    expect(unwrap(await ending(august, july))).toMatchObject({ until: july })
    const [first, later] = [july, august].map(nextUpdate => makeList(middle, { nextUpdate })) as [Buffer, Buffer]
    const last = makeList(root, { nextUpdate: new Date('2026-09-01T00:00:00Z') })
    for (const lists of [
      [first, later, last],
      [later, first, last],
    ])
      expect(unwrap(await judged(lists))).toMatchObject({ until: august })
    const partly = await judged([makeList(root, { nextUpdate: august })], 'soft')
    expect(unwrap(partly)).toMatchObject({ revocation: 'unknown', until: august })
  })

  test('is missing in words: there is none, or since when', async () => {
    const dated = (day: string) => makeList(middle, { nextUpdate: new Date(`2026-05-${day}T00:00:00Z`) })
    expect(await judged([ofRoot])).toHaveProperty('detail', expect.stringMatching(/^certificate 0 of the path: /))
    expect(await judged([ofRoot])).toHaveProperty('detail', expect.stringMatching(/there is no revocation list of its issuer$/))
    const outdated = await judged([dated('09'), dated('11'), dated('10'), ofRoot])
    expect(outdated).toHaveProperty('detail', expect.stringMatching(/the last revocation list ended 2026-05-11T/))
    const endless = await judged([makeList(middle, { nextUpdate: undefined }), ofRoot])
    expect(endless).toHaveProperty('detail', expect.stringMatching(/ended no date$/))
  })

  test('over SHA-1 counts where SHA-1 does, and over MD5 never', async () => {
    const rsa = makeCa(named('Intermediate'), { kind: 'rsa-2048', hash: 'sha256' }, root)
    const below = unwrap(readCertificate(certifyEk(rsa, pairOf('rsa-2048', 'ek').publicKey)))
    const judgedBy = async (hash: string, allowSha1: boolean) => {
      const trust = { anchors: [root.certificate], at: NOW, revocation: 'hard' as const, allowSha1 }
      return outcome(await validatePath(below, [rsa.certificate], { ...trust, lists: [makeList(rsa, { hash }), ofRoot] }))
    }
    expect(await judgedBy('sha256', false)).toBe('OK')
    expect(await judgedBy('sha1', false)).toBe('NO_CRL')
    expect(await judgedBy('sha1', true)).toBe('OK')
    expect(await judgedBy('md5', true)).toBe('NO_CRL')
  })

  test('for users says nothing of a CA', async () => {
    const ofUsers = makeList(root, { extensions: [issuingPoint(onlyUsers)], revoked: [{ serial: Buffer.of(0x77) }] })
    expect(outcome(await judged([makeList(middle), ofUsers]))).toBe('NO_CRL')
    const ofCas = makeList(root, { extensions: [issuingPoint(onlyCas)], revoked: [{ serial: Buffer.of(0x77) }] })
    expect(outcome(await judged([makeList(middle), ofCas]))).toBe('REVOKED')
  })

  test('of a CA that says nothing of its key counts', async () => {
    const free = makeCa(named('Intermediate'), { extensions: [basicConstraints(true)] }, root)
    const trust = { anchors: [root.certificate], at: NOW, revocation: 'hard' as const, lists: [makeList(free, listed), ofRoot] }
    expect(outcome(await validatePath(unwrap(readCertificate(leaf)), [free.certificate], trust))).toBe('REVOKED')
  })

  const point = (...parts: readonly Uint8Array[]) => extension('2.5.29.31', false, sequence(sequence(...parts)))
  test.each<readonly [string, Buffer[], string]>([
    ['names it', [distributionPoint(place)], 'REVOKED'],
    ['names none', [], 'NO_CRL'],
    ['names a host that is called so', [point(der(0xa0, der(0xa0, der(0x82, Buffer.from(place)))))], 'NO_CRL'],
    ['names it relative to its issuer', [point(der(0xa0, der(0xa1, sequence(oid(CN), utf8('list')))))], 'NO_CRL'],
    ['has reasons for a place', [point(der(0x81, Buffer.of(6, 0x40)))], 'NO_CRL'],
  ])('for a place, and the certificate %s: %s', async (_, extensions, expected) => {
    const other = unwrap(readCertificate(certifyEk(middle, pairOf('rsa-2048', 'ek').publicKey, { serial, extensions })))
    const lists = [makeList(middle, { extensions: [issuingPoint(listedAt(place))], ...listed }), ofRoot]
    const trust = { anchors: [root.certificate], at: NOW, revocation: 'hard' as const, lists }
    expect(outcome(await validatePath(other, [middle.certificate], trust))).toBe(expected)
  })

  test('of the anchor says nothing of itself', async () => {
    const itself = makeList(root, { revoked: [{ serial: Buffer.of(1) }] })
    expect(outcome(await judged([makeList(middle), itself]))).toBe('OK')
  })

  test('that cannot be read is our own mistake', async () => {
    await expect(judged([Buffer.of(1)])).rejects.toThrow('a revocation list cannot be used')
  })
})

describe('a path that was valid before', () => {
  const path = [leaf, middle.certificate, root.certificate]
  const again = async (lists: readonly Buffer[], revocation?: RevocationPolicy) =>
    lookUpAgain(path, { at: NOW, lists, ...(revocation && { revocation }) })
  test('is looked up in the lists of today', async () => {
    expect(unwrap(await again([makeList(middle), ofRoot], 'hard'))).toMatchObject({ revocation: 'checked' })
    expect(unwrap(await again([]))).toEqual({ revocation: 'unchecked' })
    expect(outcome(await again([makeList(middle, listed), ofRoot], 'soft'))).toBe('REVOKED')
    expect(outcome(await again([ofRoot], 'hard'))).toBe('NO_CRL')
    expect(outcome(await lookUpAgain(path, { at: NOW, revocation: 'hard' }))).toBe('NO_CRL')
  })
  test('has to be one of certificates', async () => {
    const broken = [leaf, Buffer.of(1), root.certificate]
    expect(outcome(await lookUpAgain(broken, { at: NOW, revocation: 'soft' }))).toBe('BAD_ENCODING')
  })
})

describe('lists that are refused', () => {
  const { subject, private: signer } = middle
  const made = (fields: Partial<ListFields>) => outcome(readRevocationList(makeList({ subject, private: signer }, fields)))
  const point = (...members: readonly Buffer[]) => made({ extensions: [issuingPoint(...members)] })
  test('deltas, those in place of others, and those of which something is not understood', () => {
    expect(made({})).toBe('OK')
    expect(made({ extensions: [extension('2.5.29.27', true, der(0x02, Buffer.of(1)))] })).toBe('UNKNOWN_CRITICAL_EXT')
    expect(made({ extensions: [extension('2.5.29.27', false, der(0x02, Buffer.of(1)))] })).toBe('UNKNOWN_CRITICAL_EXT')
    expect(made({ extensions: [extension('2.5.29.20', false, der(0x02, Buffer.of(1)))] })).toBe('OK')
    expect(point()).toBe('OK')
    expect(point(onlyCas)).toBe('OK')
    expect(made({ extensions: [extension('2.5.29.28', true, Buffer.of(5, 0))] })).toBe('UNKNOWN_CRITICAL_EXT')
    expect(point(der(0xa1, der(0x86)))).toBe('UNKNOWN_CRITICAL_EXT') // nothing that can be read
    const relative = der(0xa1, sequence(oid(CN), utf8('list')))
    expect(point(der(0xa0, relative))).toBe('UNKNOWN_CRITICAL_EXT')
    expect(point(der(0xa0, der(0xa1, der(0x31, sequence(oid(CN), utf8('list'))))))).toBe('UNKNOWN_CRITICAL_EXT')
    expect(point(der(0x84, TRUE))).toBe('UNKNOWN_CRITICAL_EXT') // indirect
    expect(point(der(0x85, TRUE))).toBe('UNKNOWN_CRITICAL_EXT') // of attribute certificates
    expect(point(der(0x83, Buffer.of(6, 0x40)))).toBe('UNKNOWN_CRITICAL_EXT') // for some reasons
    expect(made({ extensions: [extension('2.5.29.20', true, der(0x02, Buffer.of(1)))] })).toBe('UNKNOWN_CRITICAL_EXT')
    const hold = extension('2.5.29.21', false, der(0x0a, Buffer.of(6)))
    const strange = extension('1.2.3.4', true, Buffer.of(5, 0))
    expect(made({ revoked: [{ serial, extensions: [hold] }, { serial: Buffer.of(5) }] })).toBe('OK')
    expect(made({ revoked: [{ serial }, { serial: Buffer.of(5), extensions: [hold, strange] }] })).toBe('UNKNOWN_CRITICAL_EXT')
    expect(made({ revoked: [{ serial, extensions: [extension('2.5.29.29', true, der(0x30))] }] })).toBe('UNKNOWN_CRITICAL_EXT')
    expect(made({ signatureAlgorithm: Buffer.from('300a06082a8648ce3d040303', 'hex') })).toBe('BAD_ENCODING')
  })
  test('the largest is read, and no larger one', () => {
    expect(outcome(readRevocationList(Buffer.alloc(8 * 1024 * 1024)))).toBe('BAD_ENCODING')
    expect(outcome(readRevocationList(Buffer.alloc(8 * 1024 * 1024 + 1)))).toBe('LIMIT')
  })
  test('what has a field of another type, or a signature that is none of its kind', () => {
    const odd = makeList(middle)
    odd[odd.indexOf(Buffer.from('\x17\x0d260501'))] = 0x02 // thisUpdate
    expect(outcome(readRevocationList(odd))).toBe('BAD_ENCODING')
    const strange = makeList(middle)
    const signature = following(strange, following(strange, elementAt(strange, elementAt(strange, 0)?.from)))
    strange[(signature?.from ?? 0) + 1] = 0x31 // in place of the SEQUENCE of two numbers
    expect(outcome(readRevocationList(strange))).toBe('BAD_ENCODING')
  })
  test('what is no list, or has something after it', () => {
    expect(outcome(readRevocationList(leaf.subarray(0, -1)))).toBe('BAD_ENCODING')
    expect(outcome(readRevocationList(leaf))).toBe('BAD_ENCODING')
    expect(outcome(readRevocationList(Buffer.concat([makeList(middle), Buffer.of(0)])))).toBe('TRAILING_DATA')
  })
  test('serial numbers are compared without the zeros before them', () => {
    const numbered = unwrap(
      readRevocationList(
        makeList(middle, { revoked: [{ serial }, { serial: Buffer.of(1, 0, 0) }, { serial: Buffer.of(0, 0, 9) }] }),
      ),
    )
    expect([...numbered.serials]).toEqual(['f00d', '010000', '09'])
    expect(numbered.thisUpdate).toEqual(new Date('2026-05-01T00:00:00Z'))
    expect(serialOf(unwrap(readCertificate(leaf)).asn1.serialNumber)).toBe('f00d')
    expect(unwrap(readRevocationList(makeList(middle, { nextUpdate: undefined })))).not.toHaveProperty('nextUpdate')
  })
  test('anything that was changed on its way is refused or is not signed', async () => {
    const list = makeList(middle, listed)
    const check = async (at: number, bit: number) => {
      const changed = Buffer.from(list)
      changed[at] = (changed[at] ?? 0) ^ (1 << bit)
      if (!readRevocationList(changed).ok) return
      expect(outcome(await judged([changed, ofRoot]))).toBe('NO_CRL')
    }
    for (let at = 0; at < list.length; at++) for (let bit = 0; bit < 8; bit++) await check(at, bit)
  })
})

/** What `openssl verify` says when every certificate of the path has to be looked up. */
function openssl(lists: readonly Buffer[]): boolean {
  const folder = mkdtempSync(join(tmpdir(), 'crl-'))
  writeFileSync(join(folder, 'leaf'), pem(leaf))
  writeFileSync(join(folder, 'between'), pem(middle.certificate))
  writeFileSync(join(folder, 'anchors'), pem(root.certificate))
  writeFileSync(join(folder, 'lists'), lists.map(list => pem(list, 'X509 CRL')).join(''))
  const files = ['-CAfile', 'anchors', '-untrusted', 'between', '-CRLfile', 'lists', 'leaf']
  const options = ['-crl_check_all', '-partial_chain', '-attime', String(NOW.getTime() / 1000)]
  const { status } = spawnSync('openssl', ['verify', ...options, ...files], { cwd: folder })
  rmSync(folder, { recursive: true })
  return status === 0
}

const hasOpenssl = spawnSync('openssl', ['version']).status === 0
if (!hasOpenssl) console.error('no openssl on the path: nothing to compare revocation lists with')

/** OpenSSL takes a list without an end for one that never ends, and minds SHA-1 less: both are ours to refuse. */
const stricter = ['without an end', 'over SHA-1']

describe.skipIf(!hasOpenssl)('OpenSSL agrees', () => {
  test.each(rows.filter(([what]) => !stricter.includes(what)))('%s', (_, fields, hard) => {
    expect(openssl([makeList(middle, fields), ofRoot])).toBe(hard === 'OK')
  })
})
