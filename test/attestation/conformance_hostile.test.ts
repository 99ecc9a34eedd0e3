import { createPublicKey } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { type Case, Unusable } from '../../scripts/vectors/case.ts'
import { casesIn } from '../../scripts/vectors/folder.ts'
import { answer, makeAk, NONCE, PCRS, pairOf, pcrValue } from './attester.ts'
import { basicConstraints, certifyEk, makeCa, NOW, named, pem } from './certificates.ts'
import { boot, encodeLog } from './eventlog_maker.ts'

// Folders as others may have them: cases that lack something, hold something else, or lie where one would not look for them.

const scratch = mkdtempSync(join(tmpdir(), 'conformance-hostile-'))
afterAll(() => rmSync(scratch, { recursive: true }))

let folders = 0
function folderOf(files: Readonly<Record<string, string | Buffer | object>>): string {
  folders += 1
  const folder = join(scratch, String(folders))
  mkdirSync(folder)
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), typeof content === 'string' || Buffer.isBuffer(content) ? content : JSON.stringify(content))
  }
  return folder
}

async function judge({ judge: outcomeOf }: Case): Promise<string> {
  try {
    return await outcomeOf()
  } catch (error) {
    if (error instanceof Unusable) return 'UNUSABLE'
    throw error
  }
}

async function run(folder: string): Promise<Record<string, string>> {
  const outcomes: Record<string, string> = {}
  for (const one of casesIn(folder, NOW).cases) outcomes[one.id] = await judge(one)
  return outcomes
}

/** A case, and what comes of it with these members in place of its own; without those that are undefined. */
type Changes = readonly (readonly [string, object, string])[]
const changed = (record: object, changes: Changes) => changes.map(([id, change]) => ({ ...record, id, ...change }))

const ak = makeAk('P-256', 'ECDSA')
const { evidence } = answer(ak)
const [attest_hex, tpmt_signature_hex] = [evidence.attest, evidence.signature].map(bytes => Buffer.from(bytes).toString('hex'))
const values = { sha256: Object.fromEntries(PCRS.map(pcr => [pcr, pcrValue(pcr).toString('hex')])) }
const policy = {
  requiredBank: 'sha256',
  requiredPcrs: PCRS,
  minHash: 'sha256',
  expected: values,
  nonceHex: NONCE.toString('hex'),
}
const before = { clock: 4_000_000, resetCount: 7, restartCount: 2, firmwareVersion: '2024012500120000' }
const quote = { attest_hex, tpmt_signature_hex, ak_tpmt_public_hex: ak.area.toString('hex'), pcrs: values, policy }

const quotes: Changes = [
  ['as it is', {}, 'OK'],
  ['capitals', { attest_hex: attest_hex?.toUpperCase() }, 'OK'],
  ['no statement', { attest_hex: undefined }, 'UNUSABLE'],
  ['half a byte', { attest_hex: 'abc' }, 'UNUSABLE'],
  ['a number for bytes', { tpmt_signature_hex: 5 }, 'UNUSABLE'],
  ['no table', { pcrs: undefined }, 'BAD_PCR_TABLE'],
  ['null for a table', { pcrs: null }, 'BAD_PCR_TABLE'],
  ['a list for a table', { pcrs: [] }, 'BAD_PCR_TABLE'],
  ['null for a policy', { policy: null }, 'UNUSABLE'],
  ['no challenge', { policy: { ...policy, nonceHex: undefined } }, 'UNUSABLE'],
  ['an empty challenge', { policy: { ...policy, nonceHex: '' } }, 'NONCE_MISMATCH'],
  ['a bank that may not decide', { policy: { ...policy, requiredBank: 'sha1' } }, 'WEAK_BANK'],
  ['no bank of all', { policy: { ...policy, requiredBank: '__proto__' } }, 'WEAK_BANK'],
  ['a number for a bank', { policy: { ...policy, requiredBank: 5 } }, 'UNUSABLE'],
  ['a PCR that is none', { policy: { ...policy, requiredPcrs: [0, 99] } }, 'UNUSABLE'],
  ['a text for PCRs', { policy: { ...policy, requiredPcrs: '0' } }, 'UNUSABLE'],
  ['a floor that is none', { policy: { ...policy, minHash: 'toString' } }, 'UNUSABLE'],
  ['a floor above', { policy: { ...policy, minHash: 'sha512' } }, 'WEAK_HASH'],
  ['no values that are allowed', { policy: { ...policy, expected: undefined } }, 'PCR_POLICY'],
  ['an earlier quote', { previous_quote_state: before }, 'OK'],
  ['no earlier quote', { previous_quote_state: null }, 'OK'],
  ['an empty one', { previous_quote_state: {} }, 'UNUSABLE'],
  ['one with half a count', { previous_quote_state: { ...before, clock: 1.5 } }, 'UNUSABLE'],
]

const spki = (key: typeof ak) => createPublicKey(key.private).export({ type: 'spki', format: 'pem' })
const published = { attest_hex, tpmt_signature_hex, ak_spki_pem: spki(ak), sig_alg: 'ecdsa', sig_hash: 'sha256' }
const statements: Changes = [
  ['published', {}, 'OK'],
  ['with null for what is not known', { pcrs: null, expected_nonce_hex: null, ak_cert_pem: null }, 'OK'],
  ['with no value of a PCR', { pcrs: {} }, 'OK'],
  ['in capitals', { sig_alg: 'ECDSA', sig_hash: 'SHA256' }, 'OK'],
  ['without the scheme', { sig_alg: undefined, sig_hash: undefined }, 'OK'],
  ['with a scheme that nobody knows', { sig_alg: 'sm2' }, 'UNSUPPORTED_ALG'],
  ['with a hash that nobody knows', { sig_hash: 'sm3_256' }, 'UNSUPPORTED_ALG'],
  ['with a key that is none', { ak_spki_pem: 'x' }, 'UNUSABLE'],
  ['with the certificate of another key', { ak_cert_pem: pem(makeCa(named('Other')).certificate) }, 'SIGNATURE'],
  ['with a certificate that is none', { ak_cert_pem: 'x' }, 'UNUSABLE'],
  ['with a bare signature that is no pair', { tpmt_signature_hex: undefined, signature_raw_hex: '3006020101' }, 'BAD_ENCODING'],
  ['without a key', { ak_spki_pem: undefined }, 'AK_NOT_ENROLLED'],
  ['with half a signature and no key', { ak_spki_pem: undefined, tpmt_signature_hex: '00' }, 'AK_NOT_ENROLLED'],
]

const modulus = Buffer.from(pairOf('rsa-2048').publicKey.export({ format: 'jwk' }).n ?? '', 'base64url').toString('hex')
const keys: Changes = [
  ['a key', { e: 65537 }, 'OK'],
  ['the same key in capitals', { modulus_hex: modulus.toUpperCase(), e: '65537' }, 'OK'],
  ['the same key with a zero', { modulus_hex: `0${modulus}` }, 'OK'],
  ['an odd number of digits', { modulus_hex: 'abc' }, 'WEAK_KEY'],
  ['zero', { modulus_hex: '00' }, 'WEAK_KEY'],
  ['a sign', { modulus_hex: `0x${modulus}` }, 'UNUSABLE'],
  ['an exponent that is none', { e: null }, 'WEAK_KEY'],
  ['nothing but a key that is none', { modulus_hex: undefined, e: 65537, spki_pem: 'x' }, 'UNUSABLE'],
  ['a key on a curve', { modulus_hex: undefined, e: 65537, spki_pem: spki(ak) }, 'UNUSABLE'],
]

const root = makeCa(named('Root'))
const inter = makeCa(named('Inter'), {}, root)
const leaf = certifyEk(inter, pairOf('P-256', 'ek').publicKey)
const certificates = { 'a b/leaf.der': leaf, 'inter.der': inter.certificate, 'root.der': root.certificate }
const path = { chain: ['a b/leaf.der', 'inter.der'], trustAnchor: 'root.der', verifyAt: NOW.toISOString() }
const paths: Changes = [
  ['a path', {}, 'OK'],
  ['no path', { chain: undefined }, 'UNUSABLE'],
  ['an empty path', { chain: [] }, 'UNUSABLE'],
  ['one in a text', { chain: 'a b/leaf.der' }, 'UNUSABLE'],
  ['a path of null', { chain: [null] }, 'UNUSABLE'],
  ['a folder in a path', { chain: ['a b'] }, 'UNUSABLE'],
  ['an anchor that is not there', { trustAnchor: 'no.der' }, 'UNUSABLE'],
  ['an anchor that is none', { trustAnchor: 'cases.json' }, 'UNUSABLE'],
  ['no time', { verifyAt: undefined }, 'UNUSABLE'],
  ['a time that is none', { verifyAt: 'soon' }, 'UNUSABLE'],
]

const secret = { ek_tpm2b_public_hex: undefined, ak_name_hex: `000b${'00'.repeat(32)}`, secret_hex: '00'.repeat(32) }
const credential = { ...secret, ek_spki_pem: spki(makeAk('P-256', 'ECDSA')), seed_hex: undefined, rng: 'zeros' }
const credentials: Changes = [
  ['a credential', {}, 'OK'],
  ['a secret that is too long', { secret_hex: '00'.repeat(33) }, 'LIMIT'],
  ['a Name that is none', { ak_name_hex: '000b00' }, 'BAD_ENCODING'],
  ['no endorsement key', { ek_spki_pem: undefined }, 'UNUSABLE'],
  ['one that ends early', { ek_tpm2b_public_hex: '00ff00' }, 'TRUNCATED'],
  ['one with something after it', { ek_tpm2b_public_hex: '000100ff' }, 'TRAILING_DATA'],
  ['a private key that is none', { ephemeral_private_decimal: 'x' }, 'UNUSABLE'],
  ['a seed that is too short', { seed_hex: '12' }, 'UNUSABLE'],
  ['a result that is none', { expected_hex: 'x' }, 'OK'], // seen when it is compared
]

const sets: readonly (readonly [string, object, Changes, Readonly<Record<string, Buffer>>])[] = [
  ['quotes', quote, quotes, {}],
  ['statements', published, statements, {}],
  ['keys', { modulus_hex: modulus }, keys, {}],
  ['paths', path, paths, certificates],
  ['credentials', credential, credentials, {}],
]

describe.each(sets)('what a case may hold: %s', (_, record, changes, files) => {
  test('each is judged for itself', async () => {
    const outcomes = await run(folderOf({ ...files, 'cases.json': { cases: changed(record, changes) } }))
    expect(outcomes).toEqual(Object.fromEntries(changes.map(([id, , outcome]) => [id, outcome])))
  })
})

describe('what comes of a credential', () => {
  const made = { ...credential, ek_spki_pem: spki(makeAk('P-256', 'ECDSA')) }
  const holds = (result: object) =>
    casesIn(folderOf({ 'cases.json': [{ ...made, ...result }] }), NOW).cases[0]?.expected.holds('OK')

  test('is as long as it is said to be', () => {
    expect(holds({ expected_idobject_plus_secret_hex: '00'.repeat(70 + 70) })).toBe(true)
    expect(holds({ expected_idobject_plus_secret_hex: '00'.repeat(70 + 69) })).toBe(false)
    expect(holds({ expected_hex: '' })).toBe(false)
    expect(holds({ expected_first_80_bytes_hex: '' })).toBe(false)
  })
  test('is not compared with what is no result', () => expect(() => holds({ expected_hex: 'x' })).toThrow(Unusable))
})

describe('what a folder may hold', () => {
  const log = encodeLog(boot)

  test('cases that are no objects', async () => {
    const folder = folderOf({ 'cases.json': { cases: [{ id: 'key', modulus_hex: modulus }, null, 5, [], 'x'] } })
    const none = {
      'cases.json#1': 'UNUSABLE',
      'cases.json#2': 'UNUSABLE',
      'cases.json#3': 'UNUSABLE',
      'cases.json#4': 'UNUSABLE',
    }
    expect(await run(folder)).toEqual({ key: 'OK', ...none })
  })
  test('a case to a file, of any kind or of none that is known', async () => {
    const folder = folderOf({
      'q.json': quote,
      'k.json': { modulus_hex: modulus },
      'd.json': { expected: 'accept' },
      'n.json': 'null',
    })
    expect(await run(folder)).toEqual({ 'q.json': 'OK', 'k.json': 'OK', 'd.json': 'UNUSABLE' })
    expect(casesIn(folder, NOW).unknown).toEqual(['n.json is no vector of a kind that is known here'])
  })
  test('a mark before the JSON', async () => {
    expect(await run(folderOf({ 'q.json': `\ufeff${JSON.stringify(quote)}` }))).toEqual({ 'q.json': 'OK' })
  })
  test('links to files and folders, one to nowhere, and one that leads back', async () => {
    const elsewhere = folderOf({ 'x.bin': log })
    const folder = folderOf({ 'own/y.bin': log })
    symlinkSync(elsewhere, join(folder, 'linked'))
    symlinkSync(join(elsewhere, 'x.bin'), join(folder, 'z.bin'))
    symlinkSync('/nowhere', join(folder, 'dangling'))
    symlinkSync('..', join(folder, 'own', 'back'))
    expect(await run(folder)).toEqual({ 'linked/x.bin': 'OK', 'own/y.bin': 'OK', 'z.bin': 'OK' })
    expect(casesIn(folder, NOW).unknown.toSorted()).toEqual([
      expect.stringMatching(/^dangling cannot be read: ENOENT/),
      'own/back cannot be read: it leads back to a folder that it lies in',
    ])
  })
  test('files that an index lists and that are not there, or are folders', async () => {
    const listed = [
      { id: 'log', file: 'l.bin' },
      { id: 'gone', file: 'gone.bin' },
      { id: 'folder', file: 'd' },
      null,
      { id: 'none' },
    ]
    const folder = folderOf({ 'index.json': { event_logs: listed, ima_logs: 5 }, 'l.bin': log, 'd/x.bin': log })
    expect(await run(folder)).toEqual({ log: 'OK', 'd/x.bin': 'OK' })
    expect(casesIn(folder, NOW).unknown).toEqual(
      ['gone.bin', 'd', 'undefined'].map(name => `index.json lists ${name}, which is not there`),
    )
  })
  test('files of gigabytes', async () => {
    const folder = folderOf({ 'a.bin': log, 'b.der': leaf, 'c.json': '{}', 'd.bin': log })
    for (const name of ['a.bin', 'b.der', 'c.json']) truncateSync(join(folder, name), 2 ** 32)
    expect(await run(folder)).toEqual({ 'a.bin': 'LIMIT', b: 'LIMIT', 'd.bin': 'OK' })
    expect(casesIn(folder, NOW).unknown).toEqual(['c.json cannot be read as JSON: it has more than 268435456 bytes'])
  })
  test('certificates with a time of their own, and a bundle with something in it that is none', async () => {
    const broken = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'
    const files = {
      ...certificates,
      'roots.pem': `${broken}${pem(root.certificate)}`,
      'intermediates.pem': pem(inter.certificate),
    }
    const cases = [
      { id: 'now', file: 'a b/leaf.der' },
      { id: 'before', file: 'a b/leaf.der', verifyAt: '2010-01-01' },
    ]
    const outcomes = await run(folderOf({ ...files, 'cases.json': cases }))
    expect(outcomes).toMatchObject({ now: 'OK', before: 'CERT_EXPIRED' })
  })
  test('what is judged is no anchor, whatever it is called', async () => {
    const own = makeCa(named('Own'), { extensions: [basicConstraints(true)] })
    const folder = folderOf({ 'x.der': certifyEk(own, pairOf('P-256', 'ek').publicKey), 'x.pem': pem(own.certificate) })
    const anchored = folderOf({
      'x.der': certifyEk(own, pairOf('P-256', 'ek').publicKey),
      'root.pem': pem(root.certificate),
      'x.pem': pem(own.certificate),
    })
    expect([await run(folder), await run(anchored)]).toEqual([{ x: 'OK' }, { x: 'BAD_CHAIN' }])
  })
  test('a list of IMA among cases', async () => {
    const list =
      '10 8aa71d146be2b1a0a53cb603be22928f1b74ae17 ima-sig sha256:94326940137a8f59b369d1aa058bccce58cbda37e68be0f138ea45c2cb743a46 boot_aggregate\n'
    expect(await run(folderOf({ 'cases.json': [{ id: 'list', file: 'l' }], l: list }))).toEqual({ list: 'OK' })
  })
})
