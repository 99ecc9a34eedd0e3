import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { handle } from '#attestation'
import type { Attester } from '../../agent/attester.ts'
import type { Client, Reply } from '../../agent/client.ts'
import { AgentError } from '../../agent/exits.ts'
import { creds, enroll, login } from '../../agent/flow.ts'
import {
  activateCredential,
  create,
  createPrimary,
  getRandom,
  handlesFrom,
  load,
  nvBufferMax,
  quote,
  readNvPublic,
  readPcrs,
  readPublic,
  sign,
  startPolicySession,
} from '../../agent/tpm/commands.ts'
import { TpmError } from '../../agent/tpm/errors.ts'
import { hmacSession } from '../../agent/tpm/hmac_session.ts'
import { password } from '../../agent/tpm/password.ts'
import { boundKeyTemplate } from '../../agent/tpm/templates.ts'
import { entity, type Tpm, tpmOver } from '../../agent/tpm/tpm.ts'

/** A TPM that answers everything with these bytes behind a header that fits. */
function babbling(tag: number, code: number, body: Uint8Array): Tpm {
  const header = Buffer.alloc(10)
  header.writeUInt16BE(tag, 0)
  header.writeUInt32BE(10 + body.length, 2)
  header.writeUInt32BE(code, 6)
  const close = async () => {}
  return tpmOver({ transmit: async () => Buffer.concat([header, body]), close, [Symbol.asyncDispose]: close })
}

const some = entity(0x80000000)
const session = () =>
  hmacSession({ handle: 0x02000000, sessionKey: randomBytes(32), nonceTpm: randomBytes(32), random: randomBytes })
const commands: Record<string, (tpm: Tpm) => Promise<unknown>> = {
  CreatePrimary: tpm => createPrimary(tpm, handle.ENDORSEMENT, boundKeyTemplate),
  Create: tpm => create(tpm, some, boundKeyTemplate, password()),
  Load: tpm => load(tpm, some, { private: Buffer.alloc(2), public: Buffer.alloc(2) }, password()),
  ReadPublic: tpm => readPublic(tpm, 0x81010001),
  Sign: tpm => sign(tpm, some, Buffer.alloc(32)),
  ActivateCredential: tpm =>
    activateCredential(tpm, { ak: some, ek: some }, Buffer.alloc(2), Buffer.alloc(2), [password(), password()]),
  Quote: tpm => quote(tpm, some, { sha256: [0] }, Buffer.alloc(32)),
  PCR_Read: tpm => readPcrs(tpm, { sha256: [0, 1, 2, 3, 4, 5, 6, 7, 8] }),
  NV_ReadPublic: tpm => readNvPublic(tpm, 0x01c00002),
  StartAuthSession: tpm => startPolicySession(tpm, randomBytes),
  GetCapability: tpm => handlesFrom(tpm, 0x80000000),
  NV_BUFFER_MAX: tpm => nvBufferMax(tpm),
  GetRandom: tpm => getRandom(tpm, 32),
  'GetRandom, hidden': tpm => getRandom(tpm, 32, session().use({ hideResponse: true })),
}

const tags = fc.constantFrom(0x8001, 0x8002, 0x00c4)
/** Mostly small numbers, so that counts and sizes come out right at times. */
const bodies = fc.array(fc.oneof(fc.constantFrom(0, 1, 2, 4, 8, 11, 32), fc.integer({ min: 0, max: 255 })), { maxLength: 200 })

describe('a TPM that answers nonsense makes no other trouble than a TpmError', () => {
  test.each(Object.entries(commands))('to %s', async (_, ask) => {
    await fc.assert(
      fc.asyncProperty(tags, fc.oneof(fc.constant(0), fc.nat(0xffffffff)), bodies, async (tag, code, body) => {
        const failure = await ask(babbling(tag, code, Uint8Array.from(body))).then(
          () => undefined,
          (error: unknown) => error,
        )
        if (failure !== undefined) expect(failure).toBeInstanceOf(TpmError)
      }),
      { numRuns: 300 },
    )
  })
})

const attester: Attester = {
  endorsement: async () => ({ public: Buffer.alloc(1), certificate: Buffer.alloc(1) }),
  attestationKey: async () => ({ public: Buffer.alloc(1), name: Buffer.alloc(34) }),
  boundKey: async () => ({ jwk: { kty: 'EC', crv: 'P-256', x: '', y: '' }, spki: Buffer.alloc(1), thumbprint: 'x' }),
  certify: async () => ({ public: Buffer.alloc(1), attest: Buffer.alloc(1), signature: Buffer.alloc(1) }),
  createKey: async () => ({ parent: 1, public: Buffer.alloc(1), private: Buffer.alloc(1) }),
  activate: async () => Buffer.alloc(1),
  quote: async () => ({ attest: Buffer.alloc(1), signature: Buffer.alloc(1), pcrs: '{}' }),
  sign: async () => Buffer.alloc(64),
  dpopProof: async () => '',
  close: async () => {},
  [Symbol.asyncDispose]: async () => {},
}

/** Objects that have the members we look for, with any values, or miss them. */
const replies = fc.record(
  {
    data: fc.oneof(
      fc.anything(),
      fc.record(
        Object.fromEntries(
          [
            'challenge',
            'nonce',
            'pcrs',
            'logs',
            'credential_blob',
            'encrypted_secret',
            'enrollment',
            'tpm_id',
            'token',
            'expires_in',
          ].map(name => [name, fc.oneof(fc.jsonValue(), fc.constant({ sha256: [0] }), fc.constant('eA=='))]),
        ),
        { requiredKeys: [] },
      ),
    ),
    auth: fc.anything(),
  },
  { requiredKeys: [] },
)

test.each([{ logs: ['x'] }, { logs: ['tcg', 'x'] }, { logs: [{}] }, { logs: [['tcg']] }, { logs: 7 }, { logs: 'tcg' }])(
  'a service that wants other logs than there are, %j, gets none',
  async ({ logs }) => {
    const data = { challenge: 'eA==', nonce: 'eA==', pcrs: { sha256: [0] }, logs }
    const asked: string[] = []
    const client: Client = {
      post: async path => {
        asked.push(path)
        return { data }
      },
    }
    const read = async () => expect.unreachable('a log was read')
    const work = login({ client, mounts: { auth: 'tpm-quote', broker: 'broker' } }, attester, {
      role: 'r',
      bind: false,
      logs: read,
    })
    await expect(work).rejects.toMatchObject({ exit: 'unavailable', message: expect.stringContaining("lacks 'logs'") as string })
    expect(asked).toEqual(['auth/tpm-quote/challenge'])
  },
)

test('a service that wants no logs gets none', async () => {
  const sent: object[] = []
  const data = { challenge: 'eA==', nonce: 'eA==', pcrs: { sha256: [0] }, logs: [] }
  const client: Client = {
    post: async (_, body) => {
      sent.push(body)
      return { data, auth: { client_token: 't' } }
    },
  }
  await login({ client, mounts: { auth: 'tpm-quote', broker: 'broker' } }, attester, { role: 'r', bind: false })
  expect(Object.keys(sent[1] ?? {})).not.toContain('event_log')
  expect(Object.keys(sent[1] ?? {})).not.toContain('ima_log')
})

test('a service that answers nonsense makes no other trouble than an AgentError', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(replies, { minLength: 3, maxLength: 3 }), async answers => {
      const next = () => (answers.length > 0 ? answers.shift() : {}) as Reply
      const client: Client = { post: async () => next() }
      const service = { client, mounts: { auth: 'tpm-quote', broker: 'broker' } }
      const asked = { role: 'r', scope: [] }
      for (const work of [
        () => enroll(service, attester, { intermediates: [] }),
        () => login(service, attester, { role: 'r', bind: true }),
        () => creds(service, asked, 't', { attester, role: 'r', bind: true }),
      ]) {
        const failure = await work().then(
          () => undefined,
          (error: unknown) => error,
        )
        if (failure !== undefined) expect(failure).toBeInstanceOf(AgentError)
      }
    }),
    { numRuns: 500 },
  )
})
