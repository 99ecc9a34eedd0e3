import { createHash, createPublicKey, randomBytes, verify, X509Certificate } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { calculateJwkThumbprint } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { admitAk, admitEk, authenticate, makeCredential, parsePcrTable, qualifiedNameOf, spkiOf, verifyEk } from '#attestation'
import { type Attester, openAttester } from '../../agent/attester.ts'
import { withoutPadding } from '../../agent/endorsement.ts'
import { akKinds, ekKinds } from '../../agent/kinds.ts'
import { extendPcr } from '../../agent/tpm/commands.ts'
import { TpmError } from '../../agent/tpm/errors.ts'
import { openTransport } from '../../agent/tpm/transport.ts'
import { type Swtpm, startSwtpm } from '../harness/swtpm.ts'
import { fakeTpm, response } from './fake_tpm.ts'
import { codeOf, type Recorder, record } from './recorder.ts'
import { folder, leftovers, openTpm, tool, world } from './tools.ts'

let swtpm: Swtpm
beforeAll(async () => {
  swtpm = await startSwtpm({ p256: true })
})
afterAll(() => swtpm?.stop())

const PCRS = [0, 1, 2, 3, 4, 5, 6, 7, 10, 16, 23]

/** As a verifier does: the AK's public area and Name, the quote's signature, its nonce, its place and its PCR digest. */
async function judged(attester: Attester) {
  const key = await attester.attestationKey()
  const qualifyingData = randomBytes(32)
  const { attest, signature, pcrs } = await attester.quote({ sha256: PCRS }, qualifyingData)
  const ak = admitAk(key.public)
  if (!ak.ok) throw new Error(ak.detail)
  const qualifiedSigner = qualifiedNameOf('endorsement', ak.value.name)
  const quote = authenticate({ attest, signature }, { ak: ak.value, qualifyingData, qualifiedSigner })
  const table = parsePcrTable(pcrs)
  if (!quote.ok || !table.ok) throw new Error('the quote does not verify')
  const values = [...(table.value.get('sha256')?.values() ?? [])]
  const digest = createHash(ak.value.hash).update(Buffer.concat(values)).digest()
  return { ak: ak.value, name: key.name, quote: quote.value, digest, evidence: { attest, signature, qualifyingData } }
}

describe.each(akKinds)('a quote by an attestation key of kind %s', ak => {
  test('is what a verifier wants', async () => {
    await using attester = await openAttester({ tpm: swtpm.spec, ak, ...world })
    const { ak: admitted, name, quote, digest } = await judged(attester)
    expect(admitted.name).toEqual(name)
    expect(quote.pcrDigest).toEqual(digest)
    expect(quote.selection).toEqual([{ bank: 'sha256', mask: PCRS.reduce((mask, pcr) => mask | (1 << pcr), 0) }])
  })

  test('is accepted by tpm2_checkquote', async () => {
    await using place = await folder()
    const { ak: admitted, evidence } = await (async () => {
      await using attester = await openAttester({ tpm: swtpm.spec, ak, ...world })
      return await judged(attester)
    })()
    await writeFile(place.at('ak.pem'), admitted.key.export({ type: 'spki', format: 'pem' }))
    await writeFile(place.at('attest'), evidence.attest)
    await writeFile(place.at('signature'), evidence.signature)
    const files = ['-u', place.at('ak.pem'), '-m', place.at('attest'), '-s', place.at('signature')]
    const check = (nonce: Buffer) => tool(swtpm, 'tpm2_checkquote', ...files, '-q', nonce.toString('hex'), '-g', admitted.hash)
    await check(evidence.qualifyingData)
    await expect(check(randomBytes(32))).rejects.toThrow(/nonce/i)
  })
})

describe.each(ekKinds)('an endorsement key of kind %s', ek => {
  test('comes from its template, with its certificate, and opens what was made for it', async () => {
    await using attester = await openAttester({ tpm: swtpm.spec, ek, ...world })
    const { public: area, certificate } = await attester.endorsement()
    const admitted = admitEk(area)
    if (!admitted.ok) throw new Error(admitted.detail)
    expect(admitted.value.kind).toBe(ek)
    const anchors = [swtpm.rootCaPem].map(pem => new X509Certificate(pem).raw)
    const intermediates = [new X509Certificate(swtpm.issuerPem).raw]
    const trusted = await verifyEk({ certificate, public: area, intermediates }, { anchors, at: new Date(), allowTestTpms: true })
    expect(trusted).toMatchObject({ ok: true, value: { id: admitted.value.id } })
    const { name } = await attester.attestationKey()
    const secret = randomBytes(32)
    const { credentialBlob, encryptedSecret } = makeCredential({ ek: admitted.value, akName: name, secret, random: randomBytes })
    expect(await attester.activate(credentialBlob, encryptedSecret)).toEqual(secret)
  })

  test('is made anew, and is the same, where the TPM keeps none ready', async () => {
    const kept = await publicOf(swtpm.spec)
    const handle = { 'rsa-2048': '0x81010001', 'p-256': undefined, 'p-384': '0x81010016' }[ek]
    if (handle !== undefined) await tool(swtpm, 'tpm2_evictcontrol', '-C', 'o', '-c', handle)
    expect(await publicOf(swtpm.spec)).toEqual(kept)
  })

  async function publicOf(tpm: string): Promise<Buffer> {
    await using attester = await openAttester({ tpm, ek, ...world })
    const admitted = admitEk((await attester.endorsement()).public)
    if (!admitted.ok) throw new Error(admitted.detail)
    return spkiOf(admitted.value.public)
  }
})

describe('the secret of an activation', () => {
  test('and the nonce of a quote are not on the wire', async () => {
    const wire = record(await openTransport(swtpm.spec))
    await using attester = await openAttester({ tpm: wire, ...world })
    const ek = admitEk((await attester.endorsement()).public)
    if (!ek.ok) throw new Error(ek.detail)
    const [secret, nonce] = [randomBytes(32), randomBytes(32)]
    const akName = (await attester.attestationKey()).name
    const made = makeCredential({ ek: ek.value, akName, secret, random: randomBytes })
    expect(await attester.activate(made.credentialBlob, made.encryptedSecret)).toEqual(secret)
    await attester.quote({ sha256: [0] }, nonce)
    for (const message of [...wire.commands, ...wire.responses]) {
      expect(message.includes(secret)).toBe(false)
      expect(message.includes(nonce)).toBe(false)
    }
  })
})

describe('the key to bind', () => {
  test('is on P-256, never the attestation key, and the same each time', async () => {
    const seen = async (tpm: string) => {
      await using attester = await openAttester({ tpm, ...world })
      return { ...(await attester.boundKey()), ak: (await attester.attestationKey()).public }
    }
    const first = await seen(swtpm.spec)
    expect(await seen(`tcti:${swtpm.tcti}`)).toEqual(first)
    expect(first.thumbprint).toBe(await calculateJwkThumbprint(first.jwk, 'sha256'))
    expect(first.ak.includes(Buffer.from(first.jwk.x, 'base64url'))).toBe(false)
  })

  test('signs what it is given', async () => {
    await using attester = await openAttester({ tpm: swtpm.spec, ...world })
    const { jwk } = await attester.boundKey()
    const key = createPublicKey({ key: jwk, format: 'jwk' })
    for (let times = 0; times < 20; times++) {
      const data = randomBytes(times * 10)
      expect(verify('sha256', data, { key, dsaEncoding: 'ieee-p1363' }, await attester.sign(data))).toBe(true)
    }
  })
})

describe('PCRs', () => {
  test('that change while they are quoted are quoted again', async () => {
    const wire = record(await openTransport(swtpm.spec))
    await using attester = await openAttester({ tpm: wire, ...world })
    await attester.attestationKey()
    let quotes = 0
    const plain = wire.transmit
    wire.transmit = command => extendBefore(command, plain, () => quotes++ === 0)
    const { quote, digest } = await judged(attester)
    expect(quotes).toBe(2)
    expect(quote.pcrDigest).toEqual(digest)
  })

  test('of a bank that is not there cannot be quoted', async () => {
    await using attester = await openAttester({ tpm: swtpm.spec, ...world })
    await expect(attester.quote({ sha384: [0] }, Buffer.alloc(32))).rejects.toMatchObject({ symbol: 'MISSING' })
  })

  /** Before the TPM sees a quote, something extends PCR 23. */
  async function extendBefore(command: Uint8Array, transmit: Recorder['transmit'], when: () => boolean): Promise<Buffer> {
    const extend = Buffer.from(`80020000004100000182000000170000000940000009000001000000000001000b${'ab'.repeat(32)}`, 'hex')
    if (codeOf(Buffer.from(command)) === 0x158 && when()) expect(codeOf(await transmit(extend))).toBe(0)
    return transmit(command)
  }
})

describe('trouble', () => {
  test('a TPM without this certificate says which one, and where it should be', async () => {
    await using other = await startSwtpm()
    await using attester = await openAttester({ tpm: other.spec, ek: 'p-256', ...world })
    await expect(attester.endorsement()).rejects.toMatchObject({
      symbol: 'MISSING',
      message: expect.stringContaining('0x1c0000a'),
    })
    const given = Buffer.from('a certificate from elsewhere')
    expect((await attester.endorsement(given)).certificate).toBe(given)
  })

  test('an endorsement hierarchy with an authorisation value wants it, and its value is not on the wire', async () => {
    await using other = await startSwtpm()
    const value = Buffer.from('endorsement secret')
    await tool(other, 'tpm2_changeauth', '-c', 'e', value.toString())
    await using without = await openAttester({ tpm: other.spec, ...world })
    await expect(without.attestationKey()).rejects.toMatchObject({
      symbol: 'TPM_RC_BAD_AUTH',
      message: expect.stringContaining('--endorsement-auth-file'),
    })
    await without.close()
    const wire = record(await openTransport(other.spec))
    await using attester = await openAttester({ tpm: wire, endorsementAuth: value, ...world })
    expect((await judged(attester)).quote.pcrDigest).toHaveLength(32)
    const ek = admitEk((await attester.endorsement()).public)
    if (!ek.ok) throw new Error(ek.detail)
    const akName = (await attester.attestationKey()).name
    const made = makeCredential({ ek: ek.value, akName, secret: Buffer.from('opened'), random: randomBytes })
    expect((await attester.activate(made.credentialBlob, made.encryptedSecret)).toString()).toBe('opened')
    expect(wire.commands.some(command => command.includes(value))).toBe(false)
  })

  test('a TPM that nothing started is started', async () => {
    await using tpm = await fakeTpm(command => response(codeOf(command) === 0x17a ? 0x100 : 0))
    await using _ = await openAttester({ tpm: tpm.spec, ...world })
    expect(tpm.received.map(codeOf)).toEqual([0x17a, 0x144])
  })

  test('a TPM that hangs is given up, and what is asked next fails at once', async () => {
    await using tpm = await fakeTpm(() => 'silence')
    await expect(openAttester({ tpm: tpm.spec, deadlineMs: 100, ...world })).rejects.toBeInstanceOf(TpmError)
  })
})

test('nothing stays loaded, whatever was done', async () => {
  for (const ek of ekKinds) {
    await using attester = await openAttester({ tpm: swtpm.spec, ek, ...world })
    await judged(attester)
    await attester.sign(Buffer.from('x'))
    await expect(attester.activate(Buffer.from('0000', 'hex'), Buffer.from('0000', 'hex'))).rejects.toBeInstanceOf(TpmError)
    await attester.close()
    expect(await leftovers(swtpm)).toEqual([])
  }
})

test('a PCR that was extended is quoted as it is', async () => {
  const read = async () => {
    await using attester = await openAttester({ tpm: swtpm.spec, ...world })
    return JSON.parse((await attester.quote({ sha256: [16] }, Buffer.alloc(32))).pcrs) as { sha256: { 16: string } }
  }
  const before = await read()
  {
    await using tpm = await openTpm(swtpm)
    await extendPcr(tpm, 16, 'sha256', Buffer.alloc(32, 1))
  }
  const expected = createHash('sha256').update(Buffer.from(before.sha256[16], 'hex')).update(Buffer.alloc(32, 1)).digest('hex')
  expect(await read()).toEqual({ sha256: { 16: expected } })
})

test.each([
  ['zeros', '00'],
  ['ones', 'ff'],
])('a certificate is cut from its padding of %s', (_, byte) => {
  const der = Buffer.concat([Buffer.from('30820100', 'hex'), Buffer.alloc(256, 7)])
  expect(withoutPadding(Buffer.concat([der, Buffer.from(byte.repeat(40), 'hex')]))).toEqual(der)
  expect(withoutPadding(der)).toEqual(der)
})
