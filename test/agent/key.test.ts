import { createPublicKey, randomBytes, verify, X509Certificate } from 'node:crypto'
import { readFile, stat, writeFile } from 'node:fs/promises'
import fc from 'fast-check'
import { calculateJwkThumbprint } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { admitAk, qualifiedNameOf, verifyCertifiedKey } from '#attestation'
import { type Attester, openAttester } from '../../agent/attester.ts'
import { exits } from '../../agent/exits.ts'
import { akKinds } from '../../agent/kinds.ts'
import { type KeyFile, readKeyFile, writeKeyFile } from '../../agent/tpm/key_file.ts'
import { run } from '../harness/process.ts'
import { type Swtpm, startSwtpm } from '../harness/swtpm.ts'
import { agent } from './cli_world.ts'
import { folder, leftovers, tool, world } from './tools.ts'

let swtpm: Swtpm
beforeAll(async () => {
  swtpm = await startSwtpm()
})
afterAll(() => swtpm?.stop())

const open = (options: { keyFile?: KeyFile; ak?: (typeof akKinds)[number] } = {}) =>
  openAttester({ tpm: swtpm.spec, ...world, ...options })

async function made(): Promise<KeyFile> {
  await using attester = await open()
  return await attester.createKey()
}

/** As the service does. */
async function judged(attester: Attester) {
  const qualifyingData = randomBytes(32)
  const key = await attester.attestationKey()
  const ak = admitAk(key.public)
  if (!ak.ok) throw new Error(ak.detail)
  const { public: ekPublic } = await attester.endorsement(Buffer.alloc(0))
  const rules = { ak: ak.value, qualifyingData, qualifiedSigner: qualifiedNameOf('endorsement', ak.value.name), ekPublic }
  return verifyCertifiedKey(await attester.certify(qualifyingData), rules)
}

describe('the key to bind is certified by the attestation key', () => {
  test.each(akKinds)('of kind %s', async ak => {
    await using attester = await open({ ak })
    expect(await judged(attester)).toMatchObject({ ok: true, value: { thumbprint: (await attester.boundKey()).thumbprint } })
    await attester.close()
    expect(await leftovers(swtpm)).toEqual([])
  })

  test('also when it comes from a file', async () => {
    const keyFile = await made()
    await using attester = await open({ keyFile })
    const { thumbprint, jwk } = await attester.boundKey()
    expect(await judged(attester)).toMatchObject({ ok: true, value: { thumbprint } })
    expect(thumbprint).toBe(await calculateJwkThumbprint({ ...jwk }))
    const data = Buffer.from('data')
    const key = createPublicKey({ key: jwk, format: 'jwk' })
    expect(verify('sha256', data, { key, dsaEncoding: 'ieee-p1363' }, await attester.sign(data))).toBe(true)
    await attester.close()
    expect(await leftovers(swtpm)).toEqual([])
  })
})

describe('a key in a file', () => {
  test('is another one each time, and another than the TPM makes of its seed', async () => {
    const prints = []
    for (const keyFile of [await made(), await made(), undefined]) {
      await using attester = await open({ ...(keyFile && { keyFile }) })
      prints.push((await attester.boundKey()).thumbprint)
    }
    expect(new Set(prints).size).toBe(3)
  })

  test('is of use in its own TPM alone', async () => {
    const keyFile = await made()
    await using other = await startSwtpm()
    await using attester = await openAttester({ tpm: other.spec, ...world, keyFile })
    await expect(attester.boundKey()).rejects.toMatchObject({ symbol: 'TPM_RC_INTEGRITY' })
  })

  test('has the form that tpm2-openssl writes and reads', async () => {
    const file = await made()
    const pem = writeKeyFile(file)
    expect(readKeyFile(pem)).toEqual(file)
    await using place = await folder()
    await writeFile(place.at('key.pem'), pem)
    const { stdout } = await run('openssl', ['asn1parse', '-in', place.at('key.pem')])
    expect(stdout).toMatch(
      /OBJECT +:2\.23\.133\.10\.1\.3\n[^\n]*cont \[ 0 \][^\n]*\n[^\n]*BOOLEAN +:(1|255)\n[^\n]*INTEGER +:40000001\n/,
    )
  })

  test('is read from nothing else, and whatever is in the file makes no trouble', async () => {
    const pem = writeKeyFile(await made())
    expect(readKeyFile(pem.replaceAll('TSS2 PRIVATE KEY', 'PRIVATE KEY'))).toBeUndefined()
    const body = Buffer.from(pem.replaceAll(/-----[A-Z0-9 ]+-----|\s/g, ''), 'base64')
    const wrapped = (der: Uint8Array) =>
      `-----BEGIN TSS2 PRIVATE KEY-----\n${Buffer.from(der).toString('base64')}\n-----END TSS2 PRIVATE KEY-----\n`
    const withPassword = Buffer.from(body)
    withPassword[body.indexOf(Buffer.from('a0030101', 'hex')) + 4] = 0
    expect(readKeyFile(wrapped(withPassword))).toBeUndefined()
    fc.assert(
      fc.property(fc.nat(body.length - 1), fc.integer({ min: 0, max: 255 }), fc.nat(body.length), (at, byte, cut) => {
        const changed = Buffer.from(body)
        changed[at] = byte
        readKeyFile(wrapped(changed.subarray(0, cut)))
      }),
      { numRuns: 2000 },
    )
  })
})

describe('assay agent key', () => {
  const key = (...args: string[]) => agent({ ASSAY_TPM: swtpm.spec }, 'key', ...args)

  test('makes a key, a certificate and a request for one', async () => {
    await using place = await folder()
    const files = ['--certificate', place.at('cert.pem'), '--request', place.at('request.pem')]
    const { code, out, err } = await key(place.at('key.pem'), ...files, '--name', 'build-17', '--days', '30')
    expect({ code, err }).toEqual({ code: 0, err: '' })
    expect((await stat(place.at('key.pem'))).mode & 0o777).toBe(0o600)
    const certificate = new X509Certificate(await readFile(place.at('cert.pem')))
    expect(certificate.subject).toBe('CN=build-17')
    expect(certificate.ca).toBe(false)
    expect(certificate.keyUsage).toEqual(['1.3.6.1.5.5.7.3.2'])
    expect(certificate.verify(certificate.publicKey)).toBe(true)
    const days = (Date.parse(certificate.validTo) - Date.parse(certificate.validFrom)) / 86_400_000
    expect(days).toBe(30)
    expect(out).toContain(await calculateJwkThumbprint(certificate.publicKey.export({ format: 'jwk' }) as Record<string, string>))
    const verified = await run('openssl', ['verify', '-x509_strict', '-CAfile', place.at('cert.pem'), place.at('cert.pem')])
    expect(verified.code).toBe(0)
    const request = await run('openssl', ['req', '-in', place.at('request.pem'), '-noout', '-verify', '-subject'])
    expect(request).toMatchObject({ code: 0, stdout: expect.stringMatching(/CN ?= ?build-17/) as string })
  })

  test('does not replace one that is there, but makes a certificate of it', async () => {
    await using place = await folder()
    const file = place.at('key.pem')
    expect((await key(file)).code).toBe(0)
    const before = await readFile(file, 'utf8')
    expect(await key(file)).toMatchObject({ code: exits.usage.code, err: expect.stringContaining('is there already') as string })
    const { code, out } = await key(file, '--certificate', place.at('cert.pem'))
    expect(code).toBe(0)
    expect(out).toMatch(/certificate/)
    for (const others of [
      ['--certificate', file],
      ['--request', place.at('./x/../key.pem')],
      ['--certificate', place.at('one.pem'), '--request', place.at('one.pem')],
    ])
      expect(await key(file, ...others)).toMatchObject({
        code: exits.usage.code,
        err: expect.stringContaining('a file for each') as string,
      })
    expect(await readFile(file, 'utf8')).toBe(before)
  })

  test('says what is wrong with a file that is none', async () => {
    await using place = await folder()
    await writeFile(place.at('none.pem'), 'nothing')
    const { code, err } = await key(place.at('none.pem'), '--certificate', place.at('cert.pem'))
    expect({ code, err }).toEqual({
      code: exits.file.code,
      err: expect.stringContaining('there is no key of a TPM in') as string,
    })
    const proof = await agent({ ASSAY_TPM: swtpm.spec }, 'dpop', 'GET', 'https://a.example/', '--key', place.at('none.pem'))
    expect(proof.code).toBe(exits.file.code)
  })

  test('has its key used for DPoP proofs', async () => {
    await using place = await folder()
    const { out } = await key(place.at('key.pem'))
    const proof = await agent({ ASSAY_TPM: swtpm.spec }, 'dpop', 'GET', 'https://a.example/', '--key', place.at('key.pem'))
    const header = JSON.parse(Buffer.from(proof.out.split('.')[0] ?? '', 'base64url').toString()) as {
      jwk: Record<string, string>
    }
    expect(out).toContain(await calculateJwkThumbprint(header.jwk))
  })
})

test('an owner with a password is not asked for it: such a TPM says so', async () => {
  await using other = await startSwtpm()
  await tool(other, 'tpm2_changeauth', '-c', 'o', 'owner secret')
  await using attester = await openAttester({ tpm: other.spec, ...world })
  await expect(attester.createKey()).rejects.toMatchObject({
    symbol: 'TPM_RC_BAD_AUTH',
    message: expect.stringContaining('owner hierarchy'),
  })
})
