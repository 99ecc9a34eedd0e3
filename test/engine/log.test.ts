import { generateKeyPairSync } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { threadCpuUsage } from 'node:process'
import fc from 'fast-check'
import { describe, expect, onTestFinished, test } from 'vitest'
import { BrokerError } from '../../engine/errors.ts'
import { type Level, levels, openLog } from '../../engine/log.ts'
import { openScrubber } from '../../engine/scrubber.ts'
import { Secret } from '../../engine/secret.ts'
import { run } from '../harness/process.ts'

function captured(level: Level | 'silent' = 'info', scrubber = openScrubber()) {
  const lines: string[] = []
  const log = openLog({ level, scrubber, write: line => lines.push(line) })
  const last = () => JSON.parse(lines.at(-1) ?? 'null') as Record<string, unknown>
  return { log, scrubber, lines, last, text: () => lines.join('') }
}

describe('a line', () => {
  test('is one JSON object with time, level, fields and message', () => {
    const { log, last, lines } = captured()
    log.info({ mount: 'broker/', count: 3 }, 'a mount was enabled')
    expect(last()).toEqual({
      level: 'info',
      time: expect.stringMatching(/^\d{4}-.*Z$/),
      mount: 'broker/',
      count: 3,
      msg: 'a mount was enabled',
    })
    expect(lines[0]).toMatch(/^\{.*\}\n$/)
    log.warn('only a message')
    expect(last()).toMatchObject({ level: 'warn', msg: 'only a message' })
  })

  test('is written from its level on', () => {
    for (const [at, level] of levels.entries()) {
      const { log, lines } = captured(level)
      for (const one of levels) log[one]('text')
      expect(lines).toHaveLength(levels.length - at)
    }
    const { log, lines } = captured('silent')
    log.fatal('text')
    expect(lines).toEqual([])
  })

  test('of a child has its fields too', () => {
    const { log, last } = captured()
    log
      .child({ txn: 't', deep: { error: new Error('canary cause') } })
      .child({ mount: 'm/', key: new Secret('canary') })
      .info({ a: 1 }, 'text')
    expect(last()).toMatchObject({
      txn: 't',
      mount: 'm/',
      a: 1,
      key: '[secret]',
      deep: { error: { name: 'Error', message: 'canary cause' } },
    })
  })

  test('says of bytes only how many they are', () => {
    const { log, last } = captured()
    log.info({ buffer: Buffer.from('canary'), array: new Uint8Array(3), raw: new ArrayBuffer(2) }, 'text')
    expect(last()).toMatchObject({ buffer: '[6 bytes]', array: '[3 bytes]', raw: '[2 bytes]' })
  })

  test('is bounded, whatever it is given', () => {
    const { log, lines } = captured()
    const circular: Record<string, unknown> = {}
    circular['self'] = circular
    log.info({ circular, long: 'x'.repeat(100_000), many: Array.from({ length: 10_000 }, (_, at) => at), big: 1n }, 'text')
    expect(lines[0]?.length).toBeLessThan(10_000)
  })
})

describe('an error', () => {
  test('is its name, message and code, wherever it is', () => {
    const { log, last } = captured()
    const cause = Object.assign(new Error('canary cause'), { body: 'canary body' })
    const error = Object.assign(new BrokerError('unavailable', 'vault did not answer', { cause }), {
      config: { headers: { token: 'canary' } },
    })
    const shown = { name: 'BrokerError', message: 'vault did not answer', code: 'unavailable' }
    log.error({ error, mount: 'm/' }, 'text')
    expect(last()).toMatchObject({ error: shown, mount: 'm/', msg: 'text' })
    log.error({ err: error, deep: [{ error }] }, 'text')
    expect(last()['err']).toEqual(shown)
    expect(last()['deep']).toEqual([{ error: shown }])
    log.error(error)
    expect(last()).toMatchObject({ error: shown })
    log.error(error, 'text')
    expect(last()).toMatchObject({ error: shown, msg: 'text' })
    expect(JSON.stringify(last())).not.toMatch(/canary|stack|log\.test/)
  })

  test('has its stack at debug level, and still no cause', () => {
    const { log, last } = captured('debug')
    log.info({ error: new Error('text', { cause: new Error('canary') }) }, 'text')
    expect(last()).toMatchObject({ error: { stack: expect.stringContaining('log.test.ts') } })
    expect(JSON.stringify(last())).not.toContain('canary')
  })
})

const pem = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
const jwt = `eyJhbGciOiJFUzI1NiJ9.${'eyJzdWIiOiJjYW5hcnkifQ'.repeat(3)}.${'c2lnbmF0dXJl'.repeat(4)}`

/** Every way in which a secret has got into a log somewhere: each puts `value` into a line. */
const ways: Readonly<Record<string, (log: ReturnType<typeof openLog>, value: string) => void>> = {
  'a field': (log, value) => log.info({ token: value }, 'text'),
  'a nested field': (log, value) => log.info({ a: { b: [{ C: { d: value } }] } }, 'text'),
  'the name of a field': (log, value) => log.info({ [value]: 1 }, 'text'),
  'the message': (log, value) => log.info(`no such token: ${value}.`),
  'a message on a new line': (log, value) => log.info(`no such token:\n${value}\nmore`),
  'an error': (log, value) => log.error({ error: new Error(`refused ${value}`) }, 'text'),
  'the cause of an error': (log, value) => log.error({ error: new Error('refused', { cause: new Error(value) }) }, 'text'),
  'the body of an error': (log, value) =>
    log.error({ error: Object.assign(new Error('refused'), { response: { body: value } }) }, 'text'),
  'the stack of an error': (log, value) =>
    log.error(Object.assign(new Error('refused'), { stack: `Error: ${value}\n    at here` })),
  'the code of an error': (log, value) => log.error(Object.assign(new Error('refused'), { code: value })),
  'the query of a URL': (log, value) => log.info({ url: `https://host/v1/path?token=${encodeURIComponent(value)}&a=b` }, 'text'),
  'a URL object': (log, value) => log.info({ url: new URL(`https://host/?token=${encodeURIComponent(value)}`) }, 'text'),
  'JSON in a field': (log, value) => log.info({ body: JSON.stringify({ auth: { client_token: value } }) }, 'text'),
  'a header': (log, value) => log.info({ headers: { 'X-Vault-Token': value, cookie: `a=b; s=${value}` } }, 'text'),
  'a child': (log, value) => log.child({ a: { token: value } }).info('text'),
  bytes: (log, value) => log.info({ bytes: Buffer.from(value), more: new Uint8Array(Buffer.from(value)) }, 'text'),
  'two fields': (log, value) => log.info({ one: value.slice(0, value.length / 2), other: value.slice(value.length / 2) }, 'text'),
  'an argument list': (log, value) => log.info({ argv: ['curl', '-H', `X-Vault-Token: ${value}`] }, 'text'),
  'a Secret': (log, value) =>
    log.info({ token: new Secret(value), deep: [new Secret(value)], text: String(new Secret(value)) }, 'text'),
}

const canaries = {
  'a random value': 'vK8sQp2_canary-Zr41mXo0Lw7Tq9',
  'a password with signs': 'p"ss\\w/rd+canary=%&\u00e9 Zr41',
  'a private key': pem,
  'a JWT': jwt,
  'a Vault token': 'hvs.CAESIcanary0123456789abcdefghijABCDEFGHIJ',
}

/** No piece of 16 characters of the value is in the text, however it is spelled. */
function expectNone(text: string, value: string): void {
  const pieces = [value, JSON.stringify(value).slice(1, -1), encodeURIComponent(value)]
  for (const piece of pieces) for (let at = 0; at + 16 <= piece.length; at++) expect(text).not.toContain(piece.slice(at, at + 16))
  expect(text).not.toContain('canary')
}

describe('a registered secret', () => {
  for (const [what, value] of Object.entries(canaries))
    for (const [where, write] of Object.entries(ways))
      for (const level of ['info', 'debug'] as const)
        test(`${what} in ${where} at ${level} level is not in the log`, () => {
          const { log, scrubber, lines, text } = captured(level)
          scrubber.add(new Secret(value))
          write(log, value)
          expect(lines).toHaveLength(1)
          expectNone(text(), value)
          expect(() => JSON.parse(text())).not.toThrow()
        })

  test('made of bytes is not in the log as hex or base64', () => {
    const { log, scrubber, text } = captured()
    const bytes = Buffer.from('0011223344556677fbefbe8899aabbccddeeff', 'hex')
    scrubber.add(new Secret<Uint8Array>(bytes))
    const forms = [bytes.toString('hex'), bytes.toString('base64'), bytes.toString('base64url')]
    for (const form of forms) log.info({ form }, `x${form}x`)
    for (const form of forms) expect(text()).not.toContain(form.slice(0, 16))
  })

  test('is found whole when it is short, and words around it stay', () => {
    const { scrubber } = captured()
    scrubber.add(new Secret('secret'))
    scrubber.add(new Secret('hunter22'))
    expect(scrubber.scrub('the secret of hunter22 and hunter2')).toBe('the [secret] of [secret] and hunter2')
  })

  test('is taken out as far as a piece of it goes, wherever that begins, and nothing beside it', () => {
    const { scrubber } = captured()
    const value = 'k3Jx9-Qw7Lz2_Vb8Nm4Rt6Yp1Hs5Gd0'
    scrubber.add(new Secret(value))
    for (let from = 0; from + 12 <= value.length; from++)
      for (let to = from + 12; to <= value.length; to++) {
        const piece = value.slice(from, to)
        for (const text of [piece, `<${piece}`, `${piece}>`, `<${piece}> and ${piece}!`])
          expect(scrubber.scrub(text)).toBe(text.replaceAll(piece, '[secret]'))
      }
    expect(scrubber.scrub(value.slice(0, 12) + value)).toBe('[secret][secret]')
    expect(scrubber.scrub(value.slice(0, 11))).toBe(value.slice(0, 11))
  })

  test('of many characters is found by its end, too', () => {
    const { scrubber } = captured()
    const value = Array.from({ length: 990 }, (_, at) => String.fromCharCode(0x4e00 + at)).join('')
    scrubber.add(new Secret(value))
    expect(scrubber.scrub(`the end ${value.slice(-12)}`)).toBe('the end [secret]')
  })

  test('does not hide common words that it shares with a line', () => {
    const { scrubber } = captured()
    scrubber.add(new Secret('my-password-is-canary'))
    expect(scrubber.scrub('password is wrong')).toBe('password is wrong')
    expect(scrubber.scrub('my-password-is wrong')).toBe('[secret] wrong')
  })

  test('is forgotten when it is the oldest of too many', () => {
    const scrubber = openScrubber(2)
    const [one, two, three] = ['canary-one-0123', 'canary-two-4567', 'canary-three-89ab'] as const
    for (const value of [one, two, one, three]) scrubber.add(new Secret(value))
    expect(scrubber.scrub([one, two, three].join(' '))).toBe(`[secret] ${two} [secret]`)
  })

  test('is not forgotten with another one that begins alike', () => {
    const scrubber = openScrubber(2)
    for (const value of ['canary-of-one', 'canary', 'another']) scrubber.add(new Secret(value))
    expect(scrubber.scrub('a canary and another')).toBe('a [secret] and [secret]')
  })

  test('of any text, whole or half, is found in any line', () => {
    const value = fc.string({ minLength: 24, maxLength: 600, unit: 'grapheme-ascii' })
    fc.assert(
      fc.property(value, fc.string(), fc.string(), fc.boolean(), (secret, before, after, half) => {
        const { log, scrubber, text } = captured()
        scrubber.add(new Secret(secret))
        const shown = half ? secret.slice(0, Math.ceil(secret.length / 2)) : secret
        log.info({ a: before + shown + after })
        expect(() => JSON.parse(text())).not.toThrow()
        expect(text()).not.toContain(JSON.stringify(shown).slice(1, -1))
      }),
    )
  })

  test('costs a line little, however many there are', () => {
    const line = JSON.stringify({ level: 'info', time: '2027-01-15T08:00:00.000Z', mount: 'broker/', msg: 'x '.repeat(200) })
    /** µs of this thread for many lines, as its clock ticks every few ms */
    const costOf = (secrets: number) => {
      const scrubber = openScrubber(secrets)
      for (let number = 0; number < secrets; number++)
        scrubber.add(new Secret(`${Math.random()}${Math.random()}${Math.random()}`))
      const before = threadCpuUsage()
      for (let number = 0; number < 10_000; number++) scrubber.scrub(line)
      const { user, system } = threadCpuUsage(before)
      return user + system
    }
    costOf(10) // to be compiled
    // about as long; a search for each secret in turn would take a hundred times as long
    expect(costOf(1000) / costOf(10)).toBeLessThan(20)
  })
})

describe('what looks like a secret', () => {
  // a part has no shape, and percent-encoding takes it from what has spaces
  const otherwise = ['two fields', 'the query of a URL', 'a URL object']
  const shapes: Readonly<Record<string, string>> = {
    'a service token': 'hvs.CAESIJlU0canaryABCDEFGHIJKLMN',
    'a service token of a namespace': 'hvs.CAESIJlU0canaryABCDEFGHIJKLMN.aB3dE',
    'a batch token': `hvb.AAAAAQJ${'canary-_9'.repeat(12)}`,
    'a recovery token': 'hvr.CAESIJlU0canaryABCDEFGHIJKLMN',
    'an old service token': 's.iyNUhq8Ov4hIAx6snw5mcan7',
    'an old batch token': `b.AAAAAQ${'canary-_9'.repeat(12)}`,
    'an old recovery token': 'r.iyNUhq8Ov4hIAx6snw5mcan7',
    'a JWT': jwt,
    'a JWT without a signature': jwt.slice(0, jwt.lastIndexOf('.') + 1),
    'an encrypted JWT': `eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..${'canary01'.repeat(2)}.${'canary02'.repeat(9)}.canary03canary03`,
    'a JWT whose header has white space': `${Buffer.from('{ "alg": "none" }').toString('base64url')}.canary0123456789.canary`,
    'a bearer token': 'Bearer canary-123',
    'a bearer token of letters': 'bearer canarycanarycanarycanary',
    'a bound token': 'DPoP canary-123.456',
    'basic credentials': 'Basic Y2FuYXJ5OmNhbmFyeQ==',
    'credentials in a URL': 'postgres://user:canary-pw@db.example/path',
    'a private key': pem,
    'an RSA private key': '-----BEGIN RSA PRIVATE KEY-----\nMIIcanary\n-----END RSA PRIVATE KEY-----',
    'a private key without its end': '-----BEGIN PRIVATE KEY-----\nMIIcanaryMIIcanary',
  }
  /** What may be read of them. */
  const prose = /^(bearer |dpop |basic |postgres:\/\/)/i

  for (const [what, value] of Object.entries(shapes))
    for (const [where, write] of Object.entries(ways).filter(([name]) => !otherwise.includes(name)))
      test(`${what} in ${where} is not in the log, though nobody registered it`, () => {
        const { log, text } = captured()
        write(log, value)
        const secret = value.replace(prose, '').replace('@db.example/path', '')
        expect(text()).not.toContain('canary')
        expect(text()).not.toContain(JSON.stringify(secret).slice(1, -1))
        expect(() => JSON.parse(text())).not.toThrow()
      })

  test('is not what operators need to read', () => {
    const { scrubber } = captured()
    for (const text of [
      'no bearer authentication was offered',
      'https://vault.example:8200/v1/auth/tpm-quote/login',
      'auth/tpm-quote/login',
      'sha256-9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08',
      'hmac-sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08',
      '0198c2d4-6b1e-7a5c-9f3e-2b7d1c0e4a55',
      '-----BEGIN CERTIFICATE-----\\nMIIB',
      'engine/attest/challenges.ts:120:14',
      'the hosts.example.com/etc/nothing is fine',
    ])
      expect(scrubber.scrub(text)).toBe(text)
  })
})

describe('the stream', () => {
  test('drops a line when the scrubber fails, and says so', () => {
    const broken = {
      add: () => undefined,
      scrub: () => {
        throw new Error('canary')
      },
    }
    const { log, lines } = captured('info', broken)
    log.info({ token: 'canary' }, 'canary')
    expect(JSON.parse(lines[0] as string)).toEqual({
      level: 'error',
      msg: 'a line was dropped, because it could not be scrubbed',
    })
  })

  test('drops a line that scrubbing broke', () => {
    const { log, lines } = captured('info', { add: () => undefined, scrub: text => text.replaceAll('"', '') })
    log.info({ token: 'canary' }, 'text')
    expect(lines.join('')).not.toContain('canary')
  })

  test('is standard error, and nothing is lost when the process ends at once', async () => {
    const program = `
      import { openLog } from ${JSON.stringify(join(import.meta.dirname, '../../engine/log.ts'))}
      const log = openLog({ level: 'info' })
      for (let number = 0; number < 500; number++) log.info({ number }, 'text')
      process.exit(3)`
    const ran = await run(process.execPath, ['--input-type=module', '--eval', program])
    expect(ran).toMatchObject({ code: 3, stdout: '' })
    const lines = ran.stderr.trim().split('\n')
    expect(lines).toHaveLength(500)
    expect(JSON.parse(lines.at(-1) as string)).toMatchObject({ number: 499 })
  })

  test('without room for a line ends neither the process nor its end, and goes on where there is room again', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'assay-log-'))
    onTestFinished(() => rm(folder, { recursive: true, force: true }))
    const file = join(folder, 'log')
    // the kernel refuses what makes a file longer than that, as a disk without room does
    const program = `
      import { fstatSync, ftruncateSync } from 'node:fs'
      import { openLog } from ${JSON.stringify(join(import.meta.dirname, '../../engine/log.ts'))}
      process.on('SIGXFSZ', () => {})
      const log = openLog({ level: 'info' })
      const grown = async least => { while (fstatSync(2).size < least) await new Promise(resolve => setTimeout(resolve, 10)) }
      const fill = () => { for (let number = 0; number < 100; number++) log.info({ number, text: 'x'.repeat(100) }, 'text') }
      fill()
      await grown(16384)
      log.info('into what is full')
      ftruncateSync(2)
      await grown(1)
      process.stdout.write('alive')
      fill()
      process.exit(3)`
    const script = 'ulimit -f 16; exec "$0" --input-type=module --eval "$1" 2>>"$2"'
    const ran = await run('bash', ['-c', script, process.execPath, program, file])
    expect(ran).toMatchObject({ code: 3, stdout: 'alive' })
    expect(await readFile(file, 'utf8')).toContain('into what is full')
  })
})
