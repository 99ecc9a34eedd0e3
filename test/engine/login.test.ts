import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { rates } from '../../engine/rate.ts'
import {
  configure,
  credsEvidence,
  dataOf,
  enrol,
  evidence,
  logIn,
  openTestBroker,
  outcomeOf,
  refusalOf,
  type TestBroker,
  THUMBPRINT,
} from '../fakes/broker.ts'
import { fakeMachine } from '../fakes/machine.ts'

const machine = fakeMachine({ label: 'enrolled' })
const other = fakeMachine({ label: 'other' })
const nobody = { token: '' }

let broker: TestBroker
beforeEach(async () => {
  broker = await openTestBroker()
  await configure(broker)
  await enrol(broker, machine)
})
afterEach(() => broker[Symbol.asyncDispose]())

const login = (sent: object) => broker.ask('update', 'auth/tpm-quote/login', sent, nobody)
const quoted = async (changes: Parameters<typeof machine.quote>[1]) => login(await evidence(broker, machine, { changes }))
const refusal = (asked: Promise<unknown>) => refusalOf(broker, asked)
const signatures = () => broker.vault.asked.filter(one => one.path.startsWith('transit/sign/')).length

describe('an attestation result', () => {
  test('becomes the metadata of the token, and only that of the login', async () => {
    const token = await logIn(broker, machine)
    expect(broker.vault.state.tokens.get(token)?.meta).toEqual({
      tpm_id: machine.tpmId,
      login_role: 'builder',
      ak_name: machine.akName.toString('hex'),
      key_thumbprint: THUMBPRINT,
      maker: 'id:49465800',
      reference: 'good',
      reference_version: '1',
      secure_boot: '',
      boot_log: 'false',
      ima: 'false',
      reset_count: '7',
      restart_count: '2',
      firmware_version: '2024012500120000',
      attested_at: String(broker.world.now() / 1000),
      epoch: '0',
      key_certified: 'false',
      x5t_s256: '',
    })
  })

  test('is a JWT for the mount behind ours, that lives for half a minute', async () => {
    await logIn(broker, machine)
    const { body, token } = broker.vault.asked.findLast(one => one.path === 'auth/tpm-quote/login') ?? {
      body: {} as Record<string, unknown>,
      token: '-',
    }
    expect(token).toBe('')
    const [head, claims] = String(body['jwt'])
      .split('.')
      .slice(0, 2)
      .map(part => JSON.parse(Buffer.from(part, 'base64url').toString()))
    const now = broker.world.now() / 1000
    const id = broker.broker.mounts.find('auth/tpm-quote')?.id
    expect(head).toEqual({ alg: 'ES256', kid: expect.stringMatching(/^[A-Za-z0-9_-]{43}$/), typ: 'JWT' })
    expect(claims).toMatchObject({
      iss: 'assay',
      aud: `assay/${id}`,
      sub: machine.tpmId,
      nbf: now - 5,
      exp: now + 25,
      cnf: { jkt: THUMBPRINT },
    })
    expect(claims).toMatchObject({
      eat_profile: 'urn:x-assay:eat:tpm2-quote:1',
      eat_nonce: expect.stringMatching(/^[\w-]{43}$/) as string,
      ueid: expect.stringMatching(/^A[\w-]{43}$/) as string,
      measres: [['tpm2-pcr', [['good@1', 'success']]]],
    })
  })

  test('that Vault does not take is a refusal on record, without a token', async () => {
    broker.vault.fault = ({ path }) => (path === 'auth/tpm-quote/login' ? { status: 400, body: { errors: ['CIDR'] } } : undefined)
    const sent = await evidence(broker, machine)
    await expect(login(sent)).rejects.toThrow(/^vault refused the login of this role$/)
    const [intent, outcome] = (await broker.records()).filter(one => one['operation'] === 'update' && one['path'] === 'login')
    expect([intent, outcome]).toMatchObject([{ type: 'intent' }, { type: 'outcome', result: 'failed' }])
    expect(outcome?.['txn']).toBe(intent?.['txn'])
  })

  test.each([{}, { auth: null }, { data: { client_token: 'x' } }])('to which Vault answers %j is no login', async body => {
    broker.vault.fault = ({ path }) => (path === 'auth/tpm-quote/login' ? { status: 200, body } : undefined)
    expect(await outcomeOf(logIn(broker, machine))).toBe('unavailable')
  })
})

describe('what a quote says of its boot', () => {
  test.each([
    ['CLOCK_REPLAY', { clock: 5n }],
    ['OLD_BOOT', { resetCount: 6, clock: 2n ** 60n }],
    ['CLOCK_NOT_SAFE', { safe: 0 }],
    ['FIRMWARE_CHANGED', { firmwareVersion: '2030010100000000' }],
  ] as const)('%s', async (code, changes) => {
    await logIn(broker, machine)
    expect(await refusal(quoted(changes))).toBe(code)
    await logIn(broker, machine)
  })

  test('may be that its clock is not safe where the role allows it: the order of boots and clocks counts all the same', async () => {
    await logIn(broker, machine)
    await broker.ask('update', 'auth/tpm-quote/role/builder', { allow_unsafe_clock: true })
    await quoted({ safe: 0, resetCount: 8, clock: 1n })
    await quoted({ safe: 0, resetCount: 8, clock: 2n })
    expect(await refusal(quoted({ safe: 0, resetCount: 8, clock: 2n }))).toBe('CLOCK_REPLAY')
    expect(await refusal(quoted({ safe: 0 }))).toBe('OLD_BOOT')
  })

  test('moves on with accepted quotes only', async () => {
    await logIn(broker, machine)
    expect(await refusal(quoted({ resetCount: 8, pcrDigest: Buffer.alloc(32) }))).toBe('PCR_DIGEST_MISMATCH')
    await logIn(broker, machine)
    await quoted({ resetCount: 8 })
    expect(await refusal(quoted({}))).toBe('OLD_BOOT')
  })

  test('is known to a replica that starts anew: an older boot is refused there too', async () => {
    await quoted({ resetCount: 9 })
    const boot = [...broker.vault.state.kv].filter(([path]) => path.includes('/boot/'))
    expect(boot.map(([, { value }]) => value)).toEqual([
      { value: { resetCount: 9, restartCount: 2, firmwareVersion: '2024012500120000' } },
    ])
  })

  test('is written once by many first logins at the same time, and none of them fails for that', async () => {
    const sent = []
    for (let index = 0; index < 8; index++) sent.push(await evidence(broker, machine))
    // in the order in which the TPM made them, as its clock has to advance
    const ends = await Promise.all(sent.map(one => outcomeOf(login(one))))
    expect(ends.filter(end => end === 'OK').length).toBeGreaterThan(0)
    expect(ends.filter(end => !['OK', 'permission_denied'].includes(end))).toEqual([])
    expect([...broker.vault.state.kv].filter(([path]) => path.includes('/boot/')).map(([, kept]) => kept.version)).toEqual([1])
  })
})

test('of two first quotes that name different boots, judged at the same time, the older one gets nothing', async () => {
  const [older, newer] = [await evidence(broker, machine), await evidence(broker, machine, { changes: { resetCount: 8 } })]
  const gate = Promise.withResolvers<void>()
  const met = Promise.withResolvers<void>()
  broker.vault.fault = ({ method, path }) => {
    if (method !== 'POST' || !path.includes('/boot/')) return undefined
    broker.vault.fault = () => undefined
    met.resolve()
    return { after: gate.promise }
  }
  const first = outcomeOf(login(older))
  await met.promise
  expect(await outcomeOf(login(newer))).toBe('conflict')
  gate.resolve()
  expect(await refusal(first.then(end => Promise.reject(Object.assign(new Error(end), { code: end }))))).toBe('STALE_EPOCH')
  expect(await outcomeOf(quoted({ resetCount: 8 }))).toBe('OK')
})

describe('a credential with a quote of its own', () => {
  const asked = { plugin: 'kubernetes', scope: ['apps:read'] }

  test('uses up its challenge and binds the key that it names', async () => {
    await broker.ask('update', 'broker/role/deploy', { attestation: 'request' })
    const token = await logIn(broker, machine)
    const sent = { ...asked, ...(await credsEvidence(broker, machine, asked)) }
    const issued = dataOf(await broker.ask('update', 'broker/creds/deploy', sent, { token }))
    expect(issued).toMatchObject({ token_type: 'DPoP' })
    expect(await refusal(broker.ask('update', 'broker/creds/deploy', sent, { token }))).toBe('CHALLENGE_USED')
  })

  test('of who may not ask is not looked at: challenge and clock stay as they are', async () => {
    await broker.ask('update', 'broker/role/deploy', { attestation: 'request' })
    const token = await logIn(broker, machine)
    const record = broker.vault.state.tokens.get(token)
    const powerless = broker.vault.token({ path: 'auth/tpm-quote/login', meta: record?.meta ?? {}, allow: () => ['read'] })
    const sent = { ...asked, ...(await credsEvidence(broker, machine, asked)) }
    expect(await outcomeOf(broker.ask('update', 'broker/creds/deploy', sent, { token: powerless }))).toBe('permission_denied')
    await broker.ask('update', 'broker/creds/deploy', sent, { token })
  })

  test('in part is refused', async () => {
    const token = await logIn(broker, machine)
    const { signature, ...part } = await credsEvidence(broker, machine, asked)
    expect(signature).toBeDefined()
    expect(await outcomeOf(broker.ask('update', 'broker/creds/deploy', { ...asked, ...part }, { token }))).toBe('bad_request')
  })
})

describe('a machine that floods us', () => {
  test('with bad quotes slows down only itself', async () => {
    await enrol(broker, other)
    const bad = { ...(await evidence(broker, other)), signature: Buffer.alloc(70).toString('base64') }
    const ends = await Promise.all(Array.from({ length: 1000 }, () => outcomeOf(login(bad))))
    const limited = ends.filter(end => end === 'rate_limited').length
    expect(limited).toBe(1000 - rates.loginsOfAk.burst)
    expect(new Set(ends)).toEqual(new Set(['permission_denied', 'rate_limited']))
    await logIn(broker, machine)
    expect(await outcomeOf(logIn(broker, other))).toBe('rate_limited')
    broker.world.pass(1000)
    await logIn(broker, other)
  })

  test('with challenges, or offers, too; what is one too many is counted and is not on record', async () => {
    await logIn(broker, machine)
    const before = (await broker.records()).length
    const ask = { role: 'nobody', ak_name: machine.akName.toString('hex') }
    const elsewhere = { ...nobody, from: '192.0.2.1' }
    const challenges = await Promise.all(
      Array.from({ length: rates.challengesOfAk.burst + 5 }, () =>
        outcomeOf(broker.ask('update', 'auth/tpm-quote/challenge', ask, elsewhere)),
      ),
    )
    expect(challenges.filter(end => end === 'rate_limited')).toHaveLength(5)
    const offers = await Promise.all(
      Array.from({ length: 20 }, () => outcomeOf(broker.ask('update', 'auth/tpm-quote/enroll', machine.offer, nobody))),
    )
    expect(offers.filter(end => end === 'rate_limited')).toHaveLength(11)
    expect(await broker.broker.metrics.text()).toMatch(/assay_refusals_total\{code="rate_limited"\} 16/)
    const added = (await broker.records()).slice(before).filter(one => one['type'] === 'refusal')
    expect(added).toHaveLength(rates.challengesOfAk.burst)
  })

  test('with offers of TPMs that nobody has, is held up in all', async () => {
    const offers = Array.from({ length: rates.offers.burst + 50 }, (_, n) =>
      outcomeOf(
        broker.ask(
          'update',
          'auth/tpm-quote/enroll',
          { ...machine.offer, ek_public: Buffer.from(`${n}`).toString('base64') },
          { ...nobody, from: `192.0.2.${n % 100}` },
        ),
      ),
    )
    const ends = await Promise.all(offers)
    // one was the enrolment before this test
    expect(ends.filter(end => end === 'rate_limited')).toHaveLength(51)
  })
})

test('a refused login asks Vault for no signature and no token', async () => {
  const before = signatures()
  expect(await refusal(quoted({ pcrDigest: Buffer.alloc(32) }))).toBe('PCR_DIGEST_MISMATCH')
  expect(signatures()).toBe(before)
  expect(broker.vault.asked.filter(one => one.path === 'auth/tpm-quote/login')).toHaveLength(0)
})
