import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { clientOf } from '../../agent/client.ts'
import { type FrontDoor, startFrontDoor } from '../fakes/front_door.ts'
import { freePort } from '../harness/process.ts'
import { folder } from './tools.ts'

const run = promisify(execFile)
let door: FrontDoor
beforeAll(async () => {
  door = await startFrontDoor()
})
afterAll(() => door?.[Symbol.asyncDispose]())

const TOKEN = 'hvs.a-very-secret-token'
const post = (options: { address?: string; deadlineMs?: number } = {}) =>
  clientOf({ address: door.url, ...options }).post('broker/creds/x', { a: 1 }, { token: TOKEN })

describe('a request', () => {
  test('is one that Vault understands, with the token in its header alone', async () => {
    door.faults.push({ status: 200, body: { data: { fine: true } } })
    expect(await clientOf({ address: `${door.url}/` }).post('auth/x/login', { b: 2 }, { token: TOKEN })).toEqual({
      data: { fine: true },
    })
    const { path, headers, body } = door.requests.at(-1) ?? { path: '', headers: {}, body: {} }
    expect([path, body]).toEqual(['auth/x/login', { b: 2 }])
    expect(headers).toMatchObject({ 'x-vault-token': TOKEN, 'x-vault-request': 'true', 'content-type': 'application/json' })
  })

  test.each(['', 'localhost', 'ftp://x', 'http://user:password@x', 'unix:/x'])('has no address in %j', async address => {
    expect(() => clientOf({ address })).toThrow(expect.objectContaining({ exit: 'usage' }))
  })

  test.each(['hvs.x\r\nX-Other: y', 'with space', 'ü'])('does not carry a token of other characters: %j', async token => {
    await expect(clientOf({ address: door.url }).post('x', {}, { token })).rejects.toMatchObject({ exit: 'usage' })
  })
})

describe('a refusal', () => {
  test.each([
    [400, 'refused'],
    [403, 'refused'],
    [404, 'refused'],
    [405, 'refused'],
    [429, 'unavailable'],
    [500, 'unavailable'],
    [503, 'unavailable'],
  ])('of status %i is %s, with what the service said', async (status, exit) => {
    door.faults.push({ status, body: { errors: ['role "x" is not there', 'and more'] } })
    await expect(post()).rejects.toMatchObject({
      exit,
      message: expect.stringContaining(`(${status}): role "x" is not there; and more`),
    })
  })

  test('that tells nothing to whoever has no token says what to look at', async () => {
    const nobody = () => clientOf({ address: door.url }).post('auth/x/login', {})
    door.faults.push({ status: 403, body: { errors: ['permission denied'] } })
    await expect(nobody()).rejects.toThrow(/permission denied without a token: no mount .*--mount.*--address.*--token-file/)
    door.faults.push({ status: 403, body: { errors: ['permission denied'] } })
    await expect(post()).rejects.toThrow(/permission denied$/)
    door.faults.push({ status: 403, body: { errors: ['the evidence was refused; correlation id 7'] } })
    await expect(nobody()).rejects.toThrow('correlation id 7, under which the audit log of the service has the reason')
  })

  test('without a reason says that', async () => {
    door.faults.push({ status: 403, body: { errors: [] } })
    await expect(post()).rejects.toMatchObject({ message: 'the service refused (403): it did not say why' })
  })

  test('shows neither our token nor control characters, and ends', async () => {
    door.faults.push({ status: 403, body: { errors: [`bad \u001b[31m\u202e${TOKEN} ${'x'.repeat(5000)}`] } })
    const message = await post().then(
      () => '',
      (error: Error) => error.message,
    )
    expect(message).toContain('bad  [31m [secret] xxx')
    expect(message).not.toContain(TOKEN)
    expect(message.length).toBeLessThan(600)
  })
})

describe('what is no answer', () => {
  test('nothing listens', async () => {
    await expect(post({ address: `http://127.0.0.1:${await freePort()}` })).rejects.toMatchObject({
      exit: 'unavailable',
      message: expect.stringContaining('ECONNREFUSED'),
    })
  })

  test('it takes too long', async () => {
    door.faults.push('hang', 'hang')
    const late: number[] = []
    const asking = [60_000, 100].map(deadlineMs => post({ deadlineMs }).finally(() => late.push(deadlineMs)))
    for (const one of asking) one.catch(() => undefined)
    await expect(asking[1]).rejects.toMatchObject({ exit: 'unavailable', message: expect.stringContaining('in time') })
    expect(late).toEqual([100])
  })

  test('it sends us elsewhere: the token does not follow', async () => {
    await using other = await startFrontDoor()
    door.faults.push({ status: 307, body: '', headers: { location: `${other.url}/v1/broker/creds/x` } })
    await expect(post()).rejects.toMatchObject({ exit: 'unavailable', message: expect.stringContaining('redirects (307)') })
    expect(other.requests).toEqual([])
  })

  test.each([
    ['HTML', 200, '<html>'],
    ['a list', 200, '[]'],
    ['nothing', 200, ''],
    ['a page that is not there', 404, '<html>'],
    ['a gateway that lets nobody through', 403, '<html>'],
  ])('%s', async (_, status, body) => {
    door.faults.push({ status, body })
    await expect(post()).rejects.toMatchObject({ exit: 'unavailable', message: expect.stringContaining('does not speak') })
  })

  test('more than fits', async () => {
    door.faults.push({ status: 200, body: ' '.repeat(2 << 20) })
    await expect(post()).rejects.toMatchObject({ exit: 'unavailable', message: expect.stringContaining('more than') })
  })
})

test("TLS: a CA of one's own, and a client certificate", async () => {
  await using place = await folder()
  const openssl = (...args: string[]) => run('openssl', args)
  const key = (name: string) => [
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-keyout',
    place.at(`${name}.key`),
  ]
  await openssl('req', '-x509', ...key('ca'), '-out', place.at('ca.pem'), '-subj', '/CN=test ca', '-days', '1')
  for (const name of ['server', 'client']) {
    const signed = ['-CA', place.at('ca.pem'), '-CAkey', place.at('ca.key'), '-addext', 'subjectAltName=IP:127.0.0.1']
    await openssl('req', '-x509', ...key(name), ...signed, '-out', place.at(`${name}.pem`), '-subj', `/CN=${name}`, '-days', '1')
  }
  const pem = (name: string) => readFile(place.at(name), 'utf8')
  const ca = await pem('ca.pem')
  const tls = { key: await pem('server.key'), cert: await pem('server.pem'), ca, requestCert: true, rejectUnauthorized: true }
  await using secure = await startFrontDoor({ tls })
  secure.faults.push({ status: 200, body: { data: {} } })
  const client = { certificate: await pem('client.pem'), key: await pem('client.key') }
  expect(await clientOf({ address: secure.url, ca, client }).post('x', {})).toEqual({ data: {} })
  await expect(clientOf({ address: secure.url, ca }).post('x', {})).rejects.toMatchObject({ exit: 'unavailable' })
  await expect(clientOf({ address: secure.url, client }).post('x', {})).rejects.toMatchObject({ exit: 'unavailable' })
  expect(secure.requests).toHaveLength(1)
})
