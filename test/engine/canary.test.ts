import { readFile } from 'node:fs/promises'
import { inspect } from 'node:util'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { replyOf, replyOfError } from '../../mounts/hosts/envelope.ts'
import type { Operation } from '../../mounts/table.ts'
import { configure, credsEvidence, dataOf, enrol, evidence, logIn, openTestBroker, type TestBroker } from '../fakes/broker.ts'
import { fakeMachine } from '../fakes/machine.ts'
import type { Asked, Fault } from '../fakes/vault.ts'

// Secrets and request values that carry a mark go down every way that fails, and the mark is looked for wherever anything is written or told.
const CANARY = 'CanaRy7'
const marked = (what: string) => `${what}-${CANARY}-0123456789`

let broker: TestBroker
/** another replica, which gives Vault up soon */
let brief: TestBroker
const machine = fakeMachine({ label: 'enrolled' })
let agent: string
const told: string[] = []
beforeAll(async () => {
  broker = await openTestBroker()
  await configure(broker)
  await enrol(broker, machine)
  agent = await logIn(broker, machine)
  // not before it has started, however long that takes
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  brief = await openTestBroker({ deadlineMs: 1000, beside: broker })
  vi.useRealTimers()
})
afterAll(async () => {
  await brief[Symbol.asyncDispose]()
  await broker[Symbol.asyncDispose]()
})

/** Asks, and keeps all that a caller is told and all that an error says of itself; logs it too. */
async function ask(operation: Operation, path: string, data: object, token: string, of = broker): Promise<void> {
  const asked = of.ask(operation, path, data, { token })
  try {
    const outcome = await asked
    told.push(JSON.stringify(replyOf(outcome, 'txn', 'broker')))
  } catch (error) {
    // as a host does with what is no fault of the caller
    broker.world.log.error({ error }, 'a request failed')
    told.push(
      JSON.stringify(replyOfError(error, 'with a token')),
      inspect(error, { depth: null, showHidden: true }),
      JSON.stringify(error),
    )
    for (let at = error; at instanceof Error; at = at.cause)
      told.push(at.message, at.stack ?? '', inspect(Object.entries(at), { depth: null }))
  }
}

/** Every request of a client, with the mark in each value that it may choose. */
function requests(token: string): readonly (readonly [Operation, string, object])[] {
  const bytes = Buffer.from(marked('bytes')).toString('base64')
  const quote = { challenge: bytes, attest: bytes, signature: bytes, pcrs: marked('{"sha256') }
  const ak_name = machine.akName.toString('hex')
  return [
    ['update', 'broker/creds/deploy', { plugin: marked('plugin'), scope: 'apps:read' }],
    ['update', 'broker/creds/deploy', { action: marked('action'), scope: 'apps:read', plugin: 'kubernetes' }],
    ['update', 'broker/creds/deploy', { scope: marked('scope'), plugin: 'kubernetes' }],
    ['update', 'broker/creds/deploy', { audience: marked('audience'), scope: 'apps:read', plugin: 'kubernetes' }],
    ['update', 'broker/creds/deploy', { ttl: marked('ttl') }],
    ['update', 'broker/creds/deploy', { plugin: 'kubernetes', scope: 'apps:read', ...quote }],
    ['update', 'broker/creds/deploy', { challenge: marked('challenge') }],
    ['update', 'broker/creds/deploy', { key_thumbprint: marked('key') }],
    ['update', 'broker/creds/deploy', { plugin: 'kubernetes', scope: 'apps:read' }],
    ['update', `broker/creds/${marked('role')}`, { plugin: 'kubernetes' }],
    ['delete', `broker/${marked('nothing')}`, {}],
    // a name that an operator who may gives to a record is no secret: it is on record
    ...(token.endsWith('unknown') ? names : []),
    ['update', 'broker/policy/x', { policy: [marked('policy')] }],
    ['update', 'broker/config', { issuer: marked('issuer') }],
    ['update', 'broker/config', { actions: { a: marked('action') } }],
    ['update', 'broker/role/x', { plugins: 'a', actions: marked('action'), audiences: 'b' }],
    ['update', 'broker/simulate', { role: marked('role'), tpm_id: marked('tpm'), login_role: marked('role') }],
    ['update', 'auth/tpm-quote/ca/x', { certificate: marked('certificate') }],
    ['update', 'auth/tpm-quote/reference/x', { pcrs: { sha256: { 0: marked('digest') } } }],
    ['update', 'auth/tpm-quote/reference/x', { pcrs: marked('pcrs') }],
    ['update', 'auth/tpm-quote/role/x', { references: marked('reference'), token_policies: marked('policy') }],
    ['update', 'auth/tpm-quote/config', { enrollment: marked('enrollment'), challenge_ttl: marked('ttl') }],
    ['update', 'auth/tpm-quote/tpm/x', { disabled: marked('disabled') }],
    [
      'update',
      'auth/tpm-quote/enroll',
      { ek_certificate: bytes, ek_public: bytes, ak_public: bytes, hierarchy: marked('hierarchy') },
    ],
    [
      'update',
      'auth/tpm-quote/enroll',
      { ek_certificate: bytes, ek_public: bytes, ak_public: bytes, intermediates: [marked('der')] },
    ],
    ['update', 'auth/tpm-quote/enroll', { ...machine.offer, ek_certificate: bytes }],
    ['update', 'auth/tpm-quote/enroll/activate', { enrollment: bytes, secret: bytes }],
    ['update', 'auth/tpm-quote/challenge', { ak_name: marked('name'), role: 'builder' }],
    ['update', 'auth/tpm-quote/challenge', { ak_name, role: marked('role') }],
    [
      'update',
      'auth/tpm-quote/challenge',
      { ak_name, role: 'builder', audience: marked('audience'), operation: marked('operation') },
    ],
    ['update', 'auth/tpm-quote/login', { ak_name, role: 'builder', ...quote }],
    ['update', 'auth/tpm-quote/login', { ak_name, role: marked('role'), ...quote, audience: marked('audience') }],
    [
      'update',
      token === agent ? 'broker/creds/deploy' : 'broker/role/deploy',
      { [marked('parameter').slice(0, 3)]: marked('value') },
    ],
  ]
}

const names: readonly (readonly [Operation, string, object])[] = [
  ['read', `broker/role/${marked('role')}`, {}],
  ['update', `auth/tpm-quote/tpm/${marked('tpm')}`, { labels: marked('label') }],
  ['list', `broker/${marked('nothing')}`, {}],
]

const faults: readonly (readonly [string, (asked: Asked) => Fault | undefined])[] = [
  ['answers', () => undefined],
  ['hangs up', () => 'reset'],
  ['answers nonsense', () => ({ status: 200, text: `no JSON: ${marked('reply')}` })],
  ['answers 200 with errors', () => ({ status: 200, body: { errors: [marked('error')], data: { token: marked('token') } } })],
  ['is sealed', () => ({ status: 503, body: { errors: [marked('error')] } })],
  ['redirects', () => ({ status: 307, headers: { Location: `http://127.0.0.1:1/${marked('path')}` } })],
  ['does not sign', ({ path }) => (path.startsWith('transit/') ? { status: 400, body: { errors: ['no'] } } : undefined)],
  ['does not let in', ({ path }) => (path.endsWith('/login') ? { status: 400, body: { errors: ['no'] } } : undefined)],
  ['keeps nothing', ({ path, method }) => (path.startsWith('assay/') && method === 'POST' ? { status: 500 } : undefined)],
  ['hangs', ({ path }) => (path === 'sys/capabilities-self' ? 'hang' : undefined)],
]

/** The credentials, tokens and secrets that were really made: they are told to who asked, and to nobody else. */
async function secrets(): Promise<readonly string[]> {
  const issued = dataOf(
    await broker.ask('update', 'broker/creds/deploy', { plugin: 'kubernetes', scope: 'apps:read' }, { token: agent }),
  )
  const logins = broker.vault.asked
    .filter(one => one.path.endsWith('/login'))
    .map(one => String(one.body['jwt'] ?? one.body['secret_id']))
  return [issued['token'] ?? '', agent, broker.vault.rootToken, ...broker.vault.state.tokens.keys(), ...logins]
}

describe.each(faults)('when Vault %s', (what, fault) => {
  test('what was sent, and who sent it, is told to nobody', async () => {
    const canaryToken = `hvs.${marked('token')}`
    const { meta = {} } = broker.vault.state.tokens.get(agent) ?? {}
    const full = { allow: () => ['root'], uses: 0, limited: false, ttl: 600, meta: {}, accessor: marked('accessor') }
    broker.vault.state.tokens.set(canaryToken, { ...full, path: 'auth/token/create' })
    broker.vault.state.tokens.set(`${canaryToken}-agent`, { ...full, path: 'auth/tpm-quote/login', meta })
    for (const token of [canaryToken, `${canaryToken}-agent`, `${canaryToken}-unknown`, agent]) {
      broker.vault.fault = fault
      const asked = what === 'hangs' ? brief : broker
      await Promise.all(requests(token).map(([operation, path, data]) => ask(operation, path, data, token, asked)))
      // what was read lately is forgotten, what was too much is too much no longer
      broker.world.pass(10_000)
    }
    broker.vault.fault = () => undefined
    await ask('update', 'auth/tpm-quote/login', { ...(await evidence(broker, machine)), signature: 'AAAA' }, canaryToken)
    await ask(
      'update',
      'broker/creds/deploy',
      { plugin: 'payroll', ...(await credsEvidence(broker, machine, { plugin: 'payroll', scope: ['apps:read'] })) },
      canaryToken,
    )
    await scan()
  })
})

async function scan(): Promise<void> {
  const places = {
    'replies and errors': told.join('\n'),
    'the log': broker.world.lines.join('\n'),
    'the audit log': await readFile(broker.auditFile, 'utf8'),
    metrics: await broker.broker.metrics.text(),
    'the audit log of the other': await readFile(brief.auditFile, 'utf8'),
    'metrics of the other': await brief.broker.metrics.text(),
  }
  const looked = [CANARY, Buffer.from(CANARY).toString('hex'), ...(await secrets())]
  for (const [place, text] of Object.entries(places)) {
    for (const secret of looked) expect(text.includes(secret), `${secret} in ${place}: ${around(text, secret)}`).toBe(false)
  }
  expect([told.length > 100, places['the audit log'].length > 10_000]).toEqual([true, true])
  told.length = 0
}

test('and something was logged all the while', () => expect(broker.world.lines.length).toBeGreaterThan(20))

const around = (text: string, secret: string) => text.slice(Math.max(0, text.indexOf(secret) - 200), text.indexOf(secret) + 100)
