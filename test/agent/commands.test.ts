import { createHash, randomBytes, verify } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { admitEk, alg, handle, keyObjectOf, makeCredential, Reader } from '#attestation'
import { loadEk } from '../../agent/endorsement.ts'
import {
  activateCredential,
  certify,
  create,
  createPrimary,
  extendPcr,
  flushContext,
  getRandom,
  handlesFrom,
  type LoadedKey,
  load,
  policyOr,
  policySecret,
  quote,
  readNv,
  readNvPublic,
  readPcrs,
  readPublic,
  sign,
  startHmacSession,
  startPolicySession,
  startup,
} from '../../agent/tpm/commands.ts'
import { password } from '../../agent/tpm/password.ts'
import { rc } from '../../agent/tpm/response_codes.ts'
import { akTemplates, boundKeyTemplate } from '../../agent/tpm/templates.ts'
import { entity, type Tpm, tpmOver } from '../../agent/tpm/tpm.ts'
import { openTransport } from '../../agent/tpm/transport.ts'
import { type Swtpm, startSwtpm } from '../harness/swtpm.ts'
import { codeOf, type Recorder, record } from './recorder.ts'
import { folder, leftovers, openTpm, tool } from './tools.ts'

let swtpm: Swtpm
beforeAll(async () => {
  swtpm = await startSwtpm({ p256: true })
})
afterAll(() => swtpm?.stop())

const kinds = ['rsa-2048', 'p-256', 'p-384'] as const
const PCR_READ = 0x17e

async function recorded(): Promise<{ tpm: Tpm; wire: Recorder } & AsyncDisposable> {
  const wire = record(await openTransport(swtpm.spec))
  const tpm = tpmOver(wire)
  return { tpm, wire, [Symbol.asyncDispose]: () => tpm.close() }
}

describe('PCRs', () => {
  const all = Array.from({ length: 24 }, (_, pcr) => pcr)

  test('are read eight at a time, and as tpm2_pcrread does', async () => {
    await using place = await folder()
    const { tpm, wire, ...rest } = await recorded()
    await using _ = rest
    const values = (await readPcrs(tpm, { sha256: all })).sha256 ?? {}
    expect(wire.commands.map(codeOf)).toEqual([PCR_READ, PCR_READ, PCR_READ])
    await tpm.close()
    await tool(swtpm, 'tpm2_pcrread', `sha256:${all.join(',')}`, '-o', place.at('pcrs'))
    expect(Buffer.concat(all.map(pcr => values[pcr] ?? Buffer.alloc(0)))).toEqual(await readFile(place.at('pcrs')))
  })

  test('that change between two parts are read again', async () => {
    const { tpm, wire, ...rest } = await recorded()
    await using _ = rest
    let changes = 2
    wire.tamper = (response, command) => {
      if (codeOf(command) === PCR_READ && wire.commands.length > 1 && changes-- > 0) response.writeUInt32BE(changes + 7000, 10)
      return response
    }
    expect(Object.keys((await readPcrs(tpm, { sha256: all })).sha256 ?? {})).toHaveLength(24)
    expect(wire.commands).toHaveLength(2 + 2 + 3)
  })

  test('that never rest are given up', async () => {
    const { tpm, wire, ...rest } = await recorded()
    await using _ = rest
    wire.tamper = response => {
      response.writeUInt32BE(wire.commands.length, 10)
      return response
    }
    await expect(readPcrs(tpm, { sha256: all })).rejects.toMatchObject({ symbol: 'PCR_UNSTABLE' })
  })

  test('change by extension', async () => {
    await using tpm = await openTpm(swtpm)
    const before = (await readPcrs(tpm, { sha256: [16] })).sha256?.[16] ?? Buffer.alloc(0)
    const digest = randomBytes(32)
    await extendPcr(tpm, 16, 'sha256', digest)
    const after = createHash('sha256').update(before).update(digest).digest()
    expect((await readPcrs(tpm, { sha256: [16] })).sha256?.[16]).toEqual(after)
  })

  test('that were not asked for are no progress', async () => {
    const { tpm, wire, ...rest } = await recorded()
    await using _ = rest
    await readPcrs(tpm, { sha256: [9] })
    const nine = wire.responses.at(-1) ?? Buffer.alloc(0)
    wire.tamper = () => nine
    await expect(readPcrs(tpm, { sha256: [0] })).rejects.toMatchObject({ symbol: 'MISSING' })
  })

  test('of a bank that is not allocated are missing, aloud', async () => {
    await using tpm = await openTpm(swtpm)
    await expect(readPcrs(tpm, { sha384: [0] })).rejects.toMatchObject({
      symbol: 'MISSING',
      message: expect.stringContaining('bank'),
    })
    await expect(readPcrs(tpm, { sha256: [24] })).rejects.toThrow('there is no PCR 24')
  })
})

describe('NV memory', () => {
  test('is read in pieces no larger than the TPM gives, and as tpm2_nvread does', async () => {
    await using place = await folder()
    const content = randomBytes(2000)
    await writeFile(place.at('content'), content)
    await tool(swtpm, 'tpm2_nvdefine', '0x1500001', '-C', 'o', '-s', '2000', '-a', 'ownerwrite|ownerread|authread')
    await tool(swtpm, 'tpm2_nvwrite', '0x1500001', '-C', 'o', '-i', place.at('content'))
    await using tpm = await openTpm(swtpm)
    const index = await readNvPublic(tpm, 0x1500001)
    expect(index.size).toBe(2000)
    expect(await readNv(tpm, index)).toEqual(content)
  })

  test('that only the owner may read is read with the owner', async () => {
    await tool(swtpm, 'tpm2_nvdefine', '0x1500002', '-C', 'o', '-s', '4', '-a', 'ownerwrite|ownerread')
    await using place = await folder()
    await writeFile(place.at('content'), 'abcd')
    await tool(swtpm, 'tpm2_nvwrite', '0x1500002', '-C', 'o', '-i', place.at('content'))
    await using tpm = await openTpm(swtpm)
    expect((await readNv(tpm, await readNvPublic(tpm, 0x1500002))).toString()).toBe('abcd')
  })
})

describe('keys', () => {
  test('of the same template are the same key, and flushed when disposed of', async () => {
    await using tpm = await openTpm(swtpm)
    const names: string[] = []
    for (let times = 0; times < 4; times++) {
      await using key = await createPrimary(tpm, handle.ENDORSEMENT, boundKeyTemplate)
      names.push(key.name.toString('hex'))
      expect((await readPublic(tpm, key.handle)).name).toEqual(key.name)
    }
    expect(new Set(names).size).toBe(1)
    expect(await handlesFrom(tpm, 0x80000000)).toEqual([])
  })

  test('sign digests, and a restricted one refuses a digest that it did not make', async () => {
    await using tpm = await openTpm(swtpm)
    const digest = createHash('sha256').update('data').digest()
    await using key = await createPrimary(tpm, handle.ENDORSEMENT, boundKeyTemplate)
    const reader = new Reader(await sign(tpm, key, digest))
    expect([reader.u16(), reader.u16()]).toEqual([alg.ECDSA, alg.SHA256])
    const rs = Buffer.concat([reader.sized(), reader.sized()])
    expect(verify('sha256', Buffer.from('data'), { key: keyObjectOf(key.public), dsaEncoding: 'ieee-p1363' }, rs)).toBe(true)
    await using ak = await createPrimary(tpm, handle.ENDORSEMENT, akTemplates['ecdsa-p256'])
    await expect(sign(tpm, ak, digest)).rejects.toMatchObject({ code: 0x3e0, symbol: 'TPM_RC_TICKET' })
  })

  test('are certified by an attestation key', async () => {
    await using tpm = await openTpm(swtpm)
    await using key = await createPrimary(tpm, handle.ENDORSEMENT, boundKeyTemplate)
    await using ak = await createPrimary(tpm, handle.ENDORSEMENT, akTemplates['ecdsa-p256'])
    const { attest, signature } = await certify(tpm, key, ak, Buffer.from('nonce'))
    expect(attest.subarray(0, 6).toString('hex')).toBe('ff5443478017')
    expect(attest.includes(key.name)).toBe(true)
    expect(signature.readUInt16BE(0)).toBe(alg.ECDSA)
  })

  test('live under the endorsement key, whose policy is a secret of the hierarchy', async () => {
    await using tpm = await openTpm(swtpm)
    await using ek = await loadEk(tpm, 'p-256', password())
    await using first = await startPolicySession(tpm, randomBytes)
    await policySecret(tpm, first, entity(handle.ENDORSEMENT))
    const blobs = await create(tpm, ek, akTemplates['ecdsa-p256'], first.authorization)
    await using second = await startPolicySession(tpm, randomBytes)
    await expect(load(tpm, ek, blobs, second.authorization)).rejects.toMatchObject({ code: 0x99d })
    await policySecret(tpm, second, entity(handle.ENDORSEMENT))
    await using child = await load(tpm, ek, blobs, second.authorization)
    expect((await quote(tpm, child, { sha256: [0] }, Buffer.alloc(32))).attest.length).toBeGreaterThan(100)
  })

  test('of the high range take either branch of their policy', async () => {
    await using tpm = await openTpm(swtpm)
    await using session = await startPolicySession(tpm, randomBytes)
    await policySecret(tpm, session, entity(handle.ENDORSEMENT))
    await expect(policyOr(tpm, session, [Buffer.alloc(32, 1), Buffer.alloc(32, 2)])).rejects.toMatchObject({
      symbol: 'TPM_RC_VALUE',
    })
    const policyA = Buffer.from('837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa', 'hex')
    await expect(policyOr(tpm, session, [policyA, Buffer.alloc(32, 2)])).resolves.toBeUndefined()
  })
})

describe('a credential', () => {
  const akName = ({ name }: LoadedKey) => name

  async function activated(tpm: Tpm, kind: (typeof kinds)[number], ak: LoadedKey, blob: Uint8Array, encrypted: Uint8Array) {
    await using ek = await loadEk(tpm, kind, password())
    await using session = await startPolicySession(tpm, randomBytes)
    await policySecret(tpm, session, entity(handle.ENDORSEMENT))
    const authorization = kind === 'p-384' ? password() : session.authorization
    return await activateCredential(tpm, { ak, ek }, blob, encrypted, [password(), authorization])
  }

  test.each(kinds)('that we made for a %s EK opens', async kind => {
    await using tpm = await openTpm(swtpm)
    await using ak = await createPrimary(tpm, handle.ENDORSEMENT, akTemplates['ecdsa-p256'])
    const ek = admitEk((await publicOf(tpm, kind)).bytes)
    if (!ek.ok) throw new Error(ek.detail)
    const secret = randomBytes(32)
    const made = makeCredential({ ek: ek.value, akName: akName(ak), secret, random: randomBytes })
    expect(await activated(tpm, kind, ak, made.credentialBlob, made.encryptedSecret)).toEqual(secret)
    const other = makeCredential({ ek: ek.value, akName: randomBytes(34), secret, random: randomBytes })
    await expect(activated(tpm, kind, ak, other.credentialBlob, other.encryptedSecret)).rejects.toMatchObject({ code: 0x1df })
  })

  test.each(kinds)('that tpm2_makecredential made for a %s EK opens', async kind => {
    await using place = await folder()
    const tpm = await openTpm(swtpm)
    const ekPublic = (await publicOf(tpm, kind)).bytes
    const name = await nameOfAk(tpm)
    await tpm.close()
    const size = Buffer.alloc(2)
    size.writeUInt16BE(ekPublic.length)
    await writeFile(place.at('ek'), Buffer.concat([size, ekPublic]))
    await writeFile(place.at('secret'), 'a secret of theirs')
    await tool(
      swtpm,
      'tpm2_makecredential',
      '-u',
      place.at('ek'),
      '-s',
      place.at('secret'),
      '-n',
      name,
      '-o',
      place.at('credential'),
    )
    const made = await readFile(place.at('credential'))
    const end = 8 + 2 + made.readUInt16BE(8) // behind their magic and version
    await using again = await openTpm(swtpm)
    await using ak = await createPrimary(again, handle.ENDORSEMENT, akTemplates['ecdsa-p256'])
    expect((await activated(again, kind, ak, made.subarray(8, end), made.subarray(end))).toString()).toBe('a secret of theirs')
  })

  async function publicOf(tpm: Tpm, kind: (typeof kinds)[number]) {
    await using ek = await loadEk(tpm, kind, password())
    return ek.public
  }

  async function nameOfAk(tpm: Tpm): Promise<string> {
    await using ak = await createPrimary(tpm, handle.ENDORSEMENT, akTemplates['ecdsa-p256'])
    return akName(ak).toString('hex')
  }
})

describe('what goes wrong', () => {
  test('leaves nothing loaded', async () => {
    {
      await using tpm = await openTpm(swtpm)
      const work = async () => {
        await using ek = await loadEk(tpm, 'p-256', password())
        await using session = await startHmacSession(tpm, ek, randomBytes)
        await using policy = await startPolicySession(tpm, randomBytes)
        await using ak = await createPrimary(tpm, handle.ENDORSEMENT, akTemplates['ecdsa-p256'], session.use())
        await activateCredential(tpm, { ak, ek }, Buffer.alloc(2), Buffer.alloc(2), [session.use(), policy.authorization])
      }
      await expect(work()).rejects.toMatchObject({ name: 'TpmError' })
    }
    expect(await leftovers(swtpm)).toEqual([])
  })

  test('a fourth key has no room, and the message says what to do', async () => {
    await using tpm = await openTpm(swtpm)
    const primary = () => createPrimary(tpm, handle.ENDORSEMENT, boundKeyTemplate)
    await using _ = await primary()
    await using __ = await primary()
    await using ___ = await primary()
    await expect(primary()).rejects.toMatchObject({
      code: rc.OBJECT_MEMORY,
      message: expect.stringContaining('tpm2_flushcontext'),
    })
  })
})

test('to start a TPM that is started is no error', async () => {
  await using tpm = await openTpm(swtpm)
  await expect(startup(tpm)).resolves.toBeUndefined() // TPM_RC_INITIALIZE: the harness did
})

test('random bytes differ, and a key that is flushed twice is an error of the TPM', async () => {
  await using tpm = await openTpm(swtpm)
  expect(await getRandom(tpm, 32)).not.toEqual(await getRandom(tpm, 32))
  const key = await createPrimary(tpm, handle.ENDORSEMENT, boundKeyTemplate)
  await flushContext(tpm, key.handle)
  await expect(flushContext(tpm, key.handle)).rejects.toMatchObject({ symbol: 'TPM_RC_HANDLE' })
})
