import { expect, vi } from 'vitest'
import { parseFields } from '../../engine/fields.ts'
import { Secret } from '../../engine/secret.ts'
import { stores } from '../../engine/stores/index.ts'
import { openReader, type Reader } from '../../engine/stores/reader.ts'
import type { SecretStore, StoreWorld } from '../../engine/stores/store.ts'
import type { JsonServer, Trouble } from '../fakes/json_server.ts'
import { testWorld } from '../fakes/world.ts'
import { PATIENCE_MS } from '../harness/patience.ts'
import { until } from '../harness/process.ts'

export const CANARY = 'canary-of-the-root-credential'
export const world = testWorld()
const unused = () => {
  throw new Error('a foreign store does not use the state of the broker')
}
const storeWorld: StoreWorld = {
  state: { get: unused, fresh: unused, put: unused, list: unused, delete: unused, deleteAll: unused },
  cipher: { create: unused, seal: unused, open: unused },
  now: world.now,
  deadlineMs: PATIENCE_MS,
}

export function opened(kind: string, settings: object, secrets: Record<string, string>): Reader {
  const store = stores[kind] as SecretStore
  const { values } = parseFields(store.settings, settings as Record<string, unknown>)
  const credentials = Object.fromEntries(Object.entries(secrets).map(([name, value]) => [name, new Secret(value)]))
  return openReader(store.open(values, credentials, storeWorld), { monotonic: world.monotonic, deadlineMs: PATIENCE_MS })
}

export const revealed = (fields: Readonly<Record<string, Secret>>) =>
  Object.fromEntries(Object.entries(fields).map(([name, one]) => [name, one.reveal()]))

/** The fault, of which nothing may hold a secret. */
export async function fault(asked: Promise<unknown>): Promise<{ kind: string; reason: string }> {
  const error = await asked.then(
    () => new Error('it was answered'),
    (thrown: unknown) => thrown,
  )
  const { kind, reason } = error as { kind: string; reason: string }
  expect(JSON.stringify([error, String(error), (error as Error).stack])).not.toMatch(/canary|token-/)
  return { kind, reason }
}

/** What no store may be taken at its word for. */
export const troubles: readonly (readonly [string, Trouble, string])[] = [
  ['never answers', 'hang', 'down'],
  ['closes the connection', 'reset', 'down'],
  ['does not come to an end', 'endless', 'down'],
  ['fails', { status: 500, body: { message: CANARY } }, 'down'],
  ['is busy', { status: 429, headers: { 'Retry-After': '30' } }, 'down'],
  ['says no', { status: 403, body: { message: CANARY } }, 'denied'],
  ['leads elsewhere', { status: 302, headers: { Location: 'http://169.254.169.254/' } }, 'malformed'],
  ['says created', { status: 201, body: { value: CANARY } }, 'malformed'],
  ['says nothing', { status: 200, text: '' }, 'malformed'],
  ['says no JSON', { status: 200, text: `<html>${CANARY}` }, 'malformed'],
  ['says half of it', { status: 200, text: `{"value":"${CANARY}"` }, 'malformed'],
  ['says null', { status: 200, body: null }, 'malformed'],
  ['says a list', { status: 200, body: [CANARY] }, 'malformed'],
]

export async function troubled(server: JsonServer, reads: Reader, ref: string, trouble: Trouble, kind: string): Promise<void> {
  await reads.fresh(ref)
  server.trouble = ({ path }) => (path.endsWith('/token') ? undefined : trouble)
  const told = () => fault(reads.fresh(ref))
  expect((await (trouble === 'hang' ? late(server, told) : told())).kind).toBe(kind)
}

/** What is told once the deadline has passed, by a clock that waits for the question to arrive. */
async function late<T>({ arrived }: JsonServer, ask: () => Promise<T>): Promise<T> {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  try {
    const before = arrived.length
    const told = ask()
    await until('the question', async () => arrived.length > before)
    await vi.advanceTimersByTimeAsync(PATIENCE_MS)
    return await told
  } finally {
    vi.useRealTimers()
  }
}
