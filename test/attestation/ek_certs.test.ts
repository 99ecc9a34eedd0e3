import { X509Certificate } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { type EkRules, validatePath, verifyEk } from '#attestation'
import { publicKeyOf, readCertificate } from '../../attestation/certs/certificate.ts'
import { readEkCertificate } from '../../attestation/certs/ek_certificate.ts'
import { namesOf } from '../../attestation/certs/names.ts'
import { outcome, unwrap } from './attester.ts'
import { ekAreaOf } from './endorsed.ts'
import { counted, present, readBytes, readJson } from './vectors.ts'

const folder = 'tpm-ca/loicsikidi+tpm-ca-certificates'
const roots = bundle(`${folder}/MIRROR.tpm-ca-certificates.pem`)
const intermediates = bundle(`${folder}/MIRROR.tpm-intermediate-ca-certificates.pem`)

function bundle(file: string): Buffer[] {
  const text = present ? readBytes(file).toString() : ''
  return (text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []).map(pem => new X509Certificate(pem).raw)
}

/** What the profile says of each certificate, and what the makers' roots say of those that it accepts. */
const expected: Readonly<Record<string, readonly [certificate: string, path?: string]>> = {
  'keylime-nuvoton_ecdsa_sha256_der': ['EKU'], // a CA
  'keylime-st_sha256_with_rsa_der': ['OK', 'OK'], // 431 bytes of 0xff after it
  'keylime-st_ecdsa_sha256_der': ['OK', 'OK'],
  'keylime-idevid_der': ['EKU'],
  'keylime-iak_der': ['EKU'],
  'hirs-ab21ccf2-tpmcert-pem': ['OK', 'WEAK_HASH'],
  'hirs-nuc-1-tpmcert-pem': ['OK', 'WEAK_HASH'],
  'hirs-nuc-2-tpmcert-pem': ['OK', 'WEAK_HASH'],
  'hirs-ek_cert_with_padded_bytes-cer': ['TRAILING_DATA'], // 192 bytes of 0x11
  'hirs-ek_cert_with_security_assertions-cer': ['BAD_ENCODING'], // in the wrapper of TPM 1.2
  'gce-pca_tpm_ecc_enc_cert': ['EKU'], // names a machine, not a TPM
  'gce-pca_tpm_ecc_sign_cert': ['EKU'],
  'gce-pca_tpm_rsa_enc_cert': ['EKU'],
  'gce-pca_tpm_rsa_sign_cert': ['EKU'],
  'gce-uca_tpm_ecc_enc_cert': ['OK', 'BAD_CHAIN'], // its CAs are not in the bundle
  'gce-uca_tpm_ecc_sign_cert': ['EK_CERTIFICATE'], // of a key that signs
  'gce-uca_tpm_rsa_enc_cert': ['OK', 'BAD_CHAIN'],
  'gce-uca_tpm_rsa_sign_cert': ['EK_CERTIFICATE'],
  'salrashid-tls_ak-1': ['OK', 'BAD_CHAIN'], // swtpm
  'salrashid-tls_ak-3': ['OK', 'OK'], // until 9999
  'spire-plugin-0': ['OK', 'OK'], // attributes not in the order of DER, signed by a root
  'swtpm-ek-rsa2048': ['OK', 'BAD_CHAIN'],
  'swtpm-ek-secp384r1': ['OK', 'BAD_CHAIN'],
  'keylime-slb9670-rsa': ['OK', 'OK'],
  'keylime-slb9670-ecc': ['OK', 'OK'],
}

type Entry = {
  readonly id: string
  readonly file: string
  readonly san?: { manufacturer: string; model: string; version: string } | null
}
const { ek_certs: entries } = readJson<{ ek_certs: Entry[] }>('index.json', { ek_certs: [] })
const in2025 = { at: new Date('2025-06-01T00:00:00Z'), anchors: roots, allowTestTpms: false }

describe.skipIf(!present)('certificates of real TPMs', () => {
  const count = counted('ek-certs')
  test.each(entries)('$id', async ({ id, file, san }) => {
    const [certificate, path] = expected[id] ?? []
    const read = readEkCertificate(readBytes(file))
    expect(outcome(read)).toBe(certificate)
    if (read.ok) expect(await judge(file, in2025)).toBe(path)
    if (read.ok && san)
      expect(read.value).toMatchObject({ ...san, manufacturer: san.manufacturer.toUpperCase().replace('ID', 'id') })
    count()
  })

  test.each(entries.filter(({ id }) => id.startsWith('hirs-') && expected[id]?.[1]))(
    '$id, with the exception for its maker',
    async ({ file }) => {
      const rules = { ...in2025, at: new Date('2023-06-01T00:00:00Z'), sha1Makers: ['id:53544d20'] }
      expect(await judge(file, rules)).toBe('OK')
    },
  )

  test('every CA of the makers leads to a root', async () => {
    const judged = intermediates.map(async der => {
      const { issuer } = unwrap(readCertificate(der))
      const above = intermediates.filter(other => namesOf(other)?.subject.equals(issuer))
      return outcome(
        await validatePath(unwrap(readCertificate(der)), above, { anchors: roots, at: new Date('2026-11-01T00:00:00Z') }),
      )
    })
    expect(new Set(await Promise.all(judged))).toEqual(new Set(['OK']))
  })

  test('every CA of the makers can be read', () => {
    expect([...roots, ...intermediates].map(der => outcome(readCertificate(der)))).toEqual(Array<string>(169).fill('OK'))
  })
})

/** As it would be offered: a public area by the template, the certificate, and the CAs of the bundle with the right names. */
async function judge(file: string, rules: EkRules): Promise<string> {
  const bytes = readBytes(file)
  const certificate = unwrap(readCertificate(bytes))
  const area = ekAreaOf(unwrap(publicKeyOf(certificate)))
  const above = intermediates.filter(der => namesOf(der)?.subject.equals(certificate.issuer))
  return outcome(await verifyEk({ certificate: bytes, public: area, intermediates: above }, rules))
}
