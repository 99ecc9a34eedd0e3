import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { rc } from '../../agent/tpm/response_codes.ts'
import { openTransport, transports } from '../../agent/tpm/transport.ts'
import { PATIENCE_MS } from '../harness/patience.ts'
import { type Swtpm, startSwtpm } from '../harness/swtpm.ts'
import { fakeTpm, response } from './fake_tpm.ts'
import { folder } from './tools.ts'

const getRandom = Buffer.from('80010000000c0000017b0010', 'hex')
const createPrimary = Buffer.from('80010000000a00000131', 'hex')
const random = async (spec: string) => {
  await using transport = await openTransport(spec)
  return await transport.transmit(getRandom)
}

describe('a real TPM', () => {
  let unix: Swtpm
  let tcp: Swtpm
  beforeAll(async () => {
    ;[unix, tcp] = await Promise.all([startSwtpm(), startSwtpm({ transport: 'tcp' })])
  })
  afterAll(() => Promise.all([unix?.stop(), tcp?.stop()]))

  test('answers over unix sockets, TCP, and libtss2 with either', async () => {
    for (const spec of [unix.spec, tcp.spec, `tcti:${unix.tcti}`, `tcti:${tcp.tcti}`]) {
      const answer = await random(spec)
      expect([answer.readUInt32BE(6), answer.length], spec).toEqual([0, 10 + 2 + 16])
    }
  })

  test('answers each of many commands that were sent at once', async () => {
    await using transport = await openTransport(`tcti:${unix.tcti}`)
    const sizes = Array.from({ length: 32 }, (_, index) => index + 1)
    const answers = await Promise.all(sizes.map(size => transport.transmit(Buffer.from([...getRandom.subarray(0, 11), size]))))
    expect(answers.map(answer => answer.readUInt16BE(10))).toEqual(sizes)
  })

  test('has one client at a time: the second one hears so in time', async () => {
    await using first = await openTransport(unix.spec)
    await first.transmit(getRandom)
    await using second = await openTransport(unix.spec, { deadlineMs: 200 })
    await expect(second.transmit(getRandom)).rejects.toMatchObject({
      symbol: 'DEADLINE',
      message: expect.stringContaining('another program'),
    })
  })
})

describe('more clients than may wait', () => {
  let tpm: Swtpm
  beforeAll(async () => {
    tpm = await startSwtpm()
  })
  afterAll(() => tpm?.stop())
  const many = (deadlineMs: number) =>
    Promise.allSettled(
      Array.from({ length: 8 }, async () => {
        await using transport = await openTransport(tpm.spec, { deadlineMs })
        return (await transport.transmit(getRandom)).length
      }),
    )

  test('have their turn when the one before them is done', async () => {
    const first = await openTransport(tpm.spec)
    await first.transmit(getRandom)
    const others = many(PATIENCE_MS)
    await first.close()
    expect(await others).toEqual(Array.from({ length: 8 }, () => ({ status: 'fulfilled', value: 28 })))
  })

  test('hear in time that it is not', async () => {
    await using first = await openTransport(tpm.spec)
    await first.transmit(getRandom)
    const late = { status: 'rejected', reason: expect.objectContaining({ symbol: 'DEADLINE' }) }
    expect(await many(200)).toEqual(Array.from({ length: 8 }, () => late))
  })
})

describe('a deadline', () => {
  test('ends the wait for a TPM that hangs, and the connection with it', async () => {
    await using tpm = await fakeTpm(() => 'silence')
    await using transport = await openTransport(tpm.spec, { deadlineMs: 100 })
    await expect(transport.transmit(getRandom)).rejects.toMatchObject({
      symbol: 'DEADLINE',
      message: expect.stringContaining('within 100 ms'),
    })
    await expect(transport.transmit(getRandom)).rejects.toMatchObject({ symbol: 'CLOSED' })
    expect(tpm.received).toHaveLength(1)
  })

  test('is longer for commands that make keys', async () => {
    await using tpm = await fakeTpm(command => (command.readUInt32BE(6) === 0x131 ? 'silence' : response(0)))
    await using transport = await openTransport(tpm.spec, { deadlineMs: 50 })
    const began = performance.now()
    await expect(transport.transmit(createPrimary)).rejects.toMatchObject({ message: expect.stringContaining('within 300 ms') })
    expect(performance.now() - began).toBeGreaterThan(250)
  })

  test('holds for a TPM behind libtss2 too', async () => {
    await using place = await folder()
    await using _ = await fakeTpm(() => 'silence', place.at('s'))
    await using __ = await fakeTpm(() => Buffer.alloc(4), place.at('s.ctrl')) // success of CMD_SET_LOCALITY
    await using transport = await openTransport(`tcti:swtpm:path=${place.at('s')}`, { deadlineMs: 200 })
    await expect(transport.transmit(getRandom)).rejects.toMatchObject({ symbol: 'DEADLINE' })
    await expect(transport.transmit(getRandom)).rejects.toMatchObject({ symbol: 'CLOSED' })
  })
})

describe('a response', () => {
  const rows: [string, Buffer, string][] = [
    ['shorter than a header', Buffer.from('80010000000600', 'hex'), 'MALFORMED'],
    ['longer than it says', Buffer.concat([response(0), Buffer.from('00')]), 'MALFORMED'],
    ['of a size that no TPM sends', Buffer.from('8001ffffffff00000000', 'hex'), 'MALFORMED'],
  ]
  test.each(rows)('%s is none', async (_, bytes, symbol) => {
    await using tpm = await fakeTpm(() => bytes)
    await using transport = await openTransport(tpm.spec, { deadlineMs: 2000 })
    await expect(transport.transmit(getRandom)).rejects.toMatchObject({ symbol })
  })

  test('that stays away because the TPM hung up is told apart', async () => {
    await using tpm = await fakeTpm(() => 'hang up')
    await using transport = await openTransport(tpm.spec)
    await expect(transport.transmit(getRandom)).rejects.toMatchObject({ symbol: 'CLOSED' })
  })
})

describe('codes that ask for the command again', () => {
  test.each([rc.RETRY, rc.YIELDED, rc.TESTING])('%i: the same bytes, after pauses that grow', async code => {
    const pauses: number[] = []
    await using tpm = await fakeTpm((_, index) => response(index < 3 ? code : 0))
    await using transport = await openTransport(tpm.spec, { pause: async ms => pauses.push(ms) })
    expect((await transport.transmit(getRandom)).readUInt32BE(6)).toBe(0)
    expect(pauses).toEqual([20, 40, 80])
    expect(new Set(tpm.received.map(command => command.toString('hex')))).toEqual(new Set([getRandom.toString('hex')]))
  })

  test('have a limit, after which the code is the answer', async () => {
    await using tpm = await fakeTpm(() => response(rc.RETRY))
    await using transport = await openTransport(tpm.spec, { pause: async () => {} })
    expect((await transport.transmit(getRandom)).readUInt32BE(6)).toBe(rc.RETRY)
    expect(tpm.received).toHaveLength(9)
  })

  test('are within the deadline of the command', async () => {
    await using tpm = await fakeTpm(() => response(rc.TESTING))
    await using transport = await openTransport(tpm.spec, { deadlineMs: 100 })
    await expect(transport.transmit(getRandom)).rejects.toMatchObject({ symbol: 'DEADLINE' })
  })
})

describe('what is no TPM', () => {
  test.each(['', 'swtpm', 'unix:', 'mssim:host=x', '/dev/tpmrm0', 'tcp:127.0.0.1', 'tcp:127.0.0.1:99999'])(
    '%j is not understood',
    async spec => {
      await expect(openTransport(spec)).rejects.toMatchObject({ symbol: 'SPEC' })
    },
  )

  test('a socket or device that is not there is named, with the reason', async () => {
    await using place = await folder()
    for (const spec of [`unix:${place.at('s')}`, `device:${place.at('tpm')}`, 'tcp:127.0.0.1:1'])
      await expect(openTransport(spec)).rejects.toMatchObject({
        symbol: 'UNREACHABLE',
        message: expect.stringMatching(/ENOENT|ECONNREFUSED/),
      })
  })

  test('a TCTI that libtss2 cannot load is named', async () => {
    await expect(openTransport('tcti:nonsense:x')).rejects.toMatchObject({
      symbol: 'UNREACHABLE',
      message: expect.stringContaining("'nonsense:x'"),
    })
  })
})

test('every kind of transport is a file beside the others and says how it is written', () => {
  expect([...transports.keys()].toSorted()).toEqual(['device', 'tcp', 'tcti', 'unix'])
  for (const kind of transports.values()) expect(kind.form.startsWith(`${kind.scheme}:`)).toBe(true)
})
