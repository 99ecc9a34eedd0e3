import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { alg, handle } from '#attestation'
import { loadEk } from '../../agent/endorsement.ts'
import type { EkKind } from '../../agent/kinds.ts'
import {
  createPrimary,
  getRandom,
  type LoadedKey,
  quote,
  readNv,
  readNvPublic,
  type SaltedSession,
  sign,
  startHmacSession,
} from '../../agent/tpm/commands.ts'
import { password } from '../../agent/tpm/password.ts'
import { akTemplates, boundKeyTemplate, ekTemplates } from '../../agent/tpm/templates.ts'
import { type Tpm, tpmOver } from '../../agent/tpm/tpm.ts'
import { openTransport } from '../../agent/tpm/transport.ts'
import { type Swtpm, startSwtpm } from '../harness/swtpm.ts'
import { type Recorder, record } from './recorder.ts'
import { leftovers } from './tools.ts'

let swtpm: Swtpm
beforeAll(async () => {
  swtpm = await startSwtpm({ p256: true })
})
afterAll(() => swtpm?.stop())

type Bench = { readonly tpm: Tpm; readonly wire: Recorder; readonly session: SaltedSession }

/** Runs `work` with a session that is salted with this EK; whatever happens in it, nothing may stay loaded. */
async function withSession(ek: EkKind, work: (bench: Bench) => Promise<void>): Promise<void> {
  {
    const wire = record(await openTransport(swtpm.spec))
    await using tpm = tpmOver(wire)
    await using session = await salted(tpm, ek)
    await work({ tpm, wire, session })
  }
  expect(await leftovers(swtpm)).toEqual([])
}

async function salted(tpm: Tpm, ek: EkKind): Promise<SaltedSession> {
  await using key = await loadEk(tpm, ek, password())
  return await startHmacSession(tpm, key, randomBytes)
}

const primary = (tpm: Tpm, template: Uint8Array): Promise<LoadedKey> => createPrimary(tpm, handle.ENDORSEMENT, template)
const isOnWire = ({ commands, responses }: Recorder, secret: Buffer) =>
  [...commands, ...responses].some(message => message.includes(secret))

describe.each(['rsa-2048', 'p-256', 'p-384'] as const)('a session salted with a %s EK', ek => {
  test('hides what the TPM gives', async () => {
    await withSession(ek, async ({ tpm, wire, session }) => {
      const hidden = await getRandom(tpm, 32, session.use({ hideResponse: true }))
      expect(isOnWire(wire, hidden)).toBe(false)
      const plain = await getRandom(tpm, 32)
      expect(isOnWire(wire, plain)).toBe(true)
    })
  })

  test('hides what the TPM is given, and authorises the key', async () => {
    await withSession(ek, async ({ tpm, wire, session }) => {
      await using ak = await primary(tpm, akTemplates['ecdsa-p256'])
      const nonce = randomBytes(32)
      const { attest } = await quote(tpm, ak, { sha256: [0] }, nonce, session.use({ hideCommand: true, hideResponse: true }))
      expect(attest.includes(nonce)).toBe(true)
      expect(isOnWire(wire, nonce)).toBe(false)
      await using key = await primary(tpm, boundKeyTemplate)
      const digest = randomBytes(32)
      expect((await sign(tpm, key, digest, session.use({ hideCommand: true }))).readUInt16BE(0)).toBe(alg.ECDSA)
      expect(isOnWire(wire, digest)).toBe(false)
    })
  })

  test('hides NV memory, piece by piece', async () => {
    await withSession(ek, async ({ tpm, wire, session }) => {
      const index = await readNvPublic(tpm, ekTemplates[ek].certificate)
      const certificate = await readNv(tpm, index, () => session.use({ hideResponse: true }))
      expect(certificate.readUInt16BE(0)).toBe(0x3082)
      expect(isOnWire(wire, certificate.subarray(100, 132))).toBe(false)
    })
  })
})

describe('a session refuses', () => {
  test('an answer of which a bit was changed', async () => {
    await withSession('p-256', async ({ tpm, wire, session }) => {
      wire.tamper = response => {
        response.writeUInt8(response.readUInt8(20) ^ 1, 20) // within the random bytes
        return response
      }
      await expect(getRandom(tpm, 32, session.use({ hideResponse: true }))).rejects.toMatchObject({ symbol: 'RESPONSE_HMAC' })
    })
  })

  test('an answer to an earlier command', async () => {
    await withSession('p-256', async ({ tpm, wire, session }) => {
      await getRandom(tpm, 32, session.use({ hideResponse: true }))
      const earlier = wire.responses.at(-1) ?? Buffer.alloc(0)
      wire.tamper = () => earlier
      await expect(getRandom(tpm, 32, session.use({ hideResponse: true }))).rejects.toMatchObject({ symbol: 'RESPONSE_HMAC' })
    })
  })

  test('an answer without its session', async () => {
    await withSession('p-256', async ({ tpm, wire, session }) => {
      const plain = Buffer.concat([Buffer.from('80010000002c000000000020', 'hex'), Buffer.alloc(32)])
      wire.tamper = () => plain
      await expect(getRandom(tpm, 32, session.use({ hideResponse: true }))).rejects.toMatchObject({ symbol: 'MALFORMED' })
    })
  })

  test('nothing else: it goes on after the TPM has refused a command', async () => {
    await withSession('p-256', async ({ tpm, session }) => {
      await using ak = await primary(tpm, akTemplates['ecdsa-p256'])
      await expect(quote(tpm, ak, { sha256: [0] }, Buffer.alloc(100), session.use({ hideCommand: true }))).rejects.toMatchObject({
        symbol: 'TPM_RC_SIZE',
      })
      expect(await getRandom(tpm, 8, session.use({ hideResponse: true }))).toHaveLength(8)
    })
  })

  test('no two commands that were asked for at once', async () => {
    await withSession('p-256', async ({ tpm, session }) => {
      const sizes = [1, 2, 3, 4, 5, 6, 7, 8]
      const all = await Promise.all(sizes.map(size => getRandom(tpm, size, session.use({ hideResponse: true }))))
      expect(all.map(({ length }) => length)).toEqual(sizes)
    })
  })
})
