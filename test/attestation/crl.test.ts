import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { readRevocationList } from '#attestation'
import { readCertificate } from '../../attestation/certs/certificate.ts'
import { validatePath } from '../../attestation/certs/path.ts'
import type { RevocationPolicy } from '../../attestation/certs/revocation.ts'
import { outcome, pairOf, unwrap } from './attester.ts'
import {
  basicConstraints,
  certifyEk,
  der,
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
  pem,
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
const listed = { revoked: [{ serial }] }

/** What the list of the intermediate is like, beside a good one of the root: what comes of it under `hard` and under `soft`. */
const rows: readonly (readonly [string, Partial<ListFields>, hard: string, soft: string])[] = [
  ['empty', {}, 'OK', 'OK'],
  ['with the certificate', listed, 'REVOKED', 'REVOKED'],
  ['with another one', { revoked: [{ serial: Buffer.of(0x0d) }] }, 'OK', 'OK'],
  [
    'with many, the certificate last',
    { revoked: [...Array.from({ length: 100 }, (_, n) => ({ serial: Buffer.of(0x70, n) })), ...listed.revoked] },
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
  ['outdated', { nextUpdate: past }, 'NO_CRL', 'OK'],
  ['outdated, with the certificate', { ...listed, nextUpdate: past }, 'REVOKED', 'REVOKED'],
  ['of tomorrow', { thisUpdate: future }, 'NO_CRL', 'OK'],
  ['without an end', { nextUpdate: undefined }, 'NO_CRL', 'OK'],
  ['of another CA', { issuer: named('Other') }, 'NO_CRL', 'OK'],
  ['over SHA-1', { hash: 'sha1' }, 'NO_CRL', 'OK'],
  ['for certificates of users', { extensions: [issuingPoint(onlyUsers)] }, 'OK', 'OK'],
  ['for certificates of CAs', { extensions: [issuingPoint(onlyCas)], ...listed }, 'NO_CRL', 'OK'],
  ['for the place that the certificate names', { extensions: [issuingPoint(listedAt(place))], ...listed }, 'REVOKED', 'REVOKED'],
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

  test('that cannot be read is our own mistake', async () => {
    await expect(judged([Buffer.of(1)])).rejects.toThrow('a revocation list cannot be used')
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
    expect(point(der(0x84, TRUE))).toBe('UNKNOWN_CRITICAL_EXT') // indirect
    expect(point(der(0x85, TRUE))).toBe('UNKNOWN_CRITICAL_EXT') // of attribute certificates
    expect(point(der(0x83, Buffer.of(6, 0x40)))).toBe('UNKNOWN_CRITICAL_EXT') // for some reasons
    expect(made({ revoked: [{ serial, extensions: [extension('2.5.29.29', true, der(0x30))] }] })).toBe('UNKNOWN_CRITICAL_EXT')
    expect(made({ signatureAlgorithm: Buffer.from('300a06082a8648ce3d040303', 'hex') })).toBe('BAD_ENCODING')
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
