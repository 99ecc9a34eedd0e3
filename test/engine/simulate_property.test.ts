import fc from 'fast-check'
import { decodeJwt } from 'jose'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { AUDIENCE, dataOf } from '../fakes/broker.ts'
import { type JsonServer, startJsonServer } from '../fakes/json_server.ts'
import { fakeOrchestrator, type Orchestrator } from '../fakes/orchestrator.ts'
import { type IntegrationWorld, machine, openIntegrationWorld } from './integration_world.ts'

// What is simulated is what happens: the same verdict, by the same policies, and what would be sent is what is sent.
let world: IntegrationWorld
let orchestrator: Orchestrator
let provider: JsonServer
const ENTITY = 'worker'
beforeAll(async () => {
  world = await openIntegrationWorld()
  provider = await startJsonServer(({ body }) => {
    const scope = new URLSearchParams(body).get('scope') ?? ''
    return { status: 200, body: { access_token: 'upstream', token_type: 'Bearer', expires_in: 300, scope } }
  })
  orchestrator = await fakeOrchestrator({ now: world.broker.world.now })
  await write('orchestrator/planner', { ...orchestrator.record, orgs: 'acme,umbrella' })
  await write('config', { actions: 'deploy,delete' })
  world.broker.world.pass(99_000)
})
afterAll(async () => {
  await world[Symbol.asyncDispose]()
  await provider[Symbol.asyncDispose]()
})

const write = (path: string, data: object) => world.broker.ask('update', `broker/${path}`, data)
const OTHER = 'https://other.example.com'
const one = <T>(...of: readonly T[]) => fc.constantFrom(...of)
/** The first nearly always: of many things that may be wrong with a request few are. */
const mostly = <T>(first: T, ...of: readonly T[]) =>
  fc.oneof({ weight: 9, arbitrary: fc.constant(first) }, { weight: 1, arbitrary: one(...of) })

const condition = one(
  `principal.tpm_id == "${machine.tpmId}"`,
  'principal.role == "builder"',
  'principal.mount == "auth/tpm-quote/"',
  `principal.entity_id == "${ENTITY}"`,
  'principal.labels.contains("canary")',
  'principal has labels && principal.labels.isEmpty()',
  'principal == Agent::"somebody"',
  'principal.reference == "good" && principal.reference_version == 1',
  'principal.secure_boot || principal.ima',
  'principal.boot_log',
  'principal.firmware_version == ""',
  'context.role == "deploy"',
  'context.issuer == "jwt"',
  'context.scope.contains("apps:write")',
  'context.scope.containsAll(["apps:read", "apps:write"])',
  '["apps:read"].containsAll(context.scope)',
  `context.audience == "${AUDIENCE}"`,
  'context.integration == "ci"',
  'context.org == "acme"',
  'context.task like "release-*"',
  'context.session == ""',
  'context.user == "ada@acme.example"',
  'context.ttl_seconds <= 300',
  'context.ttl_seconds > 9223372036854775806 - context.ttl_seconds * 0',
  'context.ttl_seconds + 9223372036854775807 > 0',
  'context.key_bound',
  'context.attestation.fresh',
  'context.attestation.age_seconds <= 100',
)
const statement = fc
  .record({
    effect: one('permit', 'permit', 'permit', 'forbid'),
    action: one('', ' == Action::"deploy"', ' in [Action::"deploy", Action::"delete"]'),
    resource: one('', ' == Plugin::"kubernetes"'),
    when: fc.array(fc.tuple(one('when', 'unless'), condition), { maxLength: 2 }),
  })
  .map(({ effect, action, resource, when }) =>
    [`${effect} (principal, action${action}, resource${resource})`, ...when.map(([how, what]) => `${how} { ${what} }`), ';'].join(
      ' ',
    ),
  )
const role = fc.record({
  issuer: one('jwt', 'oauth2'),
  plugins: mostly('kubernetes', 'kubernetes,payroll'),
  actions: mostly('deploy', 'deploy,delete'),
  scopes: mostly(['apps:read', 'apps:write'], ['apps:read'], []),
  audiences: one(AUDIENCE, `${OTHER},${AUDIENCE}`),
  ttl: one(0, 60, 300),
  max_ttl: one(300, 3600),
  task: mostly('optional', 'required'),
  bind_key: one('optional', 'required'),
  max_attestation_age: mostly(0, 60, 200),
  login_roles: mostly('', 'builder', 'tester'),
})
const target = one('none', 'resource', 'audience')
const integration = fc
  .record({
    org: mostly('', 'acme'),
    tasks: mostly('', 'release-1', 'release-1,release-2'),
    ceiling: mostly(['apps:*'], ['apps:read'], []),
  })
  .map(given => (given.org === '' ? { ...given, tasks: '' } : given))
const binding = fc.option(
  fc.record({ org: mostly('acme', 'umbrella'), task: mostly('', 'release-1'), integrations: mostly('', 'ci', 'mail') }),
  {
    nil: undefined,
    freq: 1,
  },
)
const task = fc.option(
  fc.record({
    integrations: mostly(undefined, ['ci', 'mail'], ['mail']),
    org: mostly('acme', 'umbrella'),
    task: one('', 'release-1', 'release-3'),
    session: one('', '7'),
    user: one('', 'ada@acme.example'),
  }),
  { nil: undefined },
)
const request = fc.record(
  {
    plugin: mostly('kubernetes', 'payroll', 'mail'),
    action: mostly('deploy', 'delete', 'destroy'),
    scope: mostly(['apps:read'], ['apps:write'], ['apps:write', 'apps:read'], ['apps:all'], []),
    audience: mostly(AUDIENCE, OTHER, 'https://nobody.example.com'),
    ttl: one(30, 299, 301, 7200),
  },
  { requiredKeys: ['scope'] },
)

/** What its login established of the machine, as an operator describes it. */
function shown(): object {
  const { broker, token } = world
  const meta = broker.vault.state.tokens.get(token)?.meta ?? {}
  const { tpm_id, reference, reference_version, secure_boot, boot_log, ima, firmware_version } = meta
  const attestation_age = Math.floor(broker.world.now() / 1000) - Number(meta['attested_at'])
  return {
    tpm_id,
    reference,
    reference_version,
    secure_boot: secure_boot === 'true',
    boot_log,
    ima,
    firmware_version,
    attestation_age,
  }
}

/** What came of it: what was decided, and by which policies. */
async function really(asked: object, task_token: string | undefined) {
  const before = provider.arrived.length
  const { broker } = world
  try {
    const data = dataOf(
      await broker.ask('update', 'broker/creds/deploy', { ...asked, role: undefined, task_token }, { token: world.token }),
    )
    const intent = (await broker.records()).filter(({ type }) => type === 'intent').at(-1)
    const [sent] = provider.arrived.slice(before)
    return { allowed: true, data, sent: sent && Object.fromEntries(new URLSearchParams(sent.body)), intent }
  } catch (error) {
    return { allowed: false, code: /^[A-Z_]+/.exec((error as Error).message)?.[0] ?? String(error) }
  }
}

test('whatever policies, roles, integrations, tasks and requests there are', async () => {
  const all = fc.record({
    statements: fc.array(statement, { minLength: 1, maxLength: 3 }),
    role,
    target,
    integration,
    binding,
    task,
    request,
  })
  await fc.assert(
    fc.asyncProperty(all, async given => {
      const { ceiling, ...owned } = given.integration
      await write('policy/base', { policy: given.statements.join('\n') })
      const settings = { ...(world.record().settings as object), token_url: `${provider.url}/token`, ceiling }
      await world.write({ ...owned, settings })
      const from = given.role.issuer === 'jwt' ? {} : { integration: 'ci', target: given.target }
      await world.broker.ask('delete', 'broker/role/deploy')
      await write('role/deploy', { ...given.role, provider_ttl: '1h', ...from })
      await world.broker.ask('delete', `broker/binding/${ENTITY}`)
      if (given.binding) await write(`binding/${ENTITY}`, given.binding)
      const { user, ...tctx } = given.task ?? { user: '' }
      const token = given.task && (await orchestrator.sign(machine.tpmId, { sub: user, tctx }))
      const described = { login_role: 'builder', entity_id: ENTITY, key_bound: 'true', ...shown(), ...given.task }
      const said = dataOf(await write('simulate', { role: 'deploy', ...given.request, ...described })) as Record<string, unknown>
      const done = await really(given.request, token)
      expect({ allowed: said['allowed'], code: said['code'] }).toEqual({ allowed: done.allowed, code: done.code })
      if (!done.allowed) return
      expect(said['policies']).toEqual(done.intent?.['policies'])
      for (const name of ['plugin', 'action', 'audience'] as const) expect(said[name]).toBe(done.data?.[name])
      expect((said['scope'] as string[]).join(' ')).toBe(done.data?.['scope'])
      expect(said['ttl']).toBe(done.intent?.['ttl_seconds'])
      if (given.role.issuer === 'jwt') {
        const { aud, scope, exp = 0, iat = 0 } = decodeJwt(String(done.data?.['token']))
        expect([aud, scope ?? '', exp - iat]).toEqual([said['audience'], done.data?.['scope'], said['ttl']])
      } else {
        const { POST, ...parameters } = said['request'] as Record<string, string>
        expect(POST).toBe(`${provider.url}/token`)
        expect(done.sent).toEqual(parameters)
      }
    }),
    { numRuns: 100 },
  )
})
