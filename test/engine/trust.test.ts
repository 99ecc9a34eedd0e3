import { describe, expect, test } from 'vitest'
import { pairOf } from '../attestation/attester.ts'
import {
  certifyEk,
  der,
  distributionPoint,
  EK_EXTENSIONS,
  extension,
  makeCa,
  makeList,
  named,
  oid,
  pem,
} from '../attestation/certificates.ts'
import { dataOf, enrol, logIn, outcomeOf } from '../fakes/broker.ts'
import { anchorPem, fakeMachine, maker } from '../fakes/machine.ts'
import { type Answer, list, listHost, revoked, trustWorld } from './trust_world.ts'

const machine = fakeMachine({ label: 'trusted' })
const MANY = 1000
const many = Array.from({ length: MANY }, (_, n) => makeCa(named(`Issuing CA ${n}`, 'Infineon Technologies AG'), {}, maker))
const bundle = many.map(ca => `# ${ca.subject.length}\n${pem(ca.certificate)}`).join('\n')

const { broker, write, read, remove, refusal } = trustWorld()
const sentence = (asked: Promise<unknown>) => asked.then(String, (error: Error) => error.message)
const parts = () => [...broker().vault.state.kv.keys()].filter(path => path.includes('/parts/')).length
const under = (ca: (typeof many)[number], label: string) => fakeMachine({ label, ca })

describe('a bundle of many makers', () => {
  test('is written as one, and every certificate in it is an anchor', async () => {
    expect(await write('ca/makers', { certificate: bundle })).toMatchObject({ reply: undefined })
    expect(await read('ca/makers')).toMatchObject({ certificate: bundle, anchors: expect.objectContaining({ length: MANY }) })
    for (const [at, ca] of [many[0], many[MANY - 1]].entries())
      expect(await outcomeOf(enrol(broker(), under(ca ?? maker, `in a bundle ${at}`)))).toBe('OK')
    expect(await refusal(enrol(broker(), machine))).toBe('BAD_CHAIN')
  })

  test('leaves nothing behind when it is replaced or deleted', async () => {
    await write('ca/makers', { certificate: bundle })
    expect(parts()).toBeGreaterThan(1)
    await write('ca/makers', { certificate: bundle.slice(0, bundle.length / 2).replace(/-----BEGIN(?![\s\S]*END)[\s\S]*$/, '') })
    expect(parts()).toBeLessThan(2)
    await write('ca/makers', { certificate: anchorPem() })
    expect(await outcomeOf(enrol(broker(), machine))).toBe('OK')
    await write('ca/makers', { certificate: bundle })
    await remove('ca/makers')
    expect(parts()).toBe(0)
    expect(dataOf(await broker().ask('list', 'auth/tpm-quote/ca'))['keys']).toEqual([])
  })

  test('of which something cannot be read is not written at all, and the places are told', async () => {
    const [first = maker, second = maker, third = maker] = many
    const broken = [first, second, third].map(({ certificate }) => pem(certificate))
    broken.splice(1, 0, '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n')
    broken.push('-----BEGIN CERTIFICATE-----\n<html>\n-----END CERTIFICATE-----\n', '-----BEGIN CERTIFICATE-----\nMIIB')
    expect(await sentence(write('ca/makers', { certificate: broken.join('') }))).toBe(
      'certificate: number 2 of the bundle cannot be read, number 5 of the bundle cannot be read, number 6 of the bundle cannot be read; nothing was written',
    )
    expect(await read('ca/makers')).toMatchObject({ certificate: anchorPem() })
    const all = Array.from({ length: 30 }, () => '-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n').join('')
    expect(await sentence(write('ca/makers', { certificate: all }))).toMatch(
      /number 20 of the bundle cannot be read, and 10 more; nothing/,
    )
  })

  test('in which one is twice counts it once, and says so', async () => {
    const twice = `${anchorPem()}${pem(many[0]?.certificate ?? maker.certificate)}${anchorPem()}`
    expect(await write('ca/makers', { certificate: twice })).toMatchObject({
      reply: { data: { certificates: 2 }, warnings: ['number 3 of the bundle is the same as number 1'] },
    })
    expect(await outcomeOf(enrol(broker(), machine))).toBe('OK')
  })
})

describe('revocation lists', () => {
  test('count where they are, and are wanted where the mount says so', async () => {
    expect(await outcomeOf(enrol(broker(), machine))).toBe('OK')
    expect(await read(`tpm/${machine.tpmId}`)).toMatchObject({ revocation: 'unknown' })
    await write('config', { crl: 'hard' })
    expect(await refusal(enrol(broker(), machine))).toBe('NO_CRL')
    await write('crl/maker', { crl: list() })
    expect(await outcomeOf(enrol(broker(), machine))).toBe('OK')
    expect(await read(`tpm/${machine.tpmId}`)).toMatchObject({ revocation: 'checked' })
    await write('crl/maker', { crl: list(revoked) })
    expect(await refusal(enrol(broker(), machine))).toBe('REVOKED')
    await write('config', { crl: 'soft' })
    expect(await refusal(enrol(broker(), machine))).toBe('REVOKED')
    await write('config', { crl: 'off' })
    expect(await outcomeOf(enrol(broker(), machine))).toBe('OK')
  })

  test('count against TPMs that enrolled before: what such a machine has is revoked, and it gets nothing', async () => {
    const other = fakeMachine({ label: 'neighbour', ca: makeCa(named('Second', 'Infineon Technologies AG')) })
    await write('ca/second', { certificate: anchorPem(other.ca) })
    await Promise.all([enrol(broker(), machine), enrol(broker(), other)])
    const [token, neighbour] = [await logIn(broker(), machine), await logIn(broker(), other)]
    const lives = (one: string) => broker().vault.state.tokens.has(one)
    await write('config', { crl: 'off' })
    await write('crl/maker', { crl: list(revoked) })
    await logIn(broker(), machine)
    await write('config', { crl: 'soft' })
    await expect.poll(() => lives(token)).toBe(false)
    expect(await read(`tpm/${machine.tpmId}`)).toMatchObject({ revocation: 'revoked', disabled: false })
    expect(await refusal(logIn(broker(), machine))).toBe('REVOKED')
    expect([lives(neighbour), await outcomeOf(logIn(broker(), other))]).toEqual([true, 'OK'])
    await remove('crl/maker')
    await expect.poll(() => outcomeOf(logIn(broker(), machine))).toBe('OK')
  })

  test('end: what was found good before is looked up again', async () => {
    await write('config', { crl: 'hard' })
    await write('crl/maker', { crl: list() })
    expect(await outcomeOf(enrol(broker(), machine))).toBe('OK')
    broker().world.pass(31 * 86_400_000)
    expect(await refusal(enrol(broker(), machine))).toBe('NO_CRL')
  })

  test('are shown by what is in them', async () => {
    await write('crl/maker', { crl: makeList(maker, revoked).toString('base64') })
    expect(await read('crl/maker')).toEqual({
      url: '',
      fetched_at: '',
      lists: [
        {
          issuer: 'Infineon Technologies AG, Infineon OPTIGA(TM) RSA Root CA',
          this_update: '2026-05-01T00:00:00.000Z',
          next_update: '2026-07-01T00:00:00.000Z',
          revoked: 1,
        },
      ],
    })
  })

  test.each([
    ['crl: wanted at least one revocation list in PEM', {}],
    ['crl: wanted PEM, or the base64 of DER', { crl: '<html>' }],
    ['crl: wanted revocation lists in PEM, or one in DER', { crl: 'AAAA' }],
    ['crl: number 1 of the bundle cannot be read; nothing was written', { crl: 'MAAw' }],
    ['url: wanted an http or https address without a user', { url: 'file:///etc/passwd' }],
    ['url: wanted an http or https address without a user', { url: 'http://a:b@crl.example/' }],
    ['url: its host is not in crl_hosts of the config', { url: 'http://169.254.169.254/latest' }],
    ['url: its host is not in crl_hosts of the config', { url: 'http://crl.example:8080/' }],
    ['url: wanted either the lists or where they are fetched from', { url: 'http://crl.example/', crl: list() }],
  ])('%s', async (words, given) => {
    await write('config', { crl_hosts: 'crl.example' })
    expect(await sentence(write('crl/maker', given))).toBe(words)
    expect(dataOf(await broker().ask('list', 'auth/tpm-quote/crl'))['keys']).toEqual([])
  })
})

describe('lists that are fetched', () => {
  async function host(answer: () => Answer) {
    const from = await listHost(answer)
    await write('config', { crl: 'hard', crl_hosts: from.place })
    return from
  }

  test('come from a host that the operator listed, in DER or PEM', async () => {
    let body: Buffer | string = makeList(maker)
    await using from = await host(() => ({ body }))
    await write('crl/maker', { url: from.url })
    expect(await outcomeOf(enrol(broker(), machine))).toBe('OK')
    body = pem(makeList(maker, { revoked: [{ serial: Buffer.of(1) }] }), 'X509 CRL')
    broker().world.pass(3_600_000)
    await outcomeOf(enrol(broker(), machine))
    await expect.poll(() => from.asked.length).toBe(2)
    await expect.poll(() => outcomeOf(enrol(broker(), machine))).toBe('permission_denied')
    expect(await read('crl/maker')).toMatchObject({ url: from.url, lists: [{ revoked: 1 }] })
  })

  test('where a certificate says that its issuer is, nobody is asked', async () => {
    await using from = await host(() => ({ body: maker.certificate }))
    const access = extension(
      '1.3.6.1.5.5.7.1.1',
      false,
      der(0x30, der(0x30, oid('1.3.6.1.5.5.7.48.2'), der(0x86, Buffer.from(from.url)))),
    )
    const stranger = makeCa(named('Unknown CA', 'Infineon Technologies AG'), {}, maker)
    const key = pairOf('rsa-2048', 'ek trusted').publicKey
    const pointing = certifyEk(stranger, key, { extensions: [...EK_EXTENSIONS, access, distributionPoint(from.url)] })
    const asked = { ...machine, offer: { ...machine.offer, ek_certificate: pointing.toString('base64') } }
    expect(await refusal(enrol(broker(), asked))).toBe('BAD_CHAIN')
    expect(from.asked).toEqual([])
  })

  test('one that has ended is fetched before anybody is refused', async () => {
    let nextUpdate = new Date('2026-06-02T00:00:00Z')
    await using from = await host(() => ({ body: makeList(maker, { nextUpdate }) }))
    await write('crl/maker', { url: from.url })
    nextUpdate = new Date('2026-07-01T00:00:00Z')
    broker().world.pass(2 * 86_400_000)
    expect(await outcomeOf(enrol(broker(), machine))).toBe('OK')
  })

  test('are fetched again after an hour also where the clock was ahead', async () => {
    await using from = await host(() => ({ body: makeList(maker, { nextUpdate: new Date('2028-01-01T00:00:00Z') }) }))
    broker().world.step(365 * 86_400_000)
    await write('crl/maker', { url: from.url })
    broker().world.step(-365 * 86_400_000)
    expect(await outcomeOf(enrol(broker(), machine))).toBe('OK')
    await expect.poll(() => from.asked.length).toBe(2)
    await expect.poll(async () => (await read('crl/maker'))['fetched_at']).toBe('2026-06-01T00:00:00.000Z')
    expect(await outcomeOf(enrol(broker(), machine))).toBe('OK')
    expect(from.asked.length).toBe(2)
  })

  test('a host that gives none, or points elsewhere, changes nothing', async () => {
    let answer: Answer = { body: makeList(maker) }
    await using from = await host(() => answer)
    await write('crl/maker', { url: from.url })
    const answers: Answer[] = [
      { status: 404 },
      { status: 302, headers: { location: from.url } },
      { body: '<html>' },
      { body: Buffer.alloc(9 * 1024 * 1024, 0x30) },
    ]
    for (const one of answers) {
      answer = one
      const before = from.asked.length
      expect(await outcomeOf(write('crl/other', { url: from.url }))).toMatch(/^(unavailable|bad_request)$/)
      expect(from.asked.length).toBe(before + 1)
    }
    broker().world.pass(3_600_000)
    expect(await outcomeOf(enrol(broker(), machine))).toBe('OK')
  })

  test('a host that gives none is asked once a minute, however many enrol', async () => {
    let answer: Answer = { body: makeList(maker, { nextUpdate: new Date('2026-06-02T00:00:00Z') }) }
    await using from = await host(() => answer)
    await write('crl/maker', { url: from.url })
    answer = { status: 503 }
    broker().world.pass(2 * 86_400_000)
    for (const label of ['one', 'two', 'three']) expect(await refusal(enrol(broker(), fakeMachine({ label })))).toBe('NO_CRL')
    expect(from.asked.length).toBe(2)
    broker().world.pass(60_000)
    expect(await refusal(enrol(broker(), fakeMachine({ label: 'one' })))).toBe('NO_CRL')
    expect(from.asked.length).toBe(3)
  })
})

describe('what else a mount can say of certificates', () => {
  const offerOf = (changes: Parameters<typeof certifyEk>[2], label: string) => ({
    ...fakeMachine({ label }),
    offer: {
      ...fakeMachine({ label }).offer,
      ek_certificate: certifyEk(maker, pairOf('rsa-2048', `ek ${label}`).publicKey, changes).toString('base64'),
    },
  })

  test('that their time may be over', async () => {
    const old = offerOf({ notAfter: new Date('2021-01-01T00:00:00Z') }, 'old')
    expect(await refusal(enrol(broker(), old))).toBe('CERT_EXPIRED')
    await write('config', { allow_expired_ek: true })
    expect(await outcomeOf(enrol(broker(), old))).toBe('OK')
  })

  test('that a maker may sign over SHA-1', async () => {
    const weak = offerOf({ hash: 'sha1' }, 'weak')
    expect(await refusal(enrol(broker(), weak))).toBe('WEAK_HASH')
    await write('config', { sha1_makers: 'id:53544D20' })
    expect(await refusal(enrol(broker(), weak))).toBe('WEAK_HASH')
    await write('config', { sha1_makers: 'id:49465800' })
    expect(await outcomeOf(enrol(broker(), weak))).toBe('OK')
  })
})
