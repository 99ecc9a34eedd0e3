import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { canonicalise } from '../../mounts/path.ts'
import { until } from '../harness/process.ts'
import { startVault, type Vault } from '../harness/vault.ts'
import { openDoor } from '../mounts/hosts/doors.ts'

// What Vault takes a path for is in its audit log: whatever bytes a path is made of, the front door takes it for the same, or refuses it.

let vault: Vault
let home: string
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'assay-paths-'))
  vault = await startVault()
  await vault.api('PUT', 'sys/audit/file', { type: 'file', options: { file_path: join(home, 'audit'), log_raw: 'true' } })
  await vault.api('POST', 'sys/mounts/kv', { type: 'kv' })
})
afterAll(async () => {
  await vault?.stop()
  await rm(home, { recursive: true, force: true })
})

/** Sends the bytes of a target as they are, and gives the status of the reply, 0 for none. */
function get(address: string, target: Buffer): Promise<number> {
  const { hostname: host, port } = new URL(address)
  const { promise, resolve } = Promise.withResolvers<number>()
  const socket = connect({ host, port: Number(port) })
  let text = ''
  socket.on('data', bytes => (text += bytes.toString('latin1')))
  socket.on('error', () => {})
  socket.on('close', () => resolve(Number(/^HTTP\/1\.1 (\d+)/.exec(text)?.[1] ?? 0)))
  const head = ['', `Host: ${host}:${port}`, `X-Vault-Token: ${vault.rootToken}`, 'Connection: close', '', '']
  socket.write(Buffer.concat([Buffer.from('GET '), target, Buffer.from(` HTTP/1.1${head.join('\r\n')}`)]))
  return promise
}

/** By the name that a request had in its query: the path that Vault took it for. */
async function understood(): Promise<Map<string, string>> {
  const lines = (await readFile(join(home, 'audit'), 'utf8')).split('\n').slice(0, -1)
  const requests = lines.map(line => JSON.parse(line) as { type: string; request: { path: string; data?: { name?: string } } })
  const named = requests.filter(({ type, request }) => type === 'request' && request.data?.name !== undefined)
  return new Map(named.map(({ request }) => [String(request.data?.name), request.path]))
}

const piece = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.constantFrom(
      'a',
      'kv',
      'B',
      '1',
      'x.y',
      '...',
      '~',
      '@',
      ':',
      ';',
      '=',
      '+',
      '*',
      '!',
      "'",
      '(',
      ',',
      '$',
      '&',
    ),
  },
  {
    weight: 3,
    arbitrary: fc.constantFrom(
      '.',
      '..',
      '%2e',
      '%2E%2e',
      '.%2e',
      '%2F',
      '%2f',
      '%5C',
      '\\',
      '%252F',
      '%252e',
      '/',
      '//',
      '/./',
      '/../',
    ),
  },
  {
    weight: 2,
    arbitrary: fc.constantFrom(
      '%00',
      '%0a',
      '%09',
      '%7f',
      '%20',
      ' ',
      '%',
      '%4',
      '%zz',
      '%u002e',
      '%c0%ae',
      '%e2%80%ae',
      '%ef%bc%8f',
      '%C3%A9',
    ),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      'é',
      '／',
      '‥',
      '"',
      '<',
      '>',
      '|',
      '^',
      '`',
      '{',
      '}',
      '[',
      ']',
      '#',
      '\t',
      '\u0000',
      '\u00a0',
      '%E2%80%A8',
    ),
  },
)
const start = fc.oneof(
  { weight: 8, arbitrary: fc.constant('/v1/') },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      '/v1//',
      '//v1/',
      '/V1/',
      '/%761/',
      '/v1%2F',
      '/./v1/',
      '/ui/../v1/',
      '/v1',
      'v1/',
      '*',
      'http://127.0.0.1/v1/',
      '/v1/kv/',
    ),
  },
)
const bytes = fc.uint8Array({ minLength: 1, maxLength: 3 }).map(some => Buffer.from(some).toString('latin1'))
const path = fc.tuple(
  start,
  fc.array(fc.oneof({ weight: 12, arbitrary: piece }, { weight: 1, arbitrary: bytes }), { minLength: 1, maxLength: 6 }),
)

const RUNS = 600

test('either both take a path for the same, or it is refused', async () => {
  const door = await openDoor({ owns: () => false, upstream: { url: vault.address } })
  const targets = fc.sample(path, RUNS).map(([begin, parts]) => `${begin}${parts.join('')}`)
  const cases = targets.map((target, at) => ({ target, named: (side: string) => Buffer.from(`${target}?name=${side}${at}`), at }))
  const statuses = new Map<number, { straight: number; through: number }>()
  const turn = async (one: (typeof cases)[number]) => {
    const [straight, through] = await Promise.all([
      get(vault.address, one.named('straight')),
      get(door.url, one.named('through')),
    ])
    statuses.set(one.at, { straight, through })
  }
  // so many at a time
  for (let at = 0; at < cases.length; at += 20) await Promise.all(cases.slice(at, at + 20).map(turn))
  expect(await get(vault.address, Buffer.from('/v1/kv/last?name=last'))).toBe(404)
  const taken = await until('the last request in the audit log', async () => {
    const all = await understood()
    return all.has('last') && all
  })

  let accepted = 0
  for (const { target, at } of cases) {
    const [straight, through] = [taken.get(`straight${at}`), taken.get(`through${at}`)]
    if (through === undefined) continue
    accepted += 1
    const read = canonicalise(`${target}?name=through${at}`)
    const ours = read.ok && read.path.api ? `${read.path.path}${read.path.trailingSlash ? '/' : ''}` : undefined
    expect({ target, straight, ours, ...statuses.get(at) }).toEqual({
      target,
      straight: through,
      ours: through,
      ...statuses.get(at),
    })
  }
  // a test in which everything is refused would say nothing
  expect(accepted).toBeGreaterThan(RUNS / 10)
  expect(accepted).toBeLessThan(RUNS)
})

test('what Vault serves and is refused here is refused for what its path holds', async () => {
  const door = await openDoor({ owns: () => false, upstream: { url: vault.address } })
  const refused = [
    '/v1/kv/a%2F%2Fb',
    '/v1/kv/a%5Cb',
    '/v1/kv/%2e%2e/b',
    '/v1/kv/a%2F..%2Fb',
    '/v1/kv/a%00b',
    '/v1/kv/a%E2%80%A8b',
    '/v1/kv/\u00e9',
    '/v1/kv/%zz',
  ]
  for (const target of refused)
    expect({ target, status: await get(door.url, Buffer.from(target, 'latin1')) }).toEqual({ target, status: 400 })
})
